"""What a net takes of memory in training and in prediction, from the spec and a framework's habits; no upper bound.

memory.py says what to have ready, whatever the framework; this says what one framework takes, within some per cent.
The habits are few numbers with a meaning, fitted to measurements (tools/measure_memory.py): how many copies of the
parameters it holds, how much of the layers' outputs, whether it gathers the pixels under its windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nin_multi.memory import FLOAT
from nin_multi.spec import Architecture, Conv2d, TracedLayer


@dataclass(frozen=True)
class Load:
    """What there is to hold, in bytes of float32; `fixed` is 1 million, which makes it a number like the others.

    Attributes:
        parameters: all parameters, once.
        outputs: of all layers, those inside blocks too, for as many images as go through at once.
        largest: input and output of the layer for which they are largest, for as many images.
        gathered: the pixels under every window of all convolutions larger than 1 x 1, for as many images.
        batch: the whole batch's images.
    """

    fixed: float
    parameters: float
    outputs: float
    largest: float
    gathered: float
    batch: float


@dataclass(frozen=True)
class Habits:
    """How often each part of a Load is held at the peak."""

    fixed: float
    parameters: float
    outputs: float
    largest: float
    gathered: float
    batch: float

    def bytes(self, load: Load) -> int:
        """By how much a process grows.

        >>> Habits(100, 4, 1, 0, 0, 0).bytes(Load(1e6, 5e6, 30e6, 9e6, 60e6, 1e6))
        150000000
        """
        total: float = sum(a * b for a, b in zip(astuple(self), astuple(load), strict=True))
        return round(total)


NAMES = tuple(field.name for field in fields(Load))


def load_of(architecture: Architecture, images: int, batch_size: int) -> Load:
    """For a batch of so many, of which so many `images` go through the net at once."""
    leaves = [part for row in architecture.trace() for part in (row.inner or (row,))]
    at_once = FLOAT * images
    outputs = [math.prod(part.output) for part in leaves]
    largest = max(math.prod(part.input) + math.prod(part.output) for part in leaves)
    return Load(
        1e6,
        FLOAT * architecture.parameters,
        at_once * sum(outputs),
        at_once * largest,
        at_once * sum(map(_gathered, leaves)),
        FLOAT * batch_size * math.prod(architecture.input),
    )


def _gathered(row: TracedLayer) -> int:
    """Numbers under all windows of a convolution for one image; 0 for a 1 x 1, whose pixels lie ready."""
    if not isinstance(row.layer, Conv2d) or row.layer.kernel_size == (1, 1):
        return 0
    return row.input[1] * math.prod(row.layer.kernel_size) * math.prod(row.output[2:])


def fit_habits(loads: Sequence[Load], measured: Sequence[float]) -> Habits:
    """The habits, none negative, whose relative errors have the least squares.

    Raises ValueError for fewer measurements than there are habits.
    """
    if len(loads) < len(NAMES):
        raise ValueError(f"expected at least {len(NAMES)} measurements, got {len(loads)}")
    table: NDArray[np.float64] = np.array([astuple(load) for load in loads]) / np.array(measured)[:, None]
    found = [_solve(table, kept) for size in range(1, len(NAMES) + 1) for kept in combinations(range(len(NAMES)), size)]
    # What is best with none below 0 has some of them at 0 and is the free best of the others: few enough to try all.
    _, best = min((pair for pair in found if min(pair[1]) >= 0), key=lambda pair: pair[0])
    return Habits(*(round(value, 2) for value in best))


def _solve(table: NDArray[np.float64], kept: tuple[int, ...]) -> tuple[float, list[float]]:
    """Squared error and all habits, where only those kept are not 0."""
    values = np.zeros(table.shape[1])
    values[list(kept)] = np.linalg.lstsq(table[:, kept], np.ones(len(table)), rcond=None)[0]
    return float(((table @ values - 1) ** 2).sum()), values.tolist()
