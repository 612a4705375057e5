"""How near what a net computes is to a decision: a ReLU's sign, or which value is the largest; not how it is drawn.

Decisions that come after a layer are told by that layer's channels, so that a channel near one can be drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Masks
from nin_multi.oracle import Array, apply_layer, windows_of
from nin_multi.oracle.dense import linear
from nin_multi.oracle.units import squeeze
from nin_multi.oracle.windows import conv2d
from nin_multi.spec import Flatten, LocalResponseNorm, Maxout, MaxPool2d, ReLU, SEBlock, SKBlock, TracedLayer

Distances = NDArray[np.float64]  # one for each channel


def follow(followers: Sequence[TracedLayer], value: Array, masks: Masks) -> Array:
    """What layers without parameters make of a value."""
    for traced in followers:
        value, _ = apply_layer(traced, value, {}, masks)
    return value


def scale_of(value: Array) -> float:
    """The root mean square; 1 where all is 0."""
    return float(np.sqrt(np.mean(value**2))) or 1.0


def nearest(followers: Sequence[TracedLayer], value: Array, masks: Masks) -> float:
    """The distance of the nearest decision, relative to the root mean square of `value`."""
    distances, _ = decisions(followers, value, masks)
    return float(distances.min()) / scale_of(value)


def nearest_inside(traced: TracedLayer, x: Array, params: Mapping[str, Array]) -> float:
    """The same for the ReLUs within a unit, each relative to what it is given; infinite where there is none."""
    found = [float(_off_zero(value).min()) / scale_of(value) for value in given_inside(traced, x, params)]
    return min(found, default=np.inf)


def given_inside(traced: TracedLayer, x: Array, params: Mapping[str, Array]) -> Iterator[Array]:
    """What each ReLU within a unit is given."""
    layer, name = traced.layer, traced.name
    if isinstance(layer, SEBlock):
        yield linear(f"{name}.reduce", x.mean((2, 3)), params)[0]
    if isinstance(layer, SKBlock):
        branches = [conv2d(branch, f"{name}.{branch.name}", x, params)[0] for branch in layer.branches()]
        yield from branches
        yield linear(f"{name}.reduce", squeeze(np.maximum(np.stack(branches), 0.0)), params)[0]


def channels_meet(followers: Sequence[TracedLayer]) -> bool:
    """Whether a decision after a channel may hang on other channels too."""
    return any(isinstance(traced.layer, Maxout | LocalResponseNorm) for traced in followers)


def decisions(
    followers: Sequence[TracedLayer], value: Array, masks: Masks, channels: NDArray[np.intp] | None = None
) -> tuple[Distances, NDArray[np.int_]]:
    """For each channel how far the nearest decision after it is, and what it is worth to a test.

    0 where a ReLU lets nothing of it pass: no gradient flows. 1 where it is never negative: whether a ReLU follows
    cannot be seen. 2 for all others.

    `value` (N, C, H, W) or (N, F) may hold some `channels` only, where channels do not meet; a flatten does not mix
    them, and is passed over.
    """
    near, worth = np.full(value.shape[1], np.inf), 1 + (_per_channel(value) < 0)
    owners = np.arange(value.shape[1])[:, None]  # of which channels each one of the value is made by now
    for traced in followers:
        layer = traced.layer
        if isinstance(layer, Flatten):
            continue
        if isinstance(layer, ReLU):
            np.minimum.at(near, owners, _per_channel(_off_zero(value))[:, None])
            passes = np.zeros_like(worth)
            np.maximum.at(passes, owners, (_per_channel(-value) < 0)[:, None])
            worth *= passes
        if isinstance(layer, MaxPool2d):
            np.minimum.at(near, owners, _per_channel(_gaps_in_windows(layer, value))[:, None])
        if isinstance(layer, Maxout):
            value, owners = _as_the_layer_has_it(traced, value, owners)
            owners = owners.reshape(-1, layer.pieces * owners.shape[1])
            np.minimum.at(near, owners, _per_channel(_gaps_in_groups(layer, value))[:, None])
        if (mask := masks.get(traced.name)) is not None:
            whole = mask.reshape(len(value), -1, *value.shape[2:])
            value = value * (whole if channels is None else whole[:, channels])
        else:
            value, _ = apply_layer(replace(traced, input=value.shape), value, {}, {})
    return near, worth


def _as_the_layer_has_it(traced: TracedLayer, value: Array, owners: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """Flat where a flatten was passed over: there pixels are compared as channels are elsewhere."""
    if value.ndim == len(traced.input):
        return value, owners
    flat = value.reshape(len(value), -1)
    return flat, np.repeat(owners, flat.shape[1] // len(owners), axis=0)


def _off_zero(value: Array) -> Array:
    """How far from 0, infinite where it is 0.

    A zero is a sum of zeros, or what a mask or an earlier ReLU left, in float32 too: it passes no gradient.
    """
    return np.where(value != 0, np.abs(value), np.inf)


def _gaps_in_windows(layer: MaxPool2d, value: Array) -> Array:
    windows, _ = windows_of(layer, value, -np.inf)
    return _gaps(windows.reshape(*windows.shape[:4], -1))


def _gaps_in_groups(layer: Maxout, value: Array) -> Array:
    groups = value.reshape(len(value), -1, layer.pieces, *value.shape[2:])
    return _gaps(np.moveaxis(groups, 2, -1))


def _gaps(rivals: Array) -> Array:
    """How far the largest along the last axis is from the next smaller one; infinite where there is none."""
    largest = rivals.max(-1, keepdims=True)
    # Equal values are zeros that a ReLU or a mask left, or one value that two windows before have passed on:
    # whichever wins, the gradient goes the same way.
    gaps: Array = largest[..., 0] - np.where(rivals < largest, rivals, -np.inf).max(-1)
    return gaps


def _per_channel(value: Array) -> Distances:
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    smallest: Distances = value.min(axis=axes)
    return smallest
