"""The open streams: when they are written to, how many there may be, and who has heard the end; not what is said.

All of it runs in the event loop of the server's thread. A stream has no queue of its own: it knows the number of the
last message it was sent, and finds the rest with the feed. One that does not read stands in its own `send`, holding at
most what lies in its socket, and misses messages; then it gets a new snapshot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nin_multi.live.feed import Feed
from nin_multi.live.guard import HEADERS
from nin_multi.live.messages import RETRY

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MOST = 500  # streams at a time
PAUSE = 1.0  # seconds between two writes to a stream
KEEP_ALIVE_SECONDS = 15.0
NEWCOMER = 2.0  # seconds in which a browser that has the page, or has lost its stream, opens one
PIECE = 1 << 16  # bytes given to a socket at a time

STREAM_HEADERS = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}


class Streams:
    """All streams of one feed, and how many of their browsers have seen the end."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.ended = False  # nothing more is said, whether or not it is over
        self._open: set[_Stream] = set()
        self._news = asyncio.Event()
        self._told = 0  # streams that were sent the end
        self._fetched = 0  # pages sent after that
        self._expecting = 0.0  # until when somebody may yet open a stream

    def __len__(self) -> int:
        return len(self._open)

    def ring(self) -> None:
        """There is news; to be called in the event loop."""
        self._news.set()

    async def run(self) -> None:
        """Until the end, write what is new, once a second at most; where nothing is, a word every 15 s."""
        while not (self.ended or self.feed.over):
            try:
                await asyncio.wait_for(self._news.wait(), KEEP_ALIVE_SECONDS)
            except asyncio.TimeoutError:
                self.feed.comment()
            self._news.clear()
            self.feed.take_in()
            self._release()
            await asyncio.sleep(PAUSE)
        self._release()

    def end(self) -> None:
        """Have all streams end that can."""
        self.ended = True
        self._news.set()
        self._release()

    def page_was_sent(self, *, final: bool) -> None:
        """Somebody has the page now: the last one, or one that is about to open a stream."""
        if final:
            self._fetched += 1
        else:
            self._expect()

    def all_have_seen_the_end(self) -> bool:
        """Whether every browser that was connected has fetched the page once more, now that it is complete."""
        told = self.feed.over and not self._open and self._fetched >= self._told
        return told and time.monotonic() >= self._expecting

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One stream, as an ASGI application."""
        stream = _Stream(self.feed, send)
        self._open.add(stream)
        watching = asyncio.ensure_future(stream.watch(receive))
        try:
            await stream.tell(self)
        finally:
            watching.cancel()
            self._open.discard(stream)
            if self.feed.over and not stream.gone:
                self._told += 1
            else:
                self._expect()

    def _expect(self) -> None:
        self._expecting = time.monotonic() + NEWCOMER

    def _release(self) -> None:
        self.feed.release()
        for stream in self._open:
            stream.turn.set()


class _Stream:
    """One browser that listens."""

    def __init__(self, feed: Feed, send: Send) -> None:
        self.gone = False
        self.turn = asyncio.Event()
        self._feed = feed
        self._send = send

    async def watch(self, receive: Receive) -> None:
        """Until the browser leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.turn.set()

    async def tell(self, streams: Streams) -> None:
        """From the snapshot to the end; `gone` says whether anybody has heard it."""
        headers = [(name.lower().encode(), value.encode()) for name, value in STREAM_HEADERS.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._write(RETRY)
        position = -1  # before every message: a stream begins with a snapshot
        while not (self.gone or streams.ended or self._feed.is_told(position)):
            self.turn.clear()
            news = self._feed.since(position)
            if news is None:
                news, position = self._feed.snapshot()
            else:
                position = max(position, self._feed.released)
            await self._write(news) if news else await self.turn.wait()
        if not self.gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, text: bytes) -> None:
        """In pieces: each waits until the one before has left, so that a slow browser holds no whole snapshot."""
        for piece in pieces(text):
            if self.gone:
                return
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})


def pieces(text: bytes) -> Iterator[bytes]:
    """The text in parts that fit into a socket's buffer."""
    for begin in range(0, len(text), PIECE):
        yield text[begin : begin + PIECE]
