"""`LivePage`: the server of one comparison, in a thread of this process; not what it answers.

The thread has a lower priority than the rest of the process, takes no signals, logs nothing, and is a daemon: however
the command ends, it does not hold it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nin_multi.errors import UsageError
from nin_multi.live.address import open_place
from nin_multi.live.feed import Feed
from nin_multi.live.guard import Guard
from nin_multi.live.streams import Streams

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = "127.0.0.1"
NICE = 10  # of the server's thread
START_SECONDS = 30.0  # in which it answers, on a machine that is busy with other things
END_SECONDS = 1  # for answers that are on their way when it ends
POLL = 0.05
LARGEST_HEAD = 1 << 14  # bytes of a request's head


class LivePage:
    """A page that shows a comparison while it goes on, at `address`.

    `render(comparison, events=...)` returns its HTML; `events` is the address of the stream, None on the last page. It
    is called in the server's thread, and must not change the comparison.
    """

    def __init__(
        self, render: Callable[..., str], snapshot: dict[str, Any], *, host: str = LOOPBACK, port: int | None = None
    ) -> None:
        _require()
        self._feed = Feed(snapshot)
        self._render = render
        self._place = open_place(host, port)
        self._token = None if self._place.loopback else secrets.token_urlsafe()
        self._thread: threading.Thread | None = None
        self._running: _Running | None = None
        self._answers = threading.Event()
        self._failure: BaseException | None = None

    @property
    def address(self) -> str:
        """Where the page is; where other machines can reach it, with the token that it asks for."""
        return self._place.base if self._token is None else f"{self._place.base}?token={self._token}"

    def start(self) -> None:
        """Serve, until `close` or the end of the process; returns when there is an answer. Raises UsageError."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._work, name="nin-multi-live", daemon=True)
        self._thread.start()
        if not self._answers.wait(START_SECONDS) or self._failure is not None:
            why = self._failure or f"no answer within {START_SECONDS:.0f} s"
            raise UsageError(f"--live: the server of the page does not start ({why})")

    def change(self, run_id: str, fields: Mapping[str, Any]) -> None:
        """These fields of a run are new now. Raises KeyError for an unknown run, TypeError for what is not JSON."""
        self._feed.change(run_id, fields)

    def point(self, run_id: str, event: Mapping[str, Any]) -> None:
        """Tell of another event that a run has written. Raises as `change` does."""
        self._feed.point(run_id, event)

    def finish(self, comparison: Mapping[str, Any]) -> None:
        """Tell that the comparison is complete: open pages load themselves again, and find this one."""
        self._feed.finish(comparison)

    def close(self, grace: float) -> None:
        """End the server; after `finish`, let every browser that was connected fetch the last page first.

        They have `grace` seconds for that. Without `finish` there is no such page, and nobody is waited for.
        """
        running = self._running
        if self._thread is None or running is None:
            self._place.socket.close()
            return
        ends = time.monotonic() + grace
        while self._thread.is_alive() and self._somebody_waits(running.streams) and time.monotonic() < ends:
            time.sleep(POLL)
        with contextlib.suppress(RuntimeError):  # its loop has ended already
            running.loop.call_soon_threadsafe(running.leave)
        self._thread.join(START_SECONDS)

    def _somebody_waits(self, streams: Streams) -> bool:
        return self._feed.is_finished and not streams.all_have_seen_the_end()

    # In the server's thread.

    def _work(self) -> None:
        try:
            _step_back()
            asyncio.run(self._serve())
        except BaseException as error:  # SystemExit is uvicorn's way to say that it cannot start
            self._failure = error
        finally:
            self._place.socket.close()
            self._answers.set()

    async def _serve(self) -> None:
        loop, streams = asyncio.get_running_loop(), Streams(self._feed)
        loop.set_exception_handler(lambda loop, context: None)  # a browser that breaks off is no news
        server = self._make_server(streams)
        self._running = running = _Running(loop, streams, server)
        self._feed.ring(running.ring)
        writing = asyncio.ensure_future(streams.run())
        serving = asyncio.ensure_future(server.serve([self._place.socket]))
        while not (server.started or serving.done()):
            await asyncio.sleep(0)
        self._answers.set()
        await serving
        writing.cancel()
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # a browser that does not take what it is sent
        await asyncio.sleep(0)

    def _make_server(self, streams: Streams) -> uvicorn.Server:
        import uvicorn

        from nin_multi.live.app import App
        from nin_multi.live.connection import Connection

        config = uvicorn.Config(
            App(self._feed, streams, Guard(self._place.port, self._place.names, self._token), self._render),
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,  # it would show the token
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=LARGEST_HEAD,
            timeout_graceful_shutdown=END_SECONDS,
        )
        return uvicorn.Server(config)


@dataclass(frozen=True)
class _Running:
    """What there is while the server's thread runs."""

    loop: asyncio.AbstractEventLoop
    streams: Streams
    server: uvicorn.Server

    def ring(self) -> None:
        """There is news; in the thread of whoever has it."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self.loop.call_soon_threadsafe(self.streams.ring)

    def leave(self) -> None:
        """In the server's thread: end as soon as what is on its way has arrived."""
        self.streams.end()
        self.server.should_exit = True


def _require() -> None:
    """Raises UsageError where the web framework is missing: it comes with an extra of its own."""
    try:
        for name in ("starlette.responses", "uvicorn"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--live: the package {error.name!r} is not installed.\nInstall it: pip install 'nin-multi[live]'"
        ) from None


def _step_back() -> None:
    """Let training go first: Linux has a priority for each thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))
