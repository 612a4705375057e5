"""The training loop, one for all frameworks: steps, running averages, evaluation, clocks; not files, not screens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nin_multi.backend import Network
from nin_multi.data.batches import Ahead, Batch, evaluation_batches, steps_per_epoch, training_batches
from nin_multi.data.dataset import Dataset, Split
from nin_multi.errors import DataError
from nin_multi.spec import Architecture
from nin_multi.training.recipe import Recipe

POINTS_PER_EPOCH = 5  # the book draws a point every fifth of an epoch, and one at its end


@dataclass
class Totals:
    """Sums over images, and seconds: of the whole (end to end) and of the steps alone."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    seconds: float = 0.0
    compute_seconds: float = 0.0

    def mean_loss(self) -> float:
        return self.loss / self.count if self.count else math.nan

    def accuracy(self) -> float:
        return self.correct / self.count if self.count else math.nan

    def examples_per_sec(self) -> float:
        """Images over wall-clock time with data preparation; the book leaves that out."""
        return self.count / self.seconds if self.seconds else 0.0

    def compute_examples_per_sec(self) -> float:
        """Images over the time inside `train_step` alone."""
        return self.count / self.compute_seconds if self.compute_seconds else 0.0


@dataclass
class Progress:
    """Where a run stands: counters from 1, `epoch_totals` since the epoch began, `run_totals` since the run began.

    `evaluated` counts the epochs that are wholly done, with their evaluation on the test images.
    """

    steps: int
    epochs: int
    steps_per_epoch: int
    step: int = 0
    epoch: int = 1
    evaluated: int = 0
    test_loss: float = math.nan
    test_acc: float = math.nan
    epoch_totals: Totals = field(default_factory=Totals)
    run_totals: Totals = field(default_factory=Totals)

    def is_point(self) -> bool:
        """Whether the book would draw a point here."""
        done = (self.step - 1) % self.steps_per_epoch + 1
        return done % max(self.steps_per_epoch // POINTS_PER_EPOCH, 1) == 0 or done == self.steps_per_epoch


@dataclass(frozen=True)
class Watcher:
    """Who is told what: every step, every finished epoch; `stop` is asked after each step."""

    step: Callable[[Progress], None]
    epoch: Callable[[Progress], None]
    stop: Callable[[], bool]


class NotFinite(ArithmeticError):
    """The loss became infinite or not a number."""


def check_classes(architecture: Architecture, dataset: Dataset) -> None:
    """Raises DataError where a data set has labels that a net has no output for."""
    if architecture.classes < len(dataset.classes):
        raise DataError(
            f"{dataset.title} has {len(dataset.classes)} classes, architecture {architecture.name!r} ends with "
            f"{architecture.classes}; expected at least {len(dataset.classes)}"
        )


def start(dataset: Dataset, recipe: Recipe) -> Progress:
    """The counters of a run that has not begun."""
    per_epoch = steps_per_epoch(len(dataset.train.labels), recipe.batch_size)
    return Progress(recipe.epochs * per_epoch, recipe.epochs, per_epoch)


def fit(
    network: Network,
    architecture: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    progress: Progress,
    watcher: Watcher,
) -> None:
    """Train to the end from where `progress` stands, or until `watcher.stop()`.

    Raises NotFinite where the loss is no number any more.
    """
    while progress.evaluated < recipe.epochs:
        progress.epoch = progress.evaluated + 1
        done = progress.step - progress.evaluated * progress.steps_per_epoch
        if done == 0:
            progress.epoch_totals = Totals()
        batches = batches_of(dataset, architecture, recipe, epoch=progress.evaluated, first=done)
        if not _epoch(network, Ahead(batches), recipe, progress, watcher):
            return
        progress.test_loss, progress.test_acc = evaluate(network, architecture, dataset.test, recipe.batch_size)
        if not math.isfinite(progress.test_loss):
            raise NotFinite(f"the test loss is {progress.test_loss} after epoch {progress.epoch}")
        progress.evaluated += 1
        watcher.epoch(progress)
        if watcher.stop():
            return


def batches_of(
    dataset: Dataset, architecture: Architecture, recipe: Recipe, *, epoch: int, first: int = 0
) -> Iterator[Batch]:
    """The training batches of one epoch (from 0) as the recipe has them, without the `first` ones."""
    return training_batches(
        dataset.train,
        architecture,
        recipe.batch_size,
        seed=recipe.seed,
        epoch=epoch,
        first=first,
        draw_masks=recipe.dropout == "shared",
    )


def _epoch(network: Network, batches: Ahead[Batch], recipe: Recipe, progress: Progress, watcher: Watcher) -> bool:
    """One pass over the training images; False where the watcher stopped it."""
    clock = time.perf_counter()
    for batch in batches:
        began = time.perf_counter()
        result = network.train_step(batch.x, batch.y, batch.masks, recipe.lr, recipe.momentum)
        now = time.perf_counter()
        progress.step += 1
        for totals in (progress.epoch_totals, progress.run_totals):
            totals.loss += result.loss
            totals.correct += result.correct
            totals.count += result.count
            totals.compute_seconds += now - began
            totals.seconds += now - clock
        clock = now
        if not math.isfinite(result.loss):
            raise NotFinite(f"the loss is {result.loss} at step {progress.step} (epoch {progress.epoch})")
        watcher.step(progress)
        if watcher.stop():
            return False
    return True


def evaluate(network: Network, architecture: Architecture, split: Split, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over a split, in evaluation mode, computed here from the logits."""
    loss, correct = 0.0, 0
    for batch in Ahead(evaluation_batches(split, architecture, batch_size)):
        logits = np.asarray(network.logits(batch.x), np.float64)  # (N, classes)
        shifted = logits - logits.max(1, keepdims=True)
        chosen = shifted[np.arange(len(batch.y)), batch.y]
        loss += float((np.log(np.exp(shifted).sum(1)) - chosen).sum())
        correct += int((logits.argmax(1) == batch.y).sum())
    return loss / len(split.labels), correct / len(split.labels)


def measure(network: Network, batches: Iterator[Batch], momentum: float = 0.0, seconds: float = 4.0) -> float:
    """Images per second of a few real steps with a learning rate of 0, which leave the weights as they are.

    Velocities and the framework's own draws do move. The first step does not count where there is a second:
    frameworks compile and plan in it.
    """
    steps: list[tuple[int, float]] = []
    for batch in batches:
        began = time.perf_counter()
        network.train_step(batch.x, batch.y, batch.masks, 0.0, momentum)
        steps.append((len(batch.y), time.perf_counter() - began))
        if len(steps) > 4 or sum(took for _, took in steps) > seconds:
            break
    counted = steps[1:] or steps
    return sum(count for count, _ in counted) / sum(took for _, took in counted)
