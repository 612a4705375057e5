"""Who may ask the server of the live page; not what is answered.

A page on the web may not read this one: through a name that it lets point to this machine (DNS rebinding; it would be
in Host), by a script (Origin, Sec-Fetch-Site), or in a frame. Where other machines can reach the server, only who was
given the whole address, with its token, gets an answer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII)
DEFAULT_PORT = 80  # of http: a browser then leaves it out

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Asked:
    """What a request says of where it comes from. Headers as sent; `local` is the address that it came in at."""

    hosts: Sequence[str]
    origins: Sequence[str]
    site: str  # Sec-Fetch-Site
    mode: str  # Sec-Fetch-Mode
    token: str
    local: str


@dataclass(frozen=True)
class Refusal:
    """The status of the answer, and its one line."""

    status: int
    words: str


@dataclass(frozen=True)
class Guard:
    """Under which names, at which port and with which token the page may be asked for."""

    port: int
    names: frozenset[str]
    token: str | None = None

    def check_host(self, asked: Asked) -> Refusal | None:
        """Refuse what is addressed to somebody else."""
        found = HOST.fullmatch(asked.hosts[0]) if len(asked.hosts) == 1 else None
        if found is None:
            return Refusal(400, "expected one header Host, the name of this machine and the port")
        name, port = (found[1] or found[2]).lower(), int(found[3] or DEFAULT_PORT)
        if port != self.port or not (name in self.names or self._is_local(name, asked.local)):
            return Refusal(403, "this page has another address, the one that was printed when it was started")
        return None

    def check_origin(self, asked: Asked, *, stream: bool) -> Refusal | None:
        """Refuse what a page of somebody else asks for; a link to this one may stand anywhere."""
        own = f"http://{asked.hosts[0]}".lower()
        foreign = any(origin.lower() != own for origin in asked.origins)
        followed = asked.mode == "navigate" and not stream
        if foreign or not (followed or asked.site in ("", "none", "same-origin")):
            return Refusal(403, "only the page itself may ask for this")
        return None

    def check_token(self, asked: Asked) -> Refusal | None:
        """Refuse who does not have the whole address; the time that takes tells nothing of the token."""
        if self.token is None or secrets.compare_digest(asked.token.encode(errors="replace"), self.token.encode()):
            return None
        return Refusal(403, "this page needs its whole address, with ?token=..., as it was printed when it was started")

    @staticmethod
    def _is_local(name: str, local: str) -> bool:
        """Whether the name is the very number that the request came in at: no foreign name leads to that."""
        with contextlib.suppress(ValueError):
            return _number(name) == _number(local)
        return False


def _number(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """As IPv4 where an IPv6 socket shows it as ::ffff:192.0.2.1."""
    number = ipaddress.ip_address(address.partition("%")[0])
    return getattr(number, "ipv4_mapped", None) or number
