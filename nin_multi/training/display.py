"""A run on the screen: a Rich progress bar on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol

from nin_multi import heartbeat
from nin_multi.training.estimate import duration
from nin_multi.training.progress import Progress


class Display(Protocol):
    """What a run tells a person while it goes on."""

    def note(self, text: str) -> None:
        """A line of its own."""

    def step(self, progress: Progress) -> None:
        """After every step."""

    def epoch(self, progress: Progress) -> None:
        """After every epoch, with its test accuracy."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def choose_display(quiet: bool = False) -> Display:
    """Bars for a terminal, lines for a file or a pipe, nothing if quiet; all but steps where another shows those."""
    if quiet:
        return Silent()
    if heartbeat.is_watched():
        return Notes()
    return Bars() if sys.stderr.isatty() else Lines()


def epoch_line(progress: Progress) -> str:
    """One finished epoch in one line."""
    totals = progress.epoch_totals
    return (
        f"epoch {progress.epoch}/{progress.epochs}: loss {totals.mean_loss():.3f}, "
        f"train acc {totals.accuracy():.3f}, test acc {progress.test_acc:.3f}, "
        f"{totals.examples_per_sec():.1f} images/s"
    )


class Silent:
    """No word."""

    def note(self, text: str) -> None:
        pass

    def step(self, progress: Progress) -> None:
        pass

    def epoch(self, progress: Progress) -> None:
        pass

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Notes(Silent):
    """What happened, and one line per epoch."""

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def epoch(self, progress: Progress) -> None:
        self.note(epoch_line(progress))


class Lines(Notes):
    """Besides, one line per point of the curve, at most one every two seconds."""

    def __init__(self) -> None:
        self._last = 0.0

    def step(self, progress: Progress) -> None:
        now = time.monotonic()
        if not progress.is_point() or now - self._last < 2.0:
            return
        self._last, totals = now, progress.epoch_totals
        left = (progress.steps - progress.step) * progress.run_totals.seconds / progress.step
        self.note(
            f"  step {progress.step}/{progress.steps}: loss {totals.mean_loss():.3f}, "
            f"train acc {totals.accuracy():.3f}, {totals.examples_per_sec():.1f} images/s, {duration(left)} left"
        )


class Bars(Notes):
    """One bar over all steps: epoch, images/s, loss, accuracy, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True, highlight=False),
            speed_estimate_period=120,
        )
        self._task: Any = None

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False)

    def step(self, progress: Progress) -> None:
        totals = progress.epoch_totals
        facts = f"{totals.examples_per_sec():.0f}/s loss {totals.mean_loss():.3f} acc {totals.accuracy():.3f}"
        epoch = f"epoch {progress.epoch}/{progress.epochs}"
        if self._task is None:
            self._task = self._bar.add_task(epoch, total=progress.steps, facts=facts)
        self._bar.update(self._task, completed=progress.step, description=epoch, facts=facts)

    def __enter__(self) -> Bars:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
