"""Draws a layer's parameters, channel by channel, until every decision that comes after them is clear."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nin_multi import randomness
from nin_multi.backend import Masks, Params
from nin_multi.checks.decisions import Distances, channels_meet, decisions, nearest, scale_of
from nin_multi.oracle import Array, apply_layer
from nin_multi.oracle.units import sigmoid, softmax, squeeze, weigh
from nin_multi.randomness import Purpose
from nin_multi.spec import Conv2d, ReLU, SEBlock, Shape, SKBlock, TracedLayer

CLEAR = 1e-5  # from a decision, relative to the root mean square of the layer's values; float32 errs by about 1e-7
ATTEMPTS = 32
# Of a sum's terms without their signs: what the sum must differ by from image to image for a ReLU to let it pass for
# some of them. Where it differs less, float32 would leave too little of what passes.
APART = 0.01

Drawn = dict[str, NDArray[np.float32]]
Channels = NDArray[np.intp]


@dataclass(frozen=True)
class Rows:
    """Parameters with a row for each channel of what they make, so that some channels can be drawn anew alone.

    Attributes:
        channels: how many there are.
        draw: rows for so many channels, at this attempt.
        output: what comes out for these channels, (N, channels, ...), with these rows.
        is_signed: whether a draw can make it negative and positive.
    """

    channels: int
    draw: Callable[[int, int], Drawn]
    output: Callable[[Params, Channels], Array]
    is_signed: bool = True


@dataclass(frozen=True)
class Scene:
    """What surrounds a layer: the layers without parameters after it, those after them, masks, the seed.

    `ahead`: the layers that follow behind squeeze-and-excitation units. Such a unit multiplies channels by positive
    numbers: it makes no decision of a channel by itself clearer, so what comes after it is looked at before it.
    """

    followers: Sequence[TracedLayer]
    ahead: Sequence[TracedLayer]
    masks: Masks
    seed: int


def draw_layer(traced: TracedLayer, x: Array, scene: Scene, params: Drawn) -> tuple[Array, float]:
    """Draw what the layer holds, into `params`. Returns its output, and the least margin (see `clear_problem`)."""
    match traced.layer:
        case SEBlock():
            return _draw_se_block(traced, x, scene, params)
        case SKBlock():
            return _draw_sk_block(traced, traced.layer, x, scene, params)
        case _:
            return _draw_rows(_of_map(traced, x, scene.seed), scene, params)


def _draw_rows(rows: Rows, scene: Scene, params: Drawn) -> tuple[Array, float]:
    """Draw channels anew until each is clear and alive, and one at least is negative somewhere.

    Where `ATTEMPTS` draws fall short, the best one stays; where channels meet, the last one that was better in itself.
    """
    after = [*scene.followers, *scene.ahead]
    drawn = rows.draw(rows.channels, 0)
    y = rows.output(drawn, np.arange(rows.channels))
    distances, worth = decisions(after, y, scene.masks)
    for attempt in range(1, ATTEMPTS):
        one_sign = not rows.is_signed or y[:, 0].size == 1
        least = 1 if one_sign or (worth == 2).any() else 2
        poor = np.flatnonzero((worth < least) | (distances < CLEAR * scale_of(y)))
        if not len(poor):
            break
        other = rows.draw(len(poor), attempt)
        part = rows.output(other, poor)
        found, promise = _of_some(after, y, part, scene.masks, poor)
        # What tests nothing decides as clearly as one could wish: worth comes first, once a draw is clear at all.
        found_clear, was_clear = (far >= CLEAR * scale_of(y) for far in (found, distances[poor]))
        rank, before = promise + 3 * found_clear, worth[poor] + 3 * was_clear
        better = (rank > before) | ((rank == before) & (found > distances[poor]))
        chosen = poor[better]
        for name, value in drawn.items():
            value[chosen] = other[name][better]
        y[:, chosen], distances[chosen], worth[chosen] = part[:, better], found[better], promise[better]
        if channels_meet(after):
            distances, worth = decisions(after, y, scene.masks)
    params.update(drawn)
    margin = nearest(scene.followers, y, scene.masks) if scene.ahead else float(distances.min()) / scale_of(y)
    return y, margin


def _of_some(
    after: Sequence[TracedLayer], y: Array, part: Array, masks: Masks, poor: Channels
) -> tuple[Distances, NDArray[np.int_]]:
    """The decisions after these channels, were `part` in their place."""
    if not channels_meet(after):
        return decisions(after, part, masks, poor)
    whole = y.copy()
    whole[:, poor] = part
    distances, worth = decisions(after, whole, masks)
    return distances[poor], worth[poor]


def _of_map(traced: TracedLayer, x: Array, seed: int) -> Rows:
    """A convolution or a linear layer."""
    width = "out_channels" if isinstance(traced.layer, Conv2d) else "out_features"

    def output(drawn: Params, channels: Channels) -> Array:
        some = replace(traced, layer=traced.layer.model_copy(update={width: len(channels)}))
        return apply_layer(some, x, _exact(drawn), {})[0]

    return Rows(traced.output[1], partial(_draw, traced.parameters, seed), output)


def _draw(shapes: Mapping[str, Shape], seed: int, channels: int, attempt: int) -> Drawn:
    """For so many channels: weights within Xavier's bound, biases mostly positive, so that few channels are dead."""
    drawn: Drawn = {}
    for name, shape in shapes.items():
        some = (channels, *shape[1:])
        draw = randomness.uniform(some, seed=seed, purpose=Purpose.CHECK, step=attempt, part=name)
        fans = (shape[0] + shape[1]) * math.prod(shape[2:]) if len(shape) > 1 else 0
        value = (2.0 * draw - 1.0) * math.sqrt(6.0 / fans) if fans else 0.2 * draw - 0.05
        drawn[name] = value.astype(np.float32)
    return drawn


