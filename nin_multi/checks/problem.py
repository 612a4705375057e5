"""What a backend is given to compute: weights, images, labels, masks; not what has to come out.

A ReLU and a max pool decide. Where a value lies within float32's rounding of a decision, a float32 net may rightly
decide otherwise than float64, and then a whole gradient passes, or none: one of a million such decisions moves a
convolution's gradient by 1e-3. So the weights are drawn, channel by channel, until every decision is clear; then
gradients can be compared as tightly as everything else, and no tolerance is widened for kinks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi import randomness
from nin_multi.backend import Images, Labels, Masks, Params
from nin_multi.oracle import Array, apply_layer, windows_of
from nin_multi.randomness import Purpose
from nin_multi.spec import Architecture, Conv2d, Flatten, Linear, MaxPool2d, ReLU, TracedLayer

CLEAR = 1e-5  # from a decision, relative to the root mean square of the layer's values; float32 errs by about 1e-7
ATTEMPTS = 32


@dataclass(frozen=True)
class Problem:
    """One batch and the weights to begin with. `margin`: how far the nearest decision is (see `clear_problem`)."""

    architecture: Architecture
    params: Params
    x: Images
    y: Labels
    seed: int
    margin: float

    @cached_property
    def masks(self) -> Masks:
        """The masks of step 0."""
        return self.masks_of(0)

    def masks_of(self, step: int) -> Masks:
        """The masks of a later step."""
        return randomness.dropout_masks(self.architecture, len(self.y), self.seed, step)

    @property
    def is_clear(self) -> bool:
        """Whether float32 has to decide everywhere as float64 does."""
        return self.margin > CLEAR / 10


def clear_problem(architecture: Architecture, batch: int, seed: int = 0) -> Problem:
    """Random images, and random weights with biases that are not zero, drawn until every decision in training is clear.

    `margin` is the distance of the nearest pre-activation from 0, or of the two largest values in a pool's window from
    each other, relative to the root mean square of its layer: at least `CLEAR` unless `ATTEMPTS` draws fell short.
    """
    words = randomness.words(batch, seed=seed, purpose=Purpose.CHECK, part="labels")
    y = (words % np.uint64(architecture.classes)).astype(np.int32)
    masks = randomness.dropout_masks(architecture, batch, seed, 0)
    segments = list(_segments(architecture, batch))
    params: dict[str, NDArray[np.float32]] = {}
    x, margin = _images(architecture, batch, seed, segments[0][1], masks)
    value = _follow(segments[0][1], np.asarray(x, np.float64), masks)
    for traced, followers in segments[1:]:
        value, nearest = _draw_layer(traced, followers, value, masks, params, seed)
        margin = min(margin, nearest)
        value = _follow(followers, value, masks)
    ordered = {name: params[name] for name in architecture.parameter_shapes()}
    return Problem(architecture, ordered, x, y, seed, margin)


def stored_problem(architecture: Architecture, params: Params, batch: int, seed: int = 0) -> Problem:
    """Random images for weights that are given; how clear its decisions are is as it happens to be."""
    fresh = clear_problem(architecture, batch, seed)
    masks, nearest = fresh.masks, math.inf
    value, exact = (
        np.asarray(fresh.x, np.float64),
        {name: np.asarray(array, np.float64) for name, array in params.items()},
    )
    for traced, followers in _segments(architecture, batch):
        value = value if traced is None else apply_layer(traced, value, exact, {})[0]
        nearest = min(nearest, float(_margins(followers, value, masks).min()))
        value = _follow(followers, value, masks)
    return replace(fresh, params=params, margin=nearest)


def _segments(architecture: Architecture, batch: int) -> Iterator[tuple[Any, list[TracedLayer]]]:
    """Each layer with parameters, and the layers without that follow it; None and those before the first one."""
    head: TracedLayer | None = None
    followers: list[TracedLayer] = []
    for part in (part for row in architecture.trace(batch) for part in row.inner or (row,)):
        if isinstance(part.layer, (Conv2d, Linear)):
            yield head, followers
            head, followers = part, []
        else:
            followers.append(part)
    yield head, followers


def _images(
    architecture: Architecture, batch: int, seed: int, followers: list[TracedLayer], masks: Masks
) -> tuple[Images, float]:
    best: tuple[Images, float] | None = None
    for attempt in range(ATTEMPTS):
        draw = randomness.uniform(
            (batch, *architecture.input), seed=seed, purpose=Purpose.CHECK, step=attempt, part="x"
        )
        x = draw.astype(np.float32)
        margin = float(_margins(followers, np.asarray(x, np.float64), masks).min())
        if best is None or margin > best[1]:
            best = x, margin
        if margin > CLEAR:
            break
    assert best is not None
    return best


def _draw_layer(
    traced: TracedLayer,
    followers: list[TracedLayer],
    x: Array,
    masks: Masks,
    params: dict[str, NDArray[np.float32]],
    seed: int,
) -> tuple[Array, float]:
    """Draw the layer's channels anew until each is clear, or keep its best draw. Its output, and the least margin."""
    drawn = _draw(traced, traced.output[1], seed, 0)
    y = _output(traced, drawn, x)
    margins = _margins(followers, y, masks)
    for attempt in range(1, ATTEMPTS):
        unclear = np.flatnonzero(margins < CLEAR)
        if not len(unclear):
            break
        other = _draw(traced, len(unclear), seed, attempt)
        part = _output(traced, other, x)
        found = _margins(followers, part, masks, unclear, _scale(y))
        better = found > margins[unclear]
        for name, value in drawn.items():
            value[unclear[better]] = other[name][better]
        y[:, unclear[better]] = part[:, better]
        margins[unclear] = np.maximum(found, margins[unclear])
    params.update(drawn)
    return y, float(margins.min())


