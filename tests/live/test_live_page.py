"""The page: what is answered to whom, the last page, and the end of the server."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from live_client import PATIENCE, Browser, MakePage, Mirror, listening, render

from nin_multi.errors import UsageError
from nin_multi.live import LivePage, feed


def get(page: LivePage) -> dict[str, Any]:
    answer = httpx.get(page.address, timeout=PATIENCE)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


class TestAnswers:
    def test_the_page_as_things_stand(self, page: LivePage, comparison: dict[str, Any]) -> None:
        assert get(page) == {"events": "events", "comparison": comparison}
        page.point("torch-s0", {"step": 1})
        page.change("torch-s0", {"status": "training"})
        run = get(page)["comparison"]["runs"][0]
        assert (run["events"], run["status"]) == ([{"step": 1}], "training")

    def test_its_headers(self, one_page: LivePage) -> None:
        headers = httpx.get(one_page.address, timeout=PATIENCE).headers
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"] == "frame-ancestors 'none'"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers

    def test_it_is_rendered_once_for_each_state_in_the_servers_thread(self, make_page: MakePage) -> None:
        threads = []

        def show(comparison: dict[str, Any], *, events: str | None) -> str:
            threads.append(threading.current_thread())
            return render(comparison, events=events)

        page = make_page(show=show)
        for _ in range(3):
            get(page)
        assert len(threads) == 1
        assert threads[0] is not threading.current_thread()
        page.point("torch-s0", {"step": 1})
        get(page)
        assert len(threads) == 2

    def test_a_page_that_cannot_be_made(self, make_page: MakePage) -> None:
        def show(comparison: dict[str, Any], *, events: str | None) -> str:
            raise ValueError("no\nwhere")

        page = make_page(show=show)
        answer = httpx.get(page.address, timeout=PATIENCE)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text == "the page cannot be made (ValueError: no where)\n"
        with listening(page.address) as browser:
            page.point("torch-s0", {"step": 1})
            Mirror().follow(browser.messages(), lambda it: bool(it.events()))

    def test_a_large_page_and_odd_characters(self, make_page: MakePage) -> None:
        text = "ä€\U0001f9e6" * 500_000 + "\ud800"
        page = make_page(show=lambda comparison, *, events: text)
        assert httpx.get(page.address, timeout=PATIENCE).text == text[:-1] + "?"

    def test_the_icon(self, one_page: LivePage) -> None:
        answer = httpx.get(one_page.address + "favicon.ico", timeout=PATIENCE)
        assert (answer.status_code, answer.content) == (204, b"")

    @pytest.mark.parametrize(
        "target",
        [
            *("/../..", "/%2e%2e/", "/..%2f..%2fetc%2fpasswd", "/events/../x", "/events/", "/events/..", "/events%00"),
            *(
                "//",
                "//events",
                "/index.html",
                "/etc/passwd",
                "/run.json",
                "/static/../run.json",
                "/\\..\\..",
                "/%252e",
            ),
            *("/.", "/;", "/%", "/%ff", "/EVENTS", "http://evil.example/", "http://evil.example/events", "*"),
            *("/" + "a" * 10_000, "file:///etc/passwd"),
        ],
    )
    def test_nothing_else_is_there(self, one_page: LivePage, target: str) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask(target) == 404
            assert browser.body() == b"there is only the page itself\n"

    @pytest.mark.parametrize("target", ["/", "/events", "/favicon.ico"])
    @pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", "X"])
    def test_nothing_can_be_done_but_get(self, one_page: LivePage, method: str, target: str) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask(target, method=method) == 405
            assert browser.headers["allow"] == "GET"

    def test_a_body_that_nobody_wants(self, one_page: LivePage) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask("/", {"Content-Length": "1000000000"}, "POST") == 405
        with Browser(one_page.address) as browser:
            assert browser.ask("/", {"Content-Length": "5"}) == 200

    @pytest.mark.parametrize(
        "request_text",
        [
            *(b"\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\n\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"),
            *(b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
        ],
    )
    def test_what_is_no_request(
        self,
        one_page: LivePage,
        request_text: bytes,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with Browser(one_page.address) as browser:
            assert browser.send(request_text) == 400
        get(one_page)
        assert capfd.readouterr() == ("", "")
        assert caplog.text == ""

    def test_an_upgrade_to_something_else(self, one_page: LivePage) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask("/events", {"Connection": "Upgrade", "Upgrade": "websocket"}) == 200
            assert next(browser.messages()).event == "snapshot"


class TestGuard:
    @pytest.mark.parametrize("target", ["/", "/events", "/favicon.ico", "/else"])
    @pytest.mark.parametrize(
        ("host", "status"),
        [("evil.example:{port}", 403), ("localhost:1", 403), ("localhost", 403), ("localhost.:{port}", 403), ("", 400)],
    )
    def test_hosts(self, one_page: LivePage, host: str, status: int, target: str) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask(target, {"Host": host.format(port=browser.parts.port)}) == status
            assert b"torch" not in browser.body()

    @pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
    def test_own_hosts(self, one_page: LivePage, host: str) -> None:
        with Browser(one_page.address) as browser:
            named = host.format(port=browser.parts.port)
            assert browser.ask("/", {"Host": named}) == 200
            assert b"torch" in browser.body()
            assert browser.ask("/events", {"Host": named, "Origin": f"http://{named.lower()}"}) == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:{port}"])
    @pytest.mark.parametrize("target", ["/", "/events", "/favicon.ico"])
    def test_origins(self, one_page: LivePage, target: str, origin: str) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask(target, {"Origin": origin.format(port=browser.parts.port)}) == 403

    def test_two_origins(self, one_page: LivePage) -> None:
        with Browser(one_page.address) as browser:
            own = f"http://{browser.parts.netloc}"
            assert browser.ask("/events", {"Origin": own, "ORIGIN": "http://evil.example"}) == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_sites(self, one_page: LivePage, site: str) -> None:
        with Browser(one_page.address) as browser:
            assert browser.ask("/events", {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}) == 403
            browser.body()
            assert browser.ask("/", {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}) == 403
            browser.body()
            assert browser.ask("/", {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}) == 200


class TestToken:
    @pytest.fixture
    def open_page(self, make_page: MakePage) -> LivePage:
        return make_page(host="0.0.0.0")

    def test_the_whole_address_is_needed(self, open_page: LivePage) -> None:
        parts = urlsplit(open_page.address)
        (token,) = parse_qs(parts.query)["token"]
        assert len(token) >= 32
        local = f"http://127.0.0.1:{parts.port}"
        with Browser(local) as browser:
            for target in ("/", "/events"):
                for query in (
                    "",
                    "?token=",
                    f"?token={token[:-1]}",
                    f"?token={token}x",
                    f"?Token={token}",
                    f"?{token}",
                ):
                    assert browser.ask(target + query) == 403
                    assert token.encode() not in browser.body()
            assert browser.ask(f"/?token={token}") == 200
            assert json.loads(browser.body())["events"] == f"events?token={token}"
            assert browser.ask(f"/events?token={token}") == 200
            assert next(browser.messages()).event == "snapshot"

    def test_every_page_has_its_own(self, make_page: MakePage) -> None:
        tokens = {urlsplit(make_page(host="0.0.0.0", start=False).address).query for _ in range(3)}
        assert len(tokens) == 3

    def test_hosts(self, open_page: LivePage) -> None:
        parts = urlsplit(open_page.address)
        for host, status in (
            (parts.netloc, 200),
            (f"{socket.gethostname()}:{parts.port}", 200),
            (f"127.0.0.1:{parts.port}", 200),
            (f"evil.example:{parts.port}", 403),
            (f"192.0.2.1:{parts.port}", 403),
            (f"0.0.0.0:{parts.port}", 403),
        ):
            with Browser(f"http://127.0.0.1:{parts.port}") as browser:
                expected = 403 if host.startswith(str(parts.hostname)) and parts.hostname != "127.0.0.1" else status
                # The machine's outside number is right only for who comes in there.
                assert browser.ask(f"/?{parts.query}", {"Host": host}) == expected, host

    def test_nobody_is_told_the_token(
        self, open_page: LivePage, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.NOTSET)
        parts = urlsplit(open_page.address)
        with Browser(f"http://127.0.0.1:{parts.port}") as browser:
            assert browser.ask(f"/?{parts.query}") == 200
        with Browser(f"http://127.0.0.1:{parts.port}") as browser:
            browser.send(f"GET /?{parts.query} HTTP/1.1\r\n\r\n".encode())
        assert parts.query not in "".join(capfd.readouterr()) + caplog.text

    def test_none_where_only_this_machine_can_ask(self, one_page: LivePage) -> None:
        assert one_page.address.endswith("/")
        assert httpx.get(one_page.address + "?token=anything", timeout=PATIENCE).status_code == 200

    def test_ipv6(self, make_page: MakePage) -> None:
        try:
            page = make_page(host="::1")
        except UsageError as error:
            pytest.skip(str(error))
        assert page.address.startswith("http://[::1]:")
        assert get(page)["events"] == "events"
        with listening(page.address) as browser:
            assert next(browser.messages()).event == "snapshot"


class TestEnd:
    def test_the_last_page(self, page: LivePage, comparison: dict[str, Any]) -> None:
        last = {**comparison, "title": "complete"}
        with listening(page.address) as browser:
            messages = browser.messages()
            next(messages)
            page.point("torch-s0", {"step": 1})
            page.finish(last)
            assert [message.event for message in messages] == ["point", "over"]  # and there it ends
            assert browser.ask("/") == 200  # on the same connection
            expected = {"events": None, "comparison": {**last, "over": True}}
            assert json.loads(browser.body()) == expected
        assert get(page) == expected
        page.point("torch-s0", {"step": 2})
        page.change("torch-s0", {"status": "training"})
        assert get(page) == expected

    def test_who_comes_too_late_is_told_as_well(self, page: LivePage, comparison: dict[str, Any]) -> None:
        page.finish(comparison)
        get(page)
        with listening(page.address) as browser:
            assert [message.event for message in browser.messages()] == ["snapshot", "over"]

    def test_browsers_that_come_back_are_waited_for(self, page: LivePage, comparison: dict[str, Any]) -> None:
        browsers = [Browser(page.address) for _ in range(3)]
        streams = [browser.messages() for browser in browsers if browser.ask("/events") == 200]
        assert [next(messages).event for messages in streams] == ["snapshot"] * 3
        page.finish(comparison)
        closing = threading.Thread(target=page.close, args=(10 * PATIENCE,), daemon=True)
        closing.start()
        for browser, messages in zip(browsers, streams, strict=True):
            with browser:
                assert [message.event for message in messages] == ["over"]
                assert closing.is_alive()
                assert get(page)["events"] is None
        closing.join(PATIENCE)
        assert not closing.is_alive()
        self._require_closed(page)

    def test_browsers_that_never_come_back(self, page: LivePage, comparison: dict[str, Any]) -> None:
        with listening(page.address) as browser:
            next(browser.messages())
            page.finish(comparison)
            page.close(0.2)
            self._require_closed(page)

    def test_a_browser_that_does_not_even_read(self, make_page: MakePage, comparison: dict[str, Any]) -> None:
        comparison["runs"][0]["samples"] = ["x" * 1000] * 10_000
        page = make_page()
        with listening(page.address, receive_buffer=4096) as stuck:
            assert page._running is not None
            (connection,) = page._running.server.server_state.connections
            ends = time.monotonic() + PATIENCE
            while not connection.transport.get_write_buffer_size():
                assert time.monotonic() < ends
            page.finish(comparison)
            page.close(0.2)
            self._require_closed(page)
            with contextlib.suppress(ConnectionError):
                while stuck.socket.recv(1 << 20):
                    pass  # what had left already; then the line is closed, and not only forgotten

    def test_without_an_end_nobody_is_waited_for(self, page: LivePage) -> None:
        with listening(page.address) as browser:
            messages = browser.messages()
            next(messages)
            page.close(10 * PATIENCE)
            assert list(messages) == []  # it ends, and nobody is told that it is complete
        self._require_closed(page)

    def test_nobody_has_ever_looked(self, page: LivePage, comparison: dict[str, Any]) -> None:
        page.finish(comparison)
        page.close(10 * PATIENCE)
        self._require_closed(page)

    def test_closed_twice_and_what_is_told_after_that(self, page: LivePage, comparison: dict[str, Any]) -> None:
        page.close(0)
        page.point("torch-s0", {"step": 1})
        page.change("torch-s0", {"step": 1})
        page.finish(comparison)
        page.close(10 * PATIENCE)
        self._require_closed(page)

    def test_closed_before_it_began(self, make_page: MakePage) -> None:
        page = make_page(start=False)
        page.close(10 * PATIENCE)
        page.close(0)
        self._require_closed(page)

    def test_its_port_is_free_at_once(self, make_page: MakePage) -> None:
        page = make_page()
        get(page)
        page.close(0)
        again = make_page(port=urlsplit(page.address).port)
        assert again.address == page.address
        get(again)

    @staticmethod
    def _require_closed(page: LivePage) -> None:
        parts = urlsplit(page.address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
        assert page._thread is None or not page._thread.is_alive()


def test_a_slow_browser_does_not_hold_up_who_tells(page: LivePage) -> None:
    with listening(page.address, receive_buffer=4096):
        for _ in range(300):
            page.point("torch-s0", {"filling": "x" * 100_000})
        ends = time.monotonic() + PATIENCE
        while page._feed._news and time.monotonic() < ends:
            time.sleep(0.01)
        assert sum(map(len, page._feed._messages)) <= feed.KEPT
        assert len(get(page)["comparison"]["runs"][0]["events"]) == 300