def _draw_se_block(traced: TracedLayer, x: Array, scene: Scene, params: Drawn) -> tuple[Array, float]:
    squeezed, margin = _draw_reduce(traced, x.mean((2, 3)), scene, params)
    weight, bias = (f"{traced.name}.expand.{role}" for role in ("weight", "bias"))

    def output(drawn: Params, channels: Channels) -> Array:
        gate = sigmoid(squeezed @ drawn[weight].T.astype(np.float64) + drawn[bias])
        return x[:, channels] * gate[:, :, None, None]

    shapes = {name: traced.parameters[name] for name in (weight, bias)}
    rows = Rows(x.shape[1], partial(_draw, shapes, scene.seed), output, is_signed=False)
    y, nearest_after = _draw_rows(rows, scene, params)
    return y, min(margin, nearest_after)


def _draw_sk_block(traced: TracedLayer, layer: SKBlock, x: Array, scene: Scene, params: Drawn) -> tuple[Array, float]:
    branches, margins = [], []
    relu = _relu(traced.name, traced.output)
    for branch in layer.branches():
        inner = _inner(traced, branch.name, branch, x.shape, traced.output)
        # The weights of a sum are positive: what decides in each branch alone is clear beforehand.
        here = replace(scene, followers=[relu], ahead=[*scene.followers, *scene.ahead])
        convolved, margin = _draw_rows(_of_map(inner, x, scene.seed), here, params)
        branches.append(np.maximum(convolved, 0.0))
        margins.append(margin)
    stacked = np.stack(branches)
    squeezed, margin = _draw_reduce(traced, squeeze(stacked), scene, params)
    y, nearest_after = _draw_rows(_of_selects(traced, stacked, squeezed, scene.seed), scene, params)
    return y, min(*margins, margin, nearest_after)


def _of_selects(traced: TracedLayer, branches: Array, squeezed: Array, seed: int) -> Rows:
    names = [f"{traced.name}.select{i}" for i, _ in enumerate(branches, start=1)]

    def output(drawn: Params, channels: Channels) -> Array:
        exact = _exact(drawn)
        chosen = [squeezed @ exact[f"{name}.weight"].T + exact[f"{name}.bias"] for name in names]
        return weigh(branches[:, :, channels], softmax(np.stack(chosen)))

    shapes = {f"{name}.{role}": traced.parameters[f"{name}.{role}"] for name in names for role in ("weight", "bias")}
    return Rows(traced.output[1], partial(_draw, shapes, seed), output, is_signed=False)


def _draw_reduce(traced: TracedLayer, means: Array, scene: Scene, params: Drawn) -> tuple[Array, float]:
    """The linear map of means (N, C) and the ReLU after it, which stand in both kinds of unit."""
    weight, bias = (f"{traced.name}.reduce.{role}" for role in ("weight", "bias"))
    shapes = {name: traced.parameters[name] for name in (weight, bias)}
    width = shapes[bias][0]

    def draw(channels: int, attempt: int) -> Drawn:
        drawn = _draw(shapes, scene.seed, channels, attempt)
        exact = drawn[weight].T.astype(np.float64)
        between = _between(means @ exact, np.abs(means) @ np.abs(exact))
        drawn[bias] = np.where(np.isnan(between), drawn[bias], -between).astype(np.float32)
        return drawn

    def output(drawn: Params, channels: Channels) -> Array:
        return means @ drawn[weight].T.astype(np.float64) + drawn[bias]

    relu = _relu(traced.name, (len(means), width))
    reduced, margin = _draw_rows(Rows(width, draw, output), replace(scene, followers=[relu], ahead=[]), params)
    return np.maximum(reduced, 0.0), margin


def _between(sums: Array, sizes: Array) -> Array:
    """For each column of sums (N, units) what lies between its middle two; NaN where they are too near to each other.

    `sizes`: the same without the terms' signs.
    """
    if len(sums) < 2:
        return np.full(sums.shape[1], np.nan)
    ordered, middle = np.sort(sums, axis=0), len(sums) // 2
    below, above = ordered[middle - 1], ordered[middle]
    return np.where(above - below > APART * sizes.max(0), (above + below) / 2, np.nan)


def _inner(traced: TracedLayer, name: str, layer: Conv2d, before: Shape, after: Shape) -> TracedLayer:
    """A convolution inside a unit, as a layer of its own."""
    full = f"{traced.name}.{name}"
    held = {key: shape for key, shape in traced.parameters.items() if key.startswith(f"{full}.")}
    return TracedLayer(full, layer, before, after, held, 0)


def _relu(name: str, shape: Shape) -> TracedLayer:
    """A ReLU inside a unit, as a layer of its own."""
    return TracedLayer(f"{name}.relu", ReLU(), shape, shape, {}, 0)


def _exact(drawn: Params) -> dict[str, Array]:
    return {name: np.asarray(value, np.float64) for name, value in drawn.items()}
