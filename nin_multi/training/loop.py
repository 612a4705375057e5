"""The training loop, one for all frameworks: steps, running averages, evaluation, clocks; not files, not screens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi import randomness
from nin_multi.backend import HoldsImages, Masks, Network, Resident, StepResult
from nin_multi.data.batches import (
    Ahead,
    Batch,
    batch_order,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from nin_multi.data.dataset import Dataset, Split
from nin_multi.data.resize import resampling
from nin_multi.errors import DataError
from nin_multi.spec import Architecture
from nin_multi.training.recipe import Recipe

POINTS_PER_EPOCH = 5  # the book draws a point every fifth of an epoch, and one at its end
STRETCH_SECONDS = 1.0  # steps that the host does not follow one by one: a signal is answered after so long at most


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
        return done % self._between() == 0 or done == self.steps_per_epoch

    def to_next_point(self) -> int:
        """How many steps it is to the next point."""
        done = self.step % self.steps_per_epoch
        return min(self._between() - done % self._between(), self.steps_per_epoch - done)

    def _between(self) -> int:
        return max(self.steps_per_epoch // POINTS_PER_EPOCH, 1)


@dataclass(frozen=True)
class Watcher:
    """Who is told what: every step, every finished epoch; `stop` is asked after each step.

    Where the images stay on the network's device, steps are told in stretches that end at every point of the curve.
    """

    step: Callable[[Progress], None]
    epoch: Callable[[Progress], None]
    stop: Callable[[], bool]


class NotFinite(ArithmeticError):
    """The loss became infinite or not a number."""


@dataclass(frozen=True)
class Residents:
    """Both splits of a data set on a network's device."""

    train: Resident
    test: Resident


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
    residents: Residents | None = None,
) -> None:
    """Train to the end from where `progress` stands, or until `watcher.stop()`.

    A network that wants the images on its device gets them here, if `residents` of it are not there yet.

    Raises NotFinite where the loss is no number any more.
    """
    residents = residents or settle(network, architecture, dataset)
    while progress.evaluated < recipe.epochs:
        progress.epoch = progress.evaluated + 1
        done = progress.step - progress.evaluated * progress.steps_per_epoch
        if done == 0:
            progress.epoch_totals = Totals()
        if residents is not None:
            went_through = _resident_epoch(residents.train, architecture, dataset, recipe, progress, watcher, done)
        else:
            batches = batches_of(dataset, architecture, recipe, epoch=progress.evaluated, first=done)
            went_through = _epoch(network, Ahead(batches), recipe, progress, watcher)
        if not went_through:
            return
        progress.test_loss, progress.test_acc = (
            score(residents.test.logits(), dataset.test.labels)
            if residents is not None
            else evaluate(network, architecture, dataset.test, recipe.batch_size)
        )
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
        rate = recipe.rate(progress.step, progress.steps)
        result = network.train_step(batch.x, batch.y, batch.masks, rate, recipe.momentum)
        now = time.perf_counter()
        _count(progress, result, 1, compute_seconds=now - began, seconds=now - clock)
        clock = now
        watcher.step(progress)
        if watcher.stop():
            return False
    return True


def _count(progress: Progress, result: StepResult, steps: int, *, compute_seconds: float, seconds: float) -> None:
    """Into the totals with it. Raises NotFinite."""
    progress.step += steps
    for totals in (progress.epoch_totals, progress.run_totals):
        totals.loss += result.loss
        totals.correct += result.correct
        totals.count += result.count
        totals.compute_seconds += compute_seconds
        totals.seconds += seconds
    if not math.isfinite(result.loss):
        raise NotFinite(f"the loss is {result.loss} at step {progress.step} (epoch {progress.epoch})")


def settle(network: Network, architecture: Architecture, dataset: Dataset) -> Residents | None:
    """The data set on the network's device; None where the network wants its batches from the host."""
    train = hold(network, architecture, dataset.train)
    test = hold(network, architecture, dataset.test) if train is not None else None
    return Residents(train, test) if train is not None and test is not None else None


