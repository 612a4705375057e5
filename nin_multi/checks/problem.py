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
    return Problem(architecture, ordered, x, _labels(architecture, batch, seed), seed, margin)


def stored_problem(architecture: Architecture, params: Params, batch: int, seed: int = 0) -> Problem:
    """Random images for weights that are given; how clear its decisions are is as it happens to be."""
    masks, segments = randomness.dropout_masks(architecture, batch, seed, 0), list(_segments(architecture, batch))
    x, nearest = _images(architecture, batch, seed, segments[0][1], masks)
    value: Array = np.asarray(x, np.float64)
    exact = {name: np.asarray(array, np.float64) for name, array in params.items()}
    for traced, followers in segments:
        value = value if traced is None else apply_layer(traced, value, exact, {})[0]
        nearest = min(nearest, _nearest(followers, value, masks))
        value = _follow(followers, value, masks)
    return Problem(architecture, params, x, _labels(architecture, batch, seed), seed, nearest)


def _labels(architecture: Architecture, batch: int, seed: int) -> Labels:
    words = randomness.words(batch, seed=seed, purpose=Purpose.CHECK, part="labels")
    return (words % np.uint64(architecture.classes)).astype(np.int32)


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
        margin = _nearest(followers, np.asarray(x, np.float64), masks)
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
    """Draw the layer's channels anew until each is clear and alive, and one at least is negative somewhere.

    Where `ATTEMPTS` draws fall short, the best one stays.
    Returns its output, and the least margin.
    """
    drawn = _draw(traced, traced.output[1], seed, 0)
    y = _output(traced, drawn, x)
    distances, worth = _decisions(followers, y, masks)
    for attempt in range(1, ATTEMPTS):
        least = 1 if (worth == 2).any() or y[:, 0].size == 1 else 2  # one value has one sign
        poor = np.flatnonzero((worth < least) | (distances < CLEAR * _scale(y)))
        if not len(poor):
            break
        other = _draw(traced, len(poor), seed, attempt)
        part = _output(traced, other, x)
        found, promise = _decisions(followers, part, masks, poor)
        # What tests nothing decides as clearly as one could wish: worth comes first, once a draw is clear at all.
        found_clear, was_clear = (far >= CLEAR * _scale(y) for far in (found, distances[poor]))
        rank, before = promise + 3 * found_clear, worth[poor] + 3 * was_clear
        better = (rank > before) | ((rank == before) & (found > distances[poor]))
        chosen = poor[better]
        for name, value in drawn.items():
            value[chosen] = other[name][better]
        y[:, chosen], distances[chosen], worth[chosen] = part[:, better], found[better], promise[better]
    params.update(drawn)
    return y, float(distances.min()) / _scale(y)


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


def _nearest(followers: list[TracedLayer], value: Array, masks: Masks) -> float:
    """The distance of the nearest decision, relative to the root mean square of `value`."""
    distances, _ = _decisions(followers, value, masks)
    return float(distances.min()) / _scale(value)


def _decisions(
    followers: list[TracedLayer], value: Array, masks: Masks, channels: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """For each channel how far the nearest decision after it is, and what it is worth to a test.

    0 where a ReLU lets nothing of it pass: no gradient flows. 1 where it is never negative: whether a ReLU follows
    cannot be seen. 2 for all others.

    `value` (N, C, H, W) or (N, F) may hold some `channels` only; a flatten does not mix them, and is passed over.
    """
    nearest, worth = np.full(value.shape[1], np.inf), 1 + (_per_channel(value) < 0)
    for traced in followers:
        if isinstance(traced.layer, Flatten):
            continue
        if isinstance(traced.layer, ReLU):
            # A zero is a sum of zeros, or what a mask or an earlier ReLU left, in float32 too: it passes no gradient.
            nearest = np.minimum(nearest, _per_channel(np.where(value != 0, np.abs(value), np.inf)))
            worth *= _per_channel(-value) < 0
        if isinstance(traced.layer, MaxPool2d):
            nearest = np.minimum(nearest, _per_channel(_gaps(traced.layer, value)))
        if (mask := masks.get(traced.name)) is not None:
            whole = mask.reshape(len(value), -1, *value.shape[2:])
            value = value * (whole if channels is None else whole[:, channels])
        else:
            value, _ = apply_layer(replace(traced, input=value.shape), value, {}, {})
    return nearest, worth


def _gaps(layer: MaxPool2d, value: Array) -> Array:
    """For each window how far its largest value is from the next smaller one; infinite where there is none."""
    windows, _ = windows_of(layer, value, -np.inf)
    flat = windows.reshape(*windows.shape[:4], -1)
    largest = flat.max(-1, keepdims=True)
    # Equal values are zeros that a ReLU or a mask left, or one value that two windows before have passed on:
    # whichever wins, the gradient goes the same way.
    gaps: Array = largest[..., 0] - np.where(flat < largest, flat, -np.inf).max(-1)
    return gaps


def _per_channel(value: Array) -> NDArray[np.float64]:
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    smallest: NDArray[np.float64] = value.min(axis=axes)
    return smallest
