"""The training loop, one for all frameworks: epochs, steps, evaluation; not files, not screens."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from nin_multi import heartbeat
from nin_multi.backend import Network
from nin_multi.data.batches import Ahead, Batch, evaluation_batches, training_batches
from nin_multi.data.dataset import Dataset
from nin_multi.errors import DataError
from nin_multi.spec import Architecture
from nin_multi.training.nonfinite import blame
from nin_multi.training.progress import NotFinite, Pace, Progress, Stopped, Totals, Watcher
from nin_multi.training.recipe import Recipe
from nin_multi.training.residents import Residents, resident_epoch, settle
from nin_multi.training.scores import Score, evaluate, score


def check_classes(architecture: Architecture, dataset: Dataset) -> None:
    """Raises DataError where a data set has labels that a net has no output for."""
    if architecture.classes < len(dataset.classes):
        raise DataError(
            f"{dataset.title} has {len(dataset.classes)} classes, architecture {architecture.name!r} ends with "
            f"{architecture.classes}; expected at least {len(dataset.classes)}"
        )


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
            held = residents.train
            went_through = resident_epoch(network, held, architecture, dataset, recipe, progress, watcher, done)
        else:
            batches = batches_of(dataset, architecture, recipe, epoch=progress.evaluated, first=done)
            went_through = _epoch(network, Ahead(batches), recipe, progress, watcher)
        if not went_through:
            return
        try:
            found = _evaluate(network, architecture, dataset, recipe, residents, watcher)
        except Stopped:
            return
        progress.test_loss, progress.test_acc = found.loss, found.accuracy
        progress.test_counts, progress.test_confusion = found.counts, found.confusion
        if not math.isfinite(progress.test_loss):
            error = NotFinite(f"the test loss is {progress.test_loss} after epoch {progress.epoch}")
            raise blame(
                error, network, (b.x for b in evaluation_batches(dataset.test, architecture, recipe.batch_size))
            )
        progress.evaluated += 1
        watcher.epoch(progress)
        if watcher.stop():
            return


def _evaluate(
    network: Network,
    architecture: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    residents: Residents | None,
    watcher: Watcher,
) -> Score:
    classes = len(dataset.classes)
    if residents is not None:
        return score(residents.test.logits(), dataset.test.labels, classes)
    return evaluate(network, architecture, dataset.test, recipe.batch_size, watcher.evaluation, classes)


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
        try:
            progress.count(result, 1, compute_seconds=now - began, seconds=now - clock)
        except NotFinite as error:
            raise blame(error, network, [batch.x]) from None
        clock = now
        watcher.step(progress)
        if watcher.stop():
            return False
    return True


def measure(
    network: Network, batches: Iterator[Batch], momentum: float = 0.0, seconds: float = 4.0, most: int = 5
) -> Pace:
    """Of a few real steps with a learning rate of 0, which leave the weights as they are; `most` of them.

    Velocities and the framework's own draws do move. The first step does not count where there is a second:
    frameworks compile and plan in it. So the clock begins after it: else a long one would be all that is known.
    """
    steps: list[tuple[int, float]] = []
    for batch in batches:
        heartbeat.beat(heartbeat.MEASURING)
        began = time.perf_counter()
        network.train_step(batch.x, batch.y, batch.masks, 0.0, momentum)
        steps.append((len(batch.y), time.perf_counter() - began))
        if len(steps) >= most or sum(took for _, took in steps[1:]) > seconds:
            break
    counted = steps[1:] or steps
    speed = sum(count for count, _ in counted) / sum(took for _, took in counted)
    return Pace(speed, steps[0][1])