def hold(network: Network, architecture: Architecture, split: Split) -> Resident | None:
    """One split on the network's device; None where the network wants its batches from the host."""
    if not isinstance(network, HoldsImages):
        return None
    (_, height, width), (old_height, old_width) = architecture.input, split.images.shape[1:]
    axes = resampling(old_height, height), resampling(old_width, width)
    return network.resident(split.images, split.labels.astype(np.int32), axes)


def _resident_epoch(
    train: Resident,
    architecture: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    progress: Progress,
    watcher: Watcher,
    first: int,
) -> bool:
    """As `_epoch`, in stretches: to the next point of the curve, or as far as one gets in STRETCH_SECONDS."""
    clock, most = time.perf_counter(), 1
    order = batch_order(len(dataset.train), recipe.batch_size, seed=recipe.seed, epoch=progress.evaluated)
    left = order[first:]
    masks = step_masks(architecture, recipe, left, progress.step)
    while left:
        steps = min(progress.to_next_point(), most)
        began = time.perf_counter()
        rates = [recipe.rate(progress.step + number, progress.steps) for number in range(steps)]
        result = train.train(left[:steps], masks, rates, recipe.momentum)
        now = time.perf_counter()
        left = left[steps:]
        most = max(int(STRETCH_SECONDS * steps / max(now - began, 1e-9)), 1)
        _count(progress, result, steps, compute_seconds=now - began, seconds=now - clock)
        clock = now
        watcher.step(progress)
        if watcher.stop():
            return False
    return True


def step_masks(
    architecture: Architecture, recipe: Recipe, batches: Sequence[NDArray[np.intp]], first_step: int = 0
) -> Iterator[Masks] | None:
    """The masks of consecutive steps, drawn ahead in a thread from the first request on; None: the framework draws."""
    if recipe.dropout == "native" or not architecture.dropouts():
        return None

    def masks() -> Iterator[Masks]:
        yield from Ahead(
            randomness.dropout_masks(architecture, len(chosen), recipe.seed, step)
            for step, chosen in enumerate(batches, first_step)
        )

    return masks()


def evaluate(network: Network, architecture: Architecture, split: Split, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over a split, in evaluation mode, computed here from the logits."""
    loss, correct = 0.0, 0
    for batch in Ahead(evaluation_batches(split, architecture, batch_size)):
        batch_loss, batch_correct = _sums(network.logits(batch.x), batch.y)
        loss += batch_loss
        correct += batch_correct
    return loss / len(split.labels), correct / len(split.labels)


def score(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits (N, classes) that are all there already."""
    loss, correct = _sums(logits, labels)
    return loss / len(labels), correct / len(labels)


def _sums(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, int]:
    """Cross-entropy, in float64, and how many are classified correctly."""
    logits = np.asarray(logits, np.float64)  # (N, classes)
    shifted = logits - logits.max(1, keepdims=True)
    chosen = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(1)) - chosen).sum()), int((logits.argmax(1) == labels).sum())


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


def rehearse(
    residents: Residents, architecture: Architecture, dataset: Dataset, recipe: Recipe, seconds: float = 0.5
) -> float:
    """Images per second of real steps on resident images, measured for about so long; then the state is as before.

    Each size of batch is trained once before that, and a part of the test images evaluated, so that afterwards nothing
    is left to be compiled or captured.
    """
    order = batch_order(len(dataset.train), recipe.batch_size, seed=recipe.seed, epoch=0)

    def run(batches: list[NDArray[np.intp]]) -> int:
        masks = step_masks(architecture, recipe, batches)
        return residents.train.train(batches, masks, recipe.lr, recipe.momentum).count

    with residents.train.rehearsal():
        run(order[-1:])
        run(order[:1])
        residents.test.logits(1)
        steps = 1
        while True:
            began = time.perf_counter()
            images = run(order[:steps])
            spent = time.perf_counter() - began
            if spent >= seconds or steps >= len(order):
                return images / spent
            steps *= 4
