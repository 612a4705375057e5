"""Who may ask: by the headers alone; what the server makes of them is in test_live_page.py."""

from __future__ import annotations

import dataclasses
import secrets

import pytest

from nin_multi.live.guard import Asked, Guard

LOOPBACK = Guard(8765, frozenset({"localhost", "127.0.0.1", "::1"}))
OPEN = Guard(8765, frozenset({"teacher", "localhost"}), token="secret")


def asked(host: str = "127.0.0.1:8765", **others: str) -> Asked:
    origins = [others.pop("origin")] if "origin" in others else []
    said = {"site": "", "mode": "", "token": "", "local": "127.0.0.1", **others}
    return Asked(hosts=[host], origins=origins, **said)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost:8765", "LocalHost:8765", "[::1]:8765", "localhost:08765"]
)
def test_own_names(host: str) -> None:
    assert LOOPBACK.check_host(asked(host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8765",
        "localhost.evil.example:8765",
        "127.0.0.1.evil.example:8765",
        "evil-localhost:8765",
        "localhost.:8765",  # a name that ends in a dot is looked up elsewhere
        "localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:8764",
        "127.0.0.1:87650",
        "127.1:8765",
        "2130706433:8765",
        "0.0.0.0:8765",
        "[::]:8765",
        "[::2]:8765",
        "192.0.2.7:8765",
        "teacher:8765",
    ],
)
def test_foreign_names(host: str) -> None:
    refusal = LOOPBACK.check_host(asked(host))
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize(
    "host",
    [
        *("", ":8765", "localhost:", "localhost:x", "localhost:-1", "localhost:123456", "user@localhost:8765"),
        *("localhost:8765/", "localhost:8765, evil", "local host:8765", "[::1:8765", "::1:8765", "[]:8765"),
        *("localhost:8765\n", "ſ:8765", "localhost:८७६५"),
    ],
)
def test_what_is_no_host(host: str) -> None:
    refusal = LOOPBACK.check_host(asked(host))
    assert refusal is not None
    assert refusal.status == 400


@pytest.mark.parametrize("hosts", [[], ["localhost:8765", "localhost:8765"], ["localhost:8765", "evil:8765"]])
def test_one_host_header(hosts: list[str]) -> None:
    refusal = LOOPBACK.check_host(dataclasses.replace(asked(), hosts=hosts))
    assert refusal is not None
    assert refusal.status == 400


def test_the_usual_port_may_be_left_out() -> None:
    guard = Guard(80, LOOPBACK.names)
    assert guard.check_host(asked("localhost")) is None
    assert guard.check_host(asked("localhost:80")) is None
    assert guard.check_host(asked("localhost:8765")) is not None


@pytest.mark.parametrize(
    ("host", "local", "allowed"),
    [
        ("192.0.2.7:8765", "192.0.2.7", True),
        ("192.0.2.7:8765", "::ffff:192.0.2.7", True),
        ("192.0.2.8:8765", "192.0.2.7", False),
        ("[2001:db8::7]:8765", "2001:db8::7", True),
        ("[2001:DB8:0:0::7]:8765", "2001:db8::7", True),
        ("[fe80::7]:8765", "fe80::7%eth0", True),
        ("teacher:8765", "192.0.2.7", True),
        ("pupil:8765", "192.0.2.7", False),
        ("pupil:8765", "", False),
    ],
)
def test_the_number_that_a_request_came_in_at(host: str, local: str, allowed: bool) -> None:
    assert (OPEN.check_host(asked(host, local=local)) is None) == allowed


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:8765", True),
        ("HTTP://127.0.0.1:8765", True),
        ("http://localhost:8765", False),  # asked under another name than the page's own
        ("https://127.0.0.1:8765", False),
        ("http://127.0.0.1:8888", False),
        ("http://127.0.0.1", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins(origin: str, allowed: bool, stream: bool) -> None:
    assert (LOOPBACK.check_origin(asked(origin=origin), stream=stream) is None) == allowed


@pytest.mark.parametrize(
    ("site", "mode", "page", "stream"),
    [
        ("", "", True, True),
        ("none", "navigate", True, True),
        ("same-origin", "cors", True, True),
        ("same-origin", "no-cors", True, True),
        ("cross-site", "navigate", True, False),  # a link
        ("same-site", "navigate", True, False),  # a link on another server of this machine
        ("cross-site", "no-cors", False, False),
        ("cross-site", "cors", False, False),
        ("same-site", "cors", False, False),
        ("CROSS-SITE", "cors", False, False),
        ("anything", "", False, False),
    ],
)
def test_sites(site: str, mode: str, page: bool, stream: bool) -> None:
    said = asked(site=site, mode=mode)
    assert (LOOPBACK.check_origin(said, stream=False) is None) == page
    assert (LOOPBACK.check_origin(said, stream=True) is None) == stream


@pytest.mark.parametrize("token", ["", "Secret", "secret ", "secre", "secrets", "ſecret", "\ud800"])
def test_wrong_tokens(token: str) -> None:
    refusal = OPEN.check_token(asked(token=token))
    assert refusal is not None
    assert refusal.status == 403
    assert "secret" not in refusal.words


def test_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(secrets, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    assert OPEN.check_token(asked(token="secret")) is None
    assert compared == [(b"secret", b"secret")]  # by the function whose time does not hang on what is equal
    assert LOOPBACK.check_token(asked()) is None
