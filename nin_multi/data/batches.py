"""From stored images to batches as every network gets them, made ahead of the step; not which order they come in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nin_multi import randomness
from nin_multi.backend import Images, Labels, Masks
from nin_multi.data.dataset import Split
from nin_multi.data.resize import resize_to_float
from nin_multi.spec import Architecture

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """x (N, C, H, W) float32 in [0, 1], y (N,) int32, and the dropout masks of a step; None: the framework draws."""

    x: Images
    y: Labels
    masks: Masks | None


def prepare(images: NDArray[np.uint8], architecture: Architecture) -> Images:
    """Resize (N, h, w) as the architecture asks, scale to [0, 1]; grey is repeated where it has several channels."""
    channels, height, width = architecture.input
    x = resize_to_float(images, (height, width))[:, None]  # (N, 1, H, W)
    return x if channels == 1 else np.repeat(x, channels, axis=1)


def training_batches(
    split: Split,
    architecture: Architecture,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    first: int = 0,
    draw_masks: bool = True,
) -> Iterator[Batch]:
    """One epoch in its order, the last partial batch kept; `epoch` counts from 0, and `first` batches are left out."""
    steps = steps_per_epoch(len(split.labels), batch_size)
    order = batch_order(len(split.labels), batch_size, seed=seed, epoch=epoch)
    for number, chosen in enumerate(order[first:], first):
        step = epoch * steps + number
        masks = randomness.dropout_masks(architecture, len(chosen), seed, step) if draw_masks else None
        yield Batch(prepare(split.images[chosen], architecture), split.labels[chosen].astype(np.int32), masks)


def batch_order(examples: int, batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.intp]]:
    """Which images make up each batch of one epoch (from 0), the last partial batch kept."""
    order = randomness.order(examples, seed, epoch)
    return [order[start : start + batch_size] for start in range(0, examples, batch_size)]


def evaluation_batches(split: Split, architecture: Architecture, batch_size: int) -> Iterator[Batch]:
    """All images in their stored order, without masks."""
    for start in range(0, len(split.labels), batch_size):
        part = slice(start, start + batch_size)
        yield Batch(prepare(split.images[part], architecture), split.labels[part].astype(np.int32), {})


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches in one epoch, the partial one counted."""
    return -(-examples // batch_size)


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    pass


class Ahead(Generic[T]):
    """Iterates over `items` while a thread already makes the next ones; an error in there is raised here."""

    def __init__(self, items: Iterable[T], depth: int = 2) -> None:
        self._queue: queue.Queue[T | _Failure | _End] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        try:
            while not isinstance(item := self._queue.get(), _End):
                if isinstance(item, _Failure):
                    raise item.error
                yield item
        finally:
            self._stop.set()  # a reader that leaves early must not leave the thread waiting

    def _work(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
            self._put(_End())
        except BaseException as error:
            self._put(_Failure(error))

    def _put(self, item: T | _Failure | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
