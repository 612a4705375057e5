"""Where a run stands, and who is told of it: counters, sums and clocks; not how a step is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest

from nin_multi.backend import StepResult
from nin_multi.data.batches import steps_per_epoch
from nin_multi.data.dataset import Dataset
from nin_multi.training.recipe import Recipe
from nin_multi.training.scores import ClassCounts, Confusion, count_classes

POINTS_PER_EPOCH = 5  # the book draws a point every fifth of an epoch, and one at its end


@dataclass
class Totals:
    """Sums over images, and seconds: of the whole (end to end) and of the steps alone.

    `predicted` counts, by class, the images that were taken for it, and `nonzero` those for which its logit was not 0;
    empty where the logits stayed on the device.
    """

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    seconds: float = 0.0
    compute_seconds: float = 0.0
    predicted: list[int] = field(default_factory=list)
    nonzero: list[int] = field(default_factory=list)

    def add(self, result: StepResult, *, compute_seconds: float, seconds: float) -> None:
        self.loss += result.loss
        self.correct += result.correct
        self.count += result.count
        self.compute_seconds += compute_seconds
        self.seconds += seconds
        if result.logits is not None:
            counts = count_classes(result.logits)
            self.predicted = [a + b for a, b in zip_longest(self.predicted, counts.predicted, fillvalue=0)]
            self.nonzero = [a + b for a, b in zip_longest(self.nonzero, counts.nonzero, fillvalue=0)]

    def counts(self) -> ClassCounts:
        return ClassCounts(tuple(self.predicted), tuple(self.nonzero))

    def mean_loss(self) -> float:
        return self.loss / self.count if self.count else math.nan

    def accuracy(self) -> float:
        return self.correct / self.count if self.count else math.nan

    def figures(self) -> dict[str, float]:
        """What a person watches, under the names that events have for it."""
        return {
            "loss": self.mean_loss(),
            "train_acc": self.accuracy(),
            "examples_per_sec": self.examples_per_sec(),
        }

    def examples_per_sec(self) -> float:
        """Images over wall-clock time with data preparation; the book leaves that out."""
        return self.count / self.seconds if self.seconds else 0.0

    def compute_examples_per_sec(self) -> float:
        """Images over the time inside `train_step` alone."""
        return self.count / self.compute_seconds if self.compute_seconds else 0.0


@dataclass
class Progress:
    """Where a run stands: counters from 1, `epoch_totals` since the epoch began, `run_totals` since the run began.

    `evaluated` counts the epochs that are wholly done, with their evaluation on the test images, `test_counts` is
    what that said of each class, and `test_confusion` what it took for what.
    """

    steps: int
    epochs: int
    steps_per_epoch: int
    step: int = 0
    epoch: int = 1
    evaluated: int = 0
    test_loss: float = math.nan
    test_acc: float = math.nan
    test_counts: ClassCounts | None = None
    test_confusion: Confusion | None = None
    epoch_totals: Totals = field(default_factory=Totals)
    run_totals: Totals = field(default_factory=Totals)

    def count(self, result: StepResult, steps: int, *, compute_seconds: float, seconds: float) -> None:
        """Into the sums with it. Raises NotFinite where its loss is no number."""
        self.step += steps
        for totals in (self.epoch_totals, self.run_totals):
            totals.add(result, compute_seconds=compute_seconds, seconds=seconds)
        if not math.isfinite(result.loss):
            by = "at" if steps == 1 else f"in the {steps} steps up to"
            raise NotFinite(f"the loss is {result.loss} {by} step {self.step} (epoch {self.epoch})")

    def is_point(self) -> bool:
        """Whether the book would draw a point here."""
        done = (self.step - 1) % self.steps_per_epoch + 1
        return done % self._between() == 0 or done == self.steps_per_epoch

    def to_next_point(self) -> int:
        """How many steps it is to the next point."""
        done = self.step % self.steps_per_epoch
        return min(self._between() - done % self._between(), self.steps_per_epoch - done)

    def _between(self) -> int:
        return max(self.steps_per_epoch // POINTS_PER_EPOCH, 1)


@dataclass(frozen=True)
class Pace:
    """How fast a net trains, measured before a run begins, and how long its first step took with all it brings about.

    In it frameworks compile, plan and capture.
    """

    examples_per_sec: float
    first_step_seconds: float


@dataclass(frozen=True)
class Watcher:
    """Who is told what: every step, every finished epoch; `stop` is asked after each step.

    Where the images stay on the network's device, steps are told in stretches that end at every point of the curve.
    """

    step: Callable[[Progress], None]
    epoch: Callable[[Progress], None]
    stop: Callable[[], bool]
    evaluation: Callable[[int], None] | None = None  # hears how many test images are done; may raise Stopped


class Stopped(Exception):
    """An evaluation is to end before its time."""


class NotFinite(ArithmeticError):
    """The loss, or a parameter, became infinite or not a number; `layer` gave the first such values, if known."""

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer


def start(dataset: Dataset, recipe: Recipe) -> Progress:
    """The counters of a run that has not begun."""
    per_epoch = steps_per_epoch(len(dataset.train.labels), recipe.batch_size)
    return Progress(recipe.epochs * per_epoch, recipe.epochs, per_epoch)
