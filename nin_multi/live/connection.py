"""One connection to the server of the live page: how many there may be, and for how long one may say nothing."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 800  # more than there may be streams, and fewer than the files that a process may usually have open
HEAD_SECONDS = 10.0  # in which a request has to come


class Connection(H11Protocol):
    """As uvicorn's own; it has no bounds for connections on which nothing is asked."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
        else:
            self.loop.call_later(HEAD_SECONDS, self._require_request)

    def _require_request(self) -> None:
        if self.cycle is None:
            self.transport.abort()
