"""What the server of the live page answers: the page, its stream, nothing else; not who may ask, not how it runs.

There are three paths, and no file is read for any of them.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from nin_multi.live.feed import Feed
from nin_multi.live.guard import HEADERS, Asked, Guard, Refusal
from nin_multi.live.streams import MOST, Streams, pieces

PAGE, EVENTS, ICON = "/", "/events", "/favicon.ico"

Render = Callable[..., str]


class App:
    """The ASGI application of one comparison."""

    def __init__(self, feed: Feed, streams: Streams, guard: Guard, render: Render) -> None:
        self._feed = feed
        self._streams = streams
        self._guard = guard
        self._render = render
        self._events = "events" if guard.token is None else f"events?token={guard.token}"
        self._page: tuple[int, bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # nothing is done at the start and the end, and there are no web sockets
            return
        request = Request(scope)
        if refusal := self._refusal(request):
            await _refuse(refusal)(scope, receive, send)
        elif scope["path"] == EVENTS:
            await self._streams.serve(scope, receive, send)
        elif scope["path"] == PAGE:
            await self._send_page(scope, receive, send)
        else:
            await Response(status_code=204, headers=HEADERS)(scope, receive, send)

    def _refusal(self, request: Request) -> Refusal | None:
        """Why there is no answer; None where there is one."""
        path, asked = request.scope["path"], _asked(request)
        if refusal := self._guard.check_host(asked):
            return refusal
        if path not in (PAGE, EVENTS, ICON):
            return Refusal(404, "there is only the page itself")
        if request.method != "GET":
            return Refusal(405, "there is nothing to do here but to GET")
        stream = path == EVENTS
        if refusal := self._guard.check_origin(asked, stream=stream):
            return refusal
        if path != ICON and (refusal := self._guard.check_token(asked)):
            return refusal
        if stream and len(self._streams) >= MOST:
            return Refusal(503, f"{MOST} pages are open already: close one, and load this one again")
        return None

    async def _send_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Rendered once for each state of the comparison."""
        self._feed.take_in()
        final = self._feed.over
        try:
            page = self._rendered()
        except Exception as error:  # whatever it is, the runs go on, and so does everything else here
            words = " ".join(f"the page cannot be made ({type(error).__name__}: {error})".split())
            await _refuse(Refusal(500, words))(scope, receive, send)
            return
        length = str(len(page))
        headers = {**HEADERS, "Content-Type": "text/html; charset=utf-8", "Content-Length": length}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for piece in pieces(page):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self._streams.page_was_sent(final=final)

    def _rendered(self) -> bytes:
        version = self._feed.version
        if self._page is None or self._page[0] != version:
            html = self._render(self._feed.comparison, events=None if self._feed.over else self._events)
            self._page = version, html.encode("utf-8", "replace")
        return self._page[1]


def _asked(request: Request) -> Asked:
    headers = request.headers
    server = request.scope.get("server") or ("", 0)
    return Asked(
        hosts=headers.getlist("host"),
        origins=headers.getlist("origin"),
        site=headers.get("sec-fetch-site", ""),
        mode=headers.get("sec-fetch-mode", ""),
        token=request.query_params.get("token", ""),
        local=str(server[0]),
    )


def _refuse(refusal: Refusal) -> Response:
    headers = {**HEADERS, "Allow": "GET"} if refusal.status == 405 else HEADERS
    return PlainTextResponse(refusal.words + "\n", refusal.status, headers)
