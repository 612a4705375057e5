"""Training on images that stay on the network's device: an epoch in stretches, measured first; not what it is for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nin_multi import heartbeat, randomness
from nin_multi.backend import HoldsImages, Masks, Network, Resident
from nin_multi.data.batches import Ahead, batch_order, prepare
from nin_multi.data.dataset import Dataset, Split
from nin_multi.data.resize import resampling
from nin_multi.spec import Architecture
from nin_multi.training.nonfinite import blame
from nin_multi.training.progress import NotFinite, Pace, Progress, Watcher
from nin_multi.training.recipe import Recipe

STRETCH_SECONDS = 1.0  # steps that the host does not follow one by one: a signal is answered after so long at most


@dataclass(frozen=True)
class Residents:
    """Both splits of a data set on a network's device."""

    train: Resident
    test: Resident


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


def resident_epoch(
    network: Network,
    train: Resident,
    architecture: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    progress: Progress,
    watcher: Watcher,
    first: int,
) -> bool:
    """One pass over the training images in stretches: to the next point, or as far as one gets in STRETCH_SECONDS.

    False where the watcher stopped it. Raises NotFinite.
    """
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
        done, left = left[:steps], left[steps:]
        most = max(int(STRETCH_SECONDS * steps / max(now - began, 1e-9)), 1)
        try:
            progress.count(result, steps, compute_seconds=now - began, seconds=now - clock)
        except NotFinite as error:
            raise blame(
                error, network, (prepare(dataset.train.images[chosen], architecture) for chosen in done)
            ) from None
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


def rehearse(
    residents: Residents, architecture: Architecture, dataset: Dataset, recipe: Recipe, seconds: float = 0.5
) -> Pace:
    """Of real steps on resident images, measured for about so long; then the state is as before.

    Each size of batch is trained once before that, and a part of the test images evaluated, so that afterwards nothing
    is left to be compiled or captured.
    """
    order = batch_order(len(dataset.train), recipe.batch_size, seed=recipe.seed, epoch=0)

    def run(batches: list[NDArray[np.intp]]) -> int:
        heartbeat.beat(heartbeat.MEASURING)
        masks = step_masks(architecture, recipe, batches)
        return residents.train.train(batches, masks, recipe.lr, recipe.momentum).count

    with residents.train.rehearsal():
        began = time.perf_counter()
        run(order[-1:])
        first = time.perf_counter() - began
        run(order[:1])
        residents.test.logits(1)
        steps = 1
        while True:
            began = time.perf_counter()
            images = run(order[:steps])
            spent = time.perf_counter() - began
            if spent >= seconds or steps >= len(order):
                return Pace(images / spent, first)
            steps *= 4
