"""Runs the sides of a comparison, each in a process of its own, one after another or together, and says what happens.

Not what is shown of it, nor where: that is for the audience.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nin_multi import heartbeat
from nin_multi.compare.follow import Tail, events_in
from nin_multi.compare.sides import Side
from nin_multi.launcher import Child, ChildResult
from nin_multi.training.run_directory import EVENTS, RUN, RunDirectory

LOOK = 0.25  # seconds between two looks at what runs


class Audience(Protocol):
    """Who is told what happens while it happens."""

    def note(self, side: Side, text: str) -> None:
        """A line that a run says."""

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        """Some facts of a run, as a comparison has them, are others now."""

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        """A line more in its events."""


def conduct(
    sides: Sequence[Side],
    command: Callable[[Side], list[str]],
    audience: Audience,
    *,
    epochs: int,
    patience: float,
    together: bool = False,
) -> list[ChildResult]:
    """Run all of them to their ends; one that fails takes no other with it. `command` gives a side's arguments."""
    runs = [_Run(side, command(side), audience, epochs, patience) for side in sides]
    under_way: list[_Run] = []
    try:
        for group in [runs] if together else [[run] for run in runs]:
            for run in group:
                under_way.append(run)
                run.start()
            while waiting := [run for run in group if not run.is_over]:
                for run in waiting:
                    run.look(LOOK / len(waiting))
    except BaseException:  # we are to leave
        for run in under_way:
            run.tell_to_end()
        with contextlib.ExitStack() as leaving:  # of all, also where the audience breaks off once more
            for run in under_way:
                leaving.callback(run.leave)
        raise
    finally:
        for run in under_way:
            run.close()
    return [run.result for run in runs]


class _Run:
    """One side, from its start to its end."""

    result: ChildResult

    def __init__(self, side: Side, command: list[str], audience: Audience, epochs: int, patience: float) -> None:
        self.side, self._command, self._audience = side, command, audience
        self._epochs, self._patience = epochs, patience
        self._child: Child | None = None
        self._told: dict[str, Any] = {}
        self._events: Tail | None = None
        self._began: tuple[int, float] | None = None  # at which step it was seen training first, and when
        self.is_over = False

    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nin_multi-")
        path = Path(self._folder.name) / "messages"
        with path.open("w") as messages:
            self._child = Child(
                self.side.backend, self._command, patience=self._patience, python=self.side.python, messages=messages
            )
        self._messages = Tail(path)
        self._tell({"status": heartbeat.STARTING})

    def look(self, within: float) -> None:
        """See for so many seconds whether it ends, and pass on what it says."""
        assert self._child is not None
        ended = self._child.has_ended(within)
        self._follow()
        if ended:
            self.result = self._child.result()
            for line in self._messages.rest():
                self._audience.note(self.side, line)
            self.is_over = True
            self._tell(outcome_of(self.result))

    def _follow(self) -> None:
        sign = self._child.sign() if self._child is not None else None
        if sign is not None:
            self._hear(sign)
        for line in self._messages.lines():
            self._audience.note(self.side, line)

    def _hear(self, sign: heartbeat.Sign) -> None:
        if self._events is None and sign.run_dir is not None:
            self._events = Tail(Path(sign.run_dir) / EVENTS)
        self._tell(self._stand(sign))
        for event in events_in(self._events.lines() if self._events is not None else []):
            self._audience.point(self.side, event)

    def _stand(self, sign: heartbeat.Sign) -> dict[str, Any]:
        """Where it stands now, under the names that a comparison has for it."""
        known: dict[str, Any] = {"status": sign.phase, "run_dir": sign.run_dir, "step": sign.step, "steps": sign.steps}
        if sign.figures:
            known["now"] = sign.figures
        if sign.step is not None and sign.steps:
            known["epochs"], known["epoch"] = self._epochs, max(math.ceil(sign.step * self._epochs / sign.steps), 1)
            known["seconds_left"] = self._seconds_left(sign.step, sign.steps)
        return {key: value for key, value in known.items() if value is not None}

    def _seconds_left(self, step: int, steps: int) -> float | None:
        """By the pace since it was first seen training; evaluations are in it as they come."""
        now = time.monotonic()
        if self._began is None or self._began[0] > step:
            self._began = step, now
        done, seconds = step - self._began[0], now - self._began[1]
        return round((steps - step) * seconds / done, 1) if done else None

    def _tell(self, fields: Mapping[str, Any]) -> None:
        news = {key: value for key, value in fields.items() if self._told.get(key) != value}
        if news:
            self._told |= news
            self._audience.change(self.side, news)

    def tell_to_end(self) -> None:
        if self._child is not None and not self.is_over:
            self._child.terminate()

    def leave(self) -> None:
        """See it end; its last words say how to go on."""
        if self._child is None or self.is_over:
            return
        try:
            self._follow()  # where its run is it can say no more once it has ended
        finally:
            self._child.leave()
        for line in self._messages.rest():
            self._audience.note(self.side, line)

    def close(self) -> None:
        if self._child is not None:
            self._folder.cleanup()


def outcome_of(result: ChildResult) -> dict[str, Any]:
    """How a run ended, as a comparison has it: status, reason, run directory, its result and how to go on with it."""
    answer = result.answer or {}
    if "status" in answer and result.silence is None:
        status, run_dir = str(answer["status"]), answer["run_dir"]
        reason = result.failure() if result.died else str(answer.get("reason") or "")
        if status == "interrupted" and not reason:
            reason = f"at step {answer['steps']:,}"
        ended: dict[str, Any] = {"result": answer}
    else:
        status, run_dir = "failed", _run_left_behind(result.last.run_dir if result.last is not None else None)
        reason = result.failure() + (" (--patience SECONDS waits longer)" if result.silence is not None else "")
        ended = {}
    to_go_on = command_to_go_on(run_dir) if status in ("failed", "interrupted") else ""
    return {"status": status, "reason": reason, "run_dir": run_dir, "to_go_on": to_go_on, "seconds_left": None, **ended}


def command_to_go_on(run_dir: str | None) -> str:
    """Empty where there is nothing to go on with."""
    import shlex

    return "" if run_dir is None else f"nin_multi train --resume {shlex.quote(run_dir)}"


def _run_left_behind(run_dir: str | None) -> str | None:
    """The run directory of a process that is gone, if a run had begun there; an empty one would only puzzle."""
    if run_dir is None or (Path(run_dir) / RUN).exists():
        return run_dir
    RunDirectory(Path(run_dir)).abandon()
    return None
