"""The socket, its port, its address and its names."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from nin_multi.errors import UsageError
from nin_multi.live import address
from nin_multi.live.address import Place, open_place


@pytest.fixture
def free_ports(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where three ports in a row are free; the page looks there for its own."""
    for first in range(20_000, 30_000, 7):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + 3):
                taken = stack.enter_context(socket.socket())
                taken.bind(("127.0.0.1", port))
            monkeypatch.setattr(address, "PORT", first)
            monkeypatch.setattr(address, "FURTHER", 2)
            return first
    raise AssertionError("no free ports")


@contextlib.contextmanager
def opened(host: str = "127.0.0.1", port: int | None = 0) -> Iterator[Place]:
    place = open_place(host, port)
    with place.socket:
        yield place


def test_the_next_free_port(free_ports: int) -> None:
    with opened(port=None) as first, opened(port=None) as second, opened(port=None) as third:
        assert [first.port, second.port, third.port] == [free_ports, free_ports + 1, free_ports + 2]
        assert first.base == f"http://127.0.0.1:{free_ports}/"
        with pytest.raises(UsageError, match=f"{free_ports} to {free_ports + 2} are all in use"):
            open_place("127.0.0.1", None)


def test_a_named_port_is_that_one_or_an_error(free_ports: int) -> None:
    with opened(port=free_ports + 1) as place:
        assert place.port == free_ports + 1
        with pytest.raises(UsageError, match=f"--port {free_ports + 1}: in use .* leave it out"):
            open_place("127.0.0.1", free_ports + 1)


def test_a_port_is_ours_at_once(free_ports: int) -> None:
    with opened(port=None) as place, socket.create_connection(("127.0.0.1", place.port), timeout=10):
        pass  # before anything answers there, it is taken


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(UsageError, match=f"--port {port}: expected a number from 0 to 65535"):
        open_place("127.0.0.1", port)


@pytest.mark.parametrize("host", ["", "no such name", "a" * 300, "nobody.invalid"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(UsageError, match=r"--host .*: no such name; expected an address of this machine"):
        open_place(host, 0)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(UsageError, match=r"--host 192\.0\.2\.1: cannot be opened here .*; expected an address"):
        open_place("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_only_this_machine(host: str) -> None:
    with opened(host) as place:
        assert place.loopback
        assert place.base == f"http://{host}:{place.port}/"
        assert {"localhost", "127.0.0.1", "::1", host} == place.names | {host}


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_only_this_machine_by_ipv6(host: str) -> None:
    with _or_skip(host) as place:
        assert place.loopback
        assert place.base == f"http://[::1]:{place.port}/"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_addresses(host: str) -> None:
    with _or_skip(host) as place:
        assert not place.loopback
        assert not {"0.0.0.0", "::"} & place.names
        assert socket.gethostname().lower() in place.names
        assert place.base.endswith(f":{place.port}/")
        assert host not in (place.base.removeprefix("http://").rpartition(":")[0].strip("[]"),)
        with socket.create_connection(("127.0.0.1", place.port), timeout=10):
            pass  # "::" has IPv4 as well


@contextlib.contextmanager
def _or_skip(host: str) -> Iterator[Place]:
    try:
        place = open_place(host, 0)
    except UsageError as error:
        pytest.skip(str(error))
    with place.socket:
        yield place