def _draw(traced: TracedLayer, channels: int, seed: int, attempt: int) -> dict[str, NDArray[np.float32]]:
    """For so many channels: weights within Xavier's bound, biases mostly positive, so that few channels are dead."""
    drawn: dict[str, NDArray[np.float32]] = {}
    for name, shape in traced.parameters.items():
        some = (channels, *shape[1:])
        draw = randomness.uniform(some, seed=seed, purpose=Purpose.CHECK, step=attempt, part=name)
        fans = (shape[0] + shape[1]) * math.prod(shape[2:]) if len(shape) > 1 else 0
        value = (2.0 * draw - 1.0) * math.sqrt(6.0 / fans) if fans else 0.2 * draw - 0.05
        drawn[name] = value.astype(np.float32)
    return drawn


def _output(traced: TracedLayer, params: Params, x: Array) -> Array:
    """The layer's output for the channels that `params` has."""
    count = len(next(iter(params.values())))
    width = {"out_channels": count} if isinstance(traced.layer, Conv2d) else {"out_features": count}
    some = replace(traced, layer=traced.layer.model_copy(update=width))
    return apply_layer(some, x, {name: np.asarray(value, np.float64) for name, value in params.items()}, {})[0]


def _follow(followers: list[TracedLayer], value: Array, masks: Masks) -> Array:
    for traced in followers:
        value, _ = apply_layer(traced, value, {}, masks)
    return value


def _scale(value: Array) -> float:
    return float(np.sqrt(np.mean(value**2))) or 1.0


def _margins(
    followers: list[TracedLayer],
    value: Array,
    masks: Masks,
    channels: NDArray[np.intp] | None = None,
    scale: float | None = None,
) -> NDArray[np.float64]:
    """For each channel how clear the decisions after it are; 0 for one that is dead in all images: it tests nothing.

    `value` (N, C, H, W) or (N, F) may hold some `channels` only; a flatten does not mix them, and is passed over.
    """
    scale = scale or _scale(value)
    nearest = np.full(value.shape[1], np.inf)
    for traced in followers:
        if isinstance(traced.layer, Flatten):
            continue
        if isinstance(traced.layer, ReLU):
            nearest = np.minimum(nearest, _per_channel(np.abs(value)) / scale)
            nearest[_per_channel(-value) >= 0] = 0.0
        if isinstance(traced.layer, MaxPool2d):
            nearest = np.minimum(nearest, _per_channel(_gaps(traced.layer, value)) / scale)
        if (mask := masks.get(traced.name)) is not None:
            whole = mask.reshape(len(value), -1, *value.shape[2:])
            value = value * (whole if channels is None else whole[:, channels])
        else:
            value, _ = apply_layer(replace(traced, input=value.shape), value, {}, {})
    return nearest


def _gaps(layer: MaxPool2d, value: Array) -> Array:
    """Largest minus second largest value of each window; infinite where they are the same value, seen twice."""
    windows, _ = windows_of(layer, value, -np.inf)
    if math.prod(layer.kernel_size) < 2:
        return np.full((1, value.shape[1]), np.inf)
    flat = windows.reshape(*windows.shape[:4], -1)
    best = np.partition(flat, -2, axis=-1)[..., -2:]
    gaps: Array = best[..., 1] - best[..., 0]
    # Equal values are zeros that a ReLU or a mask left, or one value that two windows before have passed on:
    # whichever wins, the gradient goes the same way.
    return np.where(gaps > 0, gaps, np.inf)


def _per_channel(value: Array) -> NDArray[np.float64]:
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    smallest: NDArray[np.float64] = value.min(axis=axes)
    return smallest
