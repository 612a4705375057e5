"""What a trained net does with some pictures: probabilities, predicted classes, class maps; not how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Network
from nin_multi.data.batches import prepare
from nin_multi.errors import CheckpointError
from nin_multi.spec import Architecture, Dropout, Flatten, GlobalAvgPool2d

AT_ONCE = 50  # images: the chapter's first layer makes 56 MB of them


@dataclass(frozen=True)
class Inspection:
    """By image: what it is, what it was taken for, the probability of each class.

    `class_maps`: what comes into the global average pooling, one map per class, (N, classes, h, w). The mean of a
    class's map is its logit, so a map shows where in the picture its class was seen (Lin, Chen and Yan,
    arXiv:1312.4400, section 3.2). None where a net has no such maps.
    """

    labels: NDArray[np.uint8]  # (N,)
    predicted: NDArray[np.intp]  # (N,)
    probabilities: NDArray[np.float64]  # (N, classes)
    class_maps: NDArray[np.float32] | None = None

    def mistakes(self) -> list[int]:
        """Images that were taken for something else, the surest mistake first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        surest = np.argsort(-self.probabilities[wrong, self.predicted[wrong]], kind="stable")
        return [int(index) for index in wrong[surest]]

    def samples(self, mistakes: int) -> list[int]:
        """The first image of each class, whatever the net says of it; then so many of the surest mistakes."""
        _, first = np.unique(self.labels, return_index=True)
        chosen = [int(index) for index in first]
        return chosen + [index for index in self.mistakes() if index not in chosen][:mistakes]


def inspect(
    network: Network,
    architecture: Architecture,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    maps: bool = True,
    tell: Callable[[], None] | None = None,
) -> Inspection:
    """Of images (N, h, w), in evaluation mode; without `maps` it is quicker. `tell` is called after each part of them.

    Raises CheckpointError where the logits are no numbers.
    """
    layer = map_layer(architecture) if maps else None
    logits: list[NDArray[Any]] = []
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(images), AT_ONCE):
        x = prepare(images[start : start + AT_ONCE], architecture)
        if layer is None:
            logits.append(network.logits(x))
        else:
            for name, value in network.activations(x):
                if name == layer:
                    found.append(np.asarray(value, np.float32))
            logits.append(value)
        if tell is not None:
            tell()
    probabilities = softmax(np.concatenate(logits))
    return Inspection(labels, probabilities.argmax(1), probabilities, np.concatenate(found) if found else None)


def map_layer(architecture: Architecture) -> str | None:
    """The layer with one map per class, whose mean is the logit; None in nets without one."""
    rows = architecture.trace()
    places = [index for index, row in enumerate(rows) if isinstance(row.layer, GlobalAvgPool2d)]
    if not places or places[-1] == 0:
        return None
    after = rows[places[-1] + 1 :]
    return rows[places[-1] - 1].name if all(isinstance(row.layer, Flatten | Dropout) for row in after) else None


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """In float64. Raises CheckpointError where they are no numbers."""
    if not np.isfinite(logits).all():
        raise CheckpointError("what the net gives for the test images is no number; its training diverged")
    shares = np.exp(np.float64(logits) - np.float64(logits).max(1, keepdims=True))
    result: NDArray[np.float64] = shares / shares.sum(1, keepdims=True)
    return result
