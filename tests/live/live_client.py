"""A browser as far as the tests need one: a raw socket that asks, and what it makes of a stream of events."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nin_multi.live import LivePage

PATIENCE = 60.0  # seconds, of a machine that is busy
MakePage = Callable[..., LivePage]


def render(comparison: dict[str, Any], *, events: str | None = None) -> str:
    """The whole object, so that a test sees what the page was made of."""
    return json.dumps({"events": events, "comparison": comparison})


@dataclass
class Message:
    event: str
    data: Any
    number: int | None
    lines: list[str] = field(repr=False)


class Browser:
    """One connection."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        self.parts = urlsplit(address)
        host, port = str(self.parts.hostname), int(self.parts.port or 80)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, port))
        self.stream = self.socket.makefile("rb")
        self.chunks = 0

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, target: str, headers: Mapping[str, str | None] | None = None, method: str = "GET") -> int:
        """Send a request just as it is; the status of the answer. None: without that header."""
        wanted = {"Host": self.parts.netloc, **(headers or {})}
        lines = [
            f"{method} {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in wanted.items() if value is not None),
        ]
        return self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    def send(self, request: bytes) -> int:
        self.socket.sendall(request)
        status = int(self.stream.readline().split()[1])
        self.headers = dict(self._headers())
        return status

    def body(self) -> bytes:
        if "content-length" in self.headers:
            return self.stream.read(int(self.headers["content-length"]))
        return b"".join(self._chunks())

    def messages(self) -> Iterator[Message]:
        """Of a stream, by the rules of the HTML standard; ends where it ends."""
        lines: list[str] = []
        for line in self._lines():
            if line:
                lines.append(line)
                continue
            fields = dict(part.partition(": ")[::2] for part in lines if not part.startswith(":"))
            if "data" in fields:
                number = int(fields["id"]) if "id" in fields else None
                yield Message(fields["event"], json.loads(fields["data"]), number, lines)
            lines = []

    def comments(self) -> Iterator[str]:
        return (line for line in self._lines() if line.startswith(":"))

    def _headers(self) -> Iterator[tuple[str, str]]:
        while (line := self.stream.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            yield name.lower(), value.strip()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.stream.readline() or b"0", 16):
            self.chunks += 1
            yield self.stream.read(size)
            self.stream.readline()
        self.stream.readline()

    def _lines(self) -> Iterator[str]:
        rest = ""
        for chunk in self._chunks():
            *whole, rest = (rest + chunk.decode()).split("\n")
            yield from whole


@contextmanager
def listening(address: str, headers: Mapping[str, str] | None = None, **options: Any) -> Iterator[Browser]:
    """A browser with an open stream, at its beginning."""
    parts = urlsplit(address)
    with Browser(address, **options) as browser:
        assert browser.ask("/events" + (f"?{parts.query}" if parts.query else ""), headers) == 200
        yield browser


class Mirror:
    """The comparison as a page has it that does what the messages say."""

    def __init__(self) -> None:
        self.comparison: dict[str, Any] = {}
        self.seen: list[str] = []
        self.numbers: list[int] = []

    def take(self, message: Message) -> Mirror:
        self.seen.append(message.event)
        if message.number is not None:
            self.numbers.append(message.number)
        if message.event == "snapshot":
            self.comparison = message.data
        elif message.event == "over":
            self.comparison["over"] = True
        else:
            run = next(run for run in self.comparison["runs"] if run["id"] == message.data["id"])
            if message.event == "run":
                run.update(message.data)
            else:
                assert message.event == "point"
                run["events"].append(message.data["event"])
        return self

    def follow(self, messages: Iterator[Message], until: Callable[[Mirror], bool]) -> Mirror:
        for message in messages:
            if until(self.take(message)):
                return self
        raise AssertionError(f"the stream has ended: {self.seen}")

    def events(self, run: int = 0) -> list[Any]:
        found: list[Any] = self.comparison["runs"][run]["events"]
        return found
