"""A live page's server for tests: it says what it is told to, and hangs up when told to; not the program's own."""

from __future__ import annotations

import copy
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nin_multi.report import render_html

END = None  # in a queue: hang up


class LiveServer:
    """A comparison, and everybody who looks at it.

    `is_stuck` leaves the page as it was although everything is over: a page must not load itself for ever then.
    """

    def __init__(self, comparison: dict[str, Any], *, is_stuck: bool = False) -> None:
        self.comparison = copy.deepcopy(comparison)
        self.pages = 0
        self.streams = 0
        self.is_stuck = is_stuck
        self._listeners: list[queue.Queue[bytes | None]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def point(self, *told: tuple[str, dict[str, Any]]) -> None:
        """Events of runs, in one piece."""
        with self._lock:
            for name, event in told:
                self._run(name)["events"].append(event)
            self._send(b"".join(_frame("point", {"id": name, "event": event}) for name, event in told))

    def change(self, name: str, **fields: Any) -> None:
        with self._lock:
            self._run(name).update(fields)
            self._send(_frame("run", {"id": name, **fields}))

    def finish(self, comparison: dict[str, Any]) -> None:
        """From now on the page is another one."""
        with self._lock:
            self.comparison = self.comparison if self.is_stuck else copy.deepcopy(comparison)
            self._send(_frame("over", {}))

    def hang_up(self) -> None:
        """End all streams; who asks again is served again."""
        with self._lock:
            for listener in self._listeners:
                listener.put(END)
            self._listeners.clear()

    def close(self) -> None:
        """Nobody is served any more."""
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()
        self._thread.join()

    def _run(self, name: str) -> dict[str, Any]:
        return next(run for run in self.comparison["runs"] if run["id"] == name)

    def _send(self, data: bytes) -> None:
        for listener in self._listeners:
            listener.put(data)

    def _listen(self) -> queue.Queue[bytes | None]:
        with self._lock:
            self.streams += 1
            listener: queue.Queue[bytes | None] = queue.Queue()
            listener.put(b"retry: 100\n\n" + _frame("snapshot", self.comparison))
            self._listeners.append(listener)
        return listener

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/":
                    server.pages += 1
                    with server._lock:
                        page = render_html(server.comparison, events="events").encode()
                    self._begin("text/html; charset=utf-8", len(page))
                    self.wfile.write(page)
                elif self.path == "/events":
                    self._begin("text/event-stream", None)
                    self._stream()
                else:
                    self.send_error(404)

            def _begin(self, kind: str, length: int | None) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()

            def _stream(self) -> None:
                listener = server._listen()
                try:
                    while (data := listener.get()) is not END:
                        self.wfile.write(data)
                        self.wfile.flush()
                except OSError:  # the browser has gone
                    pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _frame(event: str, data: Any) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
