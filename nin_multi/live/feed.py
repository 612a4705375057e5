"""What the browsers are told: the comparison as it stands and the last messages about it; not who listens.

`change`, `point` and `finish` may be called in any thread: they only put news down. Everything else belongs to the
server's thread, so that nobody waits while something large is made into JSON. Messages are made once, for all streams,
and each belongs either to a snapshot or to what follows it, never to both.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from nin_multi.live.messages import KEEP_ALIVE, frame, plain

KEPT = 1 << 20  # bytes of messages; a stream that is further behind gets a new snapshot instead

News = tuple[str, Any]


class Feed:
    """One comparison, from its beginning to its end."""

    def __init__(self, comparison: Mapping[str, Any], *, kept: int = KEPT) -> None:
        self.comparison: dict[str, Any] = plain(comparison)
        self.version = 0  # goes up with everything that changes the comparison
        self.over = False  # for the streams; `is_finished` is set before they know
        self.is_finished = False
        self._ids = frozenset(str(run["id"]) for run in self.comparison["runs"])
        self._lock = threading.Lock()  # held for moments only
        self._news: list[News] = []
        self._bell: Callable[[], None] | None = None
        self._rung = False
        self._kept = kept
        self._messages: deque[bytes] = deque()
        self._size = 0  # bytes of them
        self._last = 0  # number of the newest message; numbers have no gaps
        self._released = 0  # up to here the streams may have them
        self._snapshot: tuple[int, bytes] | None = None
        self._cut: tuple[int, int, bytes] | None = None

    # For whoever follows the runs, in any thread.

    def change(self, run_id: str, fields: Mapping[str, Any]) -> None:
        """These fields of a run are new. Raises KeyError for an unknown run, TypeError for what is not JSON."""
        self._put_down("run", {**plain(fields), "id": self._known(run_id)})

    def point(self, run_id: str, event: Mapping[str, Any]) -> None:
        """A run has written another event. Raises as `change` does."""
        self._put_down("point", {"id": self._known(run_id), "event": plain(event)})

    def finish(self, comparison: Mapping[str, Any]) -> None:
        """The comparison is complete, and this is it; nothing can be told after that."""
        self._put_down("over", plain({**comparison, "over": True}))
        self.is_finished = True

    def ring(self, bell: Callable[[], None]) -> None:
        """Have `bell` called, in the teller's thread, once there is something to take in."""
        with self._lock:
            self._bell = bell
            waiting = self._rung = bool(self._news)
        if waiting:
            bell()

    def _known(self, run_id: str) -> str:
        if run_id not in self._ids:
            raise KeyError(f"no run {run_id!r} in this comparison")
        return run_id

    def _put_down(self, kind: str, body: dict[str, Any]) -> None:
        with self._lock:
            self._news.append((kind, body))
            bell = None if self._rung else self._bell
            self._rung = self._rung or bell is not None
        if bell is not None:
            bell()

    # For the server's thread.

    def take_in(self) -> None:
        """Put the news into the comparison, and make messages of them."""
        with self._lock:
            news, self._news, self._rung = self._news, [], False
        for kind, body in _shortened(news):
            if not self.over:
                self._apply(kind, body)
                self._append(kind, {} if kind == "over" else body)
                self.version += 1

    def comment(self) -> None:
        """Something to say where there is nothing to say, so that nobody takes the line for dead."""
        self._keep(KEEP_ALIVE)

    def release(self) -> None:
        """Let the streams have what there is."""
        self._released = self._last

    def snapshot(self) -> tuple[bytes, int]:
        """The message that a stream begins with, everything in it, and the number it goes on from."""
        self.take_in()
        if self._snapshot is None or self._snapshot[0] != self._last:
            text = frame("snapshot", self.comparison, self._last)
            self._snapshot = self._last, text + frame("over", {}) if self.over else text
        return self._snapshot[1], self._last

    def since(self, position: int) -> bytes | None:
        """All messages after that number which are released; None where some are not kept, or it is before them all."""
        first = self._last - len(self._messages)
        if position < min(first, self._released):
            return None
        if position >= self._released:
            return b""
        if self._cut is None or self._cut[:2] != (position, self._released):  # one cut serves nearly all streams
            part = itertools.islice(self._messages, position - first, self._released - first)
            self._cut = position, self._released, b"".join(part)
        return self._cut[2]

    def is_told(self, position: int) -> bool:
        """Whether there is nothing after that number, and will not be."""
        return self.over and position >= self._last

    @property
    def released(self) -> int:
        """The number of the last message that streams may have."""
        return self._released

    def _apply(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "over":
            self.comparison, self.over = body, True
            return
        run = next(run for run in self.comparison["runs"] if run["id"] == body["id"])
        if kind == "run":
            run.update(body)
        else:
            run.setdefault("events", []).append(body["event"])

    def _append(self, kind: str, data: Any) -> None:
        self._keep(frame(kind, data, self._last + 1))

    def _keep(self, message: bytes) -> None:
        self._messages.append(message)
        self._last += 1
        self._size += len(message)
        while self._size > self._kept:
            self._size -= len(self._messages.popleft())


def _shortened(news: list[News]) -> list[News]:
    """Changes of one run with no point of it in between as one change: a browser needs only how it stands."""
    short: list[News] = []
    changes: dict[str, dict[str, Any]] = {}  # by run: the last of its news, if that is a change
    for kind, body in news:
        if kind == "run" and body["id"] in changes:
            changes[body["id"]].update(body)
            continue
        short.append((kind, body))
        if kind == "run":
            changes[body["id"]] = body
        elif kind == "point":
            changes.pop(body["id"], None)
    return short
