"""What each layer of a net gives for a few test images, as a handful of numbers; not when that is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Network
from nin_multi.data.batches import prepare
from nin_multi.spec import Architecture

IMAGES = 64
BYTES = 2**25  # of one layer's values in float32, at a time
SAMPLED = 2**18  # values of a layer, for the quantiles within: enough for three digits, and quickly sorted
WITHIN = (0.05, 0.25, 0.5, 0.75, 0.95)
DIGITS = 6


@dataclass
class _Sums:
    """Of all values of a layer so far; the quantiles within are those of every k-th value."""

    count: int = 0
    zeros: int = 0
    total: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    sample: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, values: NDArray[np.float64], step: int) -> None:
        self.count += values.size
        self.zeros += values.size - int(np.count_nonzero(values))
        self.total += float(values.sum())
        self.squares += float(values @ values)
        self.lowest = float(np.minimum(self.lowest, values.min()))  # unlike min(), it lets no NaN pass by
        self.highest = float(np.maximum(self.highest, values.max()))
        self.sample.append(values[::step].copy())

    def describe(self) -> dict[str, Any]:
        mean = self.total / self.count
        within = np.quantile(np.concatenate(self.sample), WITHIN).tolist()
        spread = math.sqrt(max(self.squares / self.count - mean * mean, 0.0)) if math.isfinite(mean) else math.nan
        return {
            "quantiles": [_rounded(value) for value in (self.lowest, *within, self.highest)],
            "zeros": _rounded(self.zeros / self.count),
            "mean": _rounded(mean),
            "std": _rounded(spread),
        }


def describe_layers(
    network: Network, architecture: Architecture, images: NDArray[np.uint8], tell: Callable[[], None] | None = None
) -> dict[str, dict[str, Any]]:
    """Of each layer's values for the first images (N, h, w), in evaluation mode: quantiles, zeros, mean, deviation.

    "quantiles" are the least value, those at 5, 25, 50, 75 and 95 %, and the greatest; "zeros" is the share of values
    that are exactly 0. None where a figure is no number. `tell` is called after each part of the images.
    """
    images = images[:IMAGES]
    rows = architecture.trace()
    at_once = _images_at_once(architecture, len(images))
    steps = {row.name: _step(len(images) * math.prod(row.output[1:])) for row in rows}
    found = {row.name: _Sums() for row in rows}
    for start in range(0, len(images), at_once):
        for name, values in network.activations(prepare(images[start : start + at_once], architecture)):
            if name in found:
                with np.errstate(all="ignore"):  # nets that diverge have infinities
                    found[name].add(values.ravel().astype(np.float64), steps[name])
        if tell is not None:
            tell()
    with np.errstate(all="ignore"):
        return {name: sums.describe() for name, sums in found.items()}


def _images_at_once(architecture: Architecture, count: int) -> int:
    """All if they fit; else halves of that, so that no part has a shape of its own that frameworks would compile."""
    widest = max(math.prod(row.output[1:]) for row in architecture.walk())
    at_once = count
    while at_once > 1 and 4 * at_once * widest > BYTES:
        at_once = -(-at_once // 2)
    return at_once


def _step(count: int) -> int:
    """Every how many values are taken of so many: no divisor, which might meet the same pixels only."""
    step = -(-count // SAMPLED)
    while math.gcd(step, count) > 1:
        step += 1
    return step


def _rounded(value: float) -> float | None:
    """JSON has no nan and no infinity, and nobody needs more digits."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
