"""A comparison on the screen while it runs: one bar for each run on a terminal, plain lines elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from nin_multi.compare.conductor import Audience
from nin_multi.compare.sides import Side
from nin_multi.training.estimate import duration

SECONDS = 2.0  # between two points of a run, as lines
OVER = ("done", "interrupted", "diverged", "failed")


class Screen(Audience, Protocol):
    """An audience that is there for the length of a block."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def choose_screen(sides: Sequence[Side]) -> Screen:
    """Bars for a terminal, lines for a file or a pipe."""
    return Bars(sides) if sys.stderr.isatty() else Lines(sides)


def facts_of(run: Mapping[str, Any]) -> str:
    """Where a run stands, in half a line.

    >>> facts_of({"status": "training", "epoch": 1, "epochs": 2, "now": {"loss": 0.5, "train_acc": 0.8}})
    'epoch 1/2  loss 0.500  acc 0.800'
    """
    status = str(run.get("status", "waiting"))
    if status != "training":
        tested = (run.get("result") or {}).get("test_acc")
        return status + (f"  test acc {tested:.3f}" if tested is not None else "")
    words = [f"epoch {run['epoch']}/{run['epochs']}"] if "epoch" in run else []
    now = run.get("now") or {}
    words += [f"{word} {now[key]:.3f}" for key, word in (("loss", "loss"), ("train_acc", "acc")) if key in now]
    words += [f"{now['examples_per_sec']:.0f}/s"] if "examples_per_sec" in now else []
    left = run.get("seconds_left")
    return "  ".join([*words, *([f"{duration(left)} left"] if left is not None else [])]) or status


class Lines:
    """What each run says, behind its label, and each end."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self._width = max(len(side.label) for side in sides)
        self._last: dict[str, float] = {}

    def note(self, side: Side, text: str) -> None:
        self._print(f"{side.label:<{self._width}}  {text}")

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        if fields.get("status") == "starting":
            self.note(side, "starts")
        if fields.get("status") in OVER:
            self._end(side, fields)

    def _end(self, side: Side, fields: Mapping[str, Any]) -> None:
        """At once: the table may be hours away."""
        reason = str(fields.get("reason") or "").removeprefix(f"{side.backend}: ")
        self.note(side, f"{fields['status']}{f': {reason}' if reason else ''}")
        if fields.get("to_go_on"):
            self.note(side, f"to go on: {fields['to_go_on']}")

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        """At most one every two seconds."""
        now = time.monotonic()
        told = event.get("event") == "step" and event.get("loss") is not None
        if told and now - self._last.get(side.id, -SECONDS) >= SECONDS:
            self._last[side.id] = now
            self.note(side, f"step {event['step']:,}: loss {event['loss']:.3f}, train acc {event['train_acc']:.3f}")

    def _print(self, text: str) -> None:
        """Lines of a file are as long as they are."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Bars(Lines):
    """Besides, one bar for each run: what it does, and while it trains epoch, loss, accuracy, images/s, time left."""

    def __init__(self, sides: Sequence[Side]) -> None:
        super().__init__(sides)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        # The bar takes what the words leave of a line.
        self._bars: Any = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(stderr=True, highlight=False),
            expand=True,
        )
        self._known: dict[str, dict[str, Any]] = {side.id: {"status": "waiting"} for side in sides}
        self._tasks = {side.id: self._bars.add_task(side.label, total=None, facts="waiting") for side in sides}
        for task in self._tasks.values():
            self._bars.update(task, total=1, completed=0)

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        known = self._known[side.id]
        known |= fields
        steps = known.get("steps") or (known.get("result") or {}).get("steps")
        self._bars.update(
            self._tasks[side.id], total=steps or 1, completed=known.get("step") or 0, facts=facts_of(known)
        )
        super().change(side, fields)

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        pass

    def _print(self, text: str) -> None:
        """Broken between words, apart from a command, which is to be copied."""
        self._bars.console.print(text, markup=False, soft_wrap="to go on: " in text)

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
