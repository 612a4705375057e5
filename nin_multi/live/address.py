"""Where the live page is found: its socket, its address and its names; not who may ask there."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from dataclasses import dataclass

from nin_multi.errors import UsageError

PORT = 8765  # not one that web servers and notebooks take by themselves (8000, 8080, 8888)
FURTHER = 20  # ports that are tried after it where nobody asked for one
BACKLOG = 1024  # a class opens the page in the same second
SEND_BUFFER = 1 << 18  # bytes the system keeps for one browser; left to itself, Linux goes up to 4 MiB

THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Place:
    """A socket that listens, and what it is called."""

    socket: socket.socket
    port: int
    loopback: bool  # reached from this machine only
    names: frozenset[str]  # as a browser may call it, in lower case
    base: str  # http://NAME:PORT/


def open_place(host: str, port: int | None) -> Place:
    """Listen at that port, or at the first free one from 8765 on. Raises UsageError."""
    family, number = _resolve(host)
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: expected a number from 0 to 65535 (0: any that is free)")
    listening = _listen(family, host, number, port)
    bound, found = listening.getsockname()[:2]
    ip = ipaddress.ip_address(bound.partition("%")[0])
    return Place(listening, found, ip.is_loopback, _names(host, ip), _base(host, ip, found))


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """The family and the number of a name, IPv4 first. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host.strip("[]") or "-", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"--host {host}: no such name; {_EXPECTED}") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, str(address[0])


_EXPECTED = "expected an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"


def _listen(family: socket.AddressFamily, host: str, number: str, port: int | None) -> socket.socket:
    ports = range(PORT, PORT + FURTHER + 1) if port is None else (port,)
    for tried in ports:
        try:
            return _bound(family, number, tried)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _refused(host, tried, error) from None
    if port is None:
        raise UsageError(f"--live: the ports {ports[0]} to {ports[-1]} are all in use; name another with --port")
    raise UsageError(f"--port {port}: in use by another program; choose another, or leave it out")


def _bound(family: socket.AddressFamily, number: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if number == "::":
            with contextlib.suppress(OSError, AttributeError):  # IPv4 as well, where that can be had
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        made.bind((number, port))
        made.listen(BACKLOG)  # at once: Linux lets two sockets have one port until one of them listens
    except BaseException:
        made.close()
        raise
    return made


def _refused(host: str, port: int, error: OSError) -> UsageError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"--port {port}: this user may not open it; choose one from 1024 on")
    return UsageError(f"--host {host}: cannot be opened here ({error.strerror}); {_EXPECTED}")


def _names(host: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> frozenset[str]:
    """Everything that a browser may rightly have in its address line, but for numbers of a wildcard's interfaces."""
    names = {host.strip("[]").lower(), str(ip)}
    if ip.is_loopback or ip.is_unspecified:
        names |= THIS_MACHINE
    if not ip.is_loopback:
        own = socket.gethostname().lower()
        short = own.partition(".")[0]
        names |= {own, short, f"{short}.local"}
    return frozenset(names - {"", "0.0.0.0", "::"})


def _base(host: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    name = host.strip("[]")
    if ip.is_unspecified:
        name = _own_number() or socket.gethostname()
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def _own_number() -> str:
    """The address that this machine would write to the outside from; nothing is sent for that."""
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # for documentation only
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((outside, 9))
            return str(asking.getsockname()[0])
    return ""
