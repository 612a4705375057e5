"""How good a net is on a split: loss, accuracy, what it says of each class; not when that is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Network
from nin_multi.data.batches import Ahead, evaluation_batches
from nin_multi.data.dataset import Split
from nin_multi.spec import Architecture


@dataclass(frozen=True)
class ClassCounts:
    """By class: how many images were taken for it, and for how many its logit was not exactly 0."""

    predicted: tuple[int, ...]
    nonzero: tuple[int, ...]

    def never_predicted(self) -> list[int]:
        return [index for index, count in enumerate(self.predicted) if count == 0]

    def dead(self) -> list[int]:
        """Classes whose logit was 0 for every image: behind a ReLU and a mean, a channel that gives nothing more."""
        return [index for index, count in enumerate(self.nonzero) if count == 0]


Confusion = list[list[int]]  # how many images of a class (row) were taken for which (column)


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and accuracy over images, what was said of each class, and what was taken for what."""

    loss: float
    accuracy: float
    counts: ClassCounts
    confusion: Confusion


def count_classes(logits: NDArray[Any]) -> ClassCounts:
    """Of logits (N, classes)."""
    predicted = np.bincount(logits.argmax(1), minlength=logits.shape[1])
    return ClassCounts(tuple(predicted.tolist()), tuple(np.count_nonzero(logits, axis=0).tolist()))


def evaluate(
    network: Network,
    architecture: Architecture,
    split: Split,
    batch_size: int,
    tell: Callable[[int], None] | None = None,
    classes: int | None = None,
) -> Score:
    """A split in evaluation mode, scored here from the logits; `tell` hears after each batch how many are done.

    `classes`: see `score`.
    """
    found: list[NDArray[Any]] = []
    done = 0
    for batch in Ahead(evaluation_batches(split, architecture, batch_size)):
        found.append(network.logits(batch.x))
        done += len(batch.y)
        if tell is not None:
            tell(done)
    return score(np.concatenate(found), split.labels, classes)


def score(logits: NDArray[Any], labels: NDArray[Any], classes: int | None = None) -> Score:
    """Of logits (N, outputs) that are all there already; the loss is computed in float64.

    `classes`: how many the labels have, where a net has more outputs than that.
    """
    counts = count_classes(logits)
    confusion = count_confusions(logits, labels, classes or logits.shape[1])
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    chosen = shifted[np.arange(len(labels)), labels]
    loss = float((np.log(np.exp(shifted).sum(1)) - chosen).sum())
    return Score(loss / len(labels), int((logits.argmax(1) == labels).sum()) / len(labels), counts, confusion)


def count_confusions(logits: NDArray[Any], labels: NDArray[Any], classes: int) -> Confusion:
    """A row for each of so many classes, a column for each output of logits (N, outputs)."""
    outputs = logits.shape[1]
    places = labels.astype(np.int64) * outputs + logits.argmax(1)
    counted: Confusion = np.bincount(places, minlength=classes * outputs).reshape(classes, outputs).tolist()
    return counted
