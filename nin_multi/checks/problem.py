"""What a backend is given to compute: weights, images, labels, masks; not what has to come out.

A ReLU, a max pool and a maxout decide. Where a value lies within float32's rounding of a decision, a float32 net may
rightly decide otherwise than float64, and then a whole gradient passes, or none: one of a million such decisions moves
a convolution's gradient by 1e-3. So the weights are drawn, channel by channel, until every decision is clear; then
gradients can be compared as tightly as everything else, and no tolerance is widened for kinks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi import randomness
from nin_multi.backend import Images, Labels, Masks, Params
from nin_multi.checks import draws
from nin_multi.checks.decisions import follow, nearest, nearest_inside
from nin_multi.checks.draws import CLEAR, Scene, draw_layer
from nin_multi.oracle import Array, apply_layer
from nin_multi.randomness import Purpose
from nin_multi.spec import Architecture, Conv2d, Linear, SEBlock, SKBlock, TracedLayer


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

    `margin` is the distance of the nearest pre-activation from 0, or of the two largest values in a pool's window or
    among a maxout's pieces from each other, relative to the root mean square of its layer: at least `CLEAR` unless
    all of a few draws fell short.
    """
    masks = randomness.dropout_masks(architecture, batch, seed, 0)
    segments = list(_segments(architecture, batch))
    scenes = [Scene(followers, _ahead(segments, i), masks, seed) for i, (_, followers) in enumerate(segments)]
    params: dict[str, NDArray[np.float32]] = {}
    x, margin = _images(architecture, batch, scenes[0])
    value = follow(scenes[0].followers, np.asarray(x, np.float64), masks)
    for (traced, followers), scene in zip(segments[1:], scenes[1:], strict=True):
        value, nearest_here = draw_layer(traced, value, scene, params)
        margin = min(margin, nearest_here)
        value = follow(followers, value, masks)
    ordered = {name: params[name] for name in architecture.parameter_shapes()}
    return Problem(architecture, ordered, x, _labels(architecture, batch, seed), seed, margin)


def stored_problem(architecture: Architecture, params: Params, batch: int, seed: int = 0) -> Problem:
    """Random images for weights that are given; how clear its decisions are is as it happens to be."""
    masks, segments = randomness.dropout_masks(architecture, batch, seed, 0), list(_segments(architecture, batch))
    x, margin = _images(architecture, batch, Scene(segments[0][1], _ahead(segments, 0), masks, seed))
    value: Array = np.asarray(x, np.float64)
    exact = {name: np.asarray(array, np.float64) for name, array in params.items()}
    for traced, followers in segments:
        if traced is not None:
            margin = min(margin, nearest_inside(traced, value, exact))
            value = apply_layer(traced, value, exact, {})[0]
        margin = min(margin, nearest(followers, value, masks))
        value = follow(followers, value, masks)
    return Problem(architecture, params, x, _labels(architecture, batch, seed), seed, margin)


def _labels(architecture: Architecture, batch: int, seed: int) -> Labels:
    words = randomness.words(batch, seed=seed, purpose=Purpose.CHECK, part="labels")
    return (words % np.uint64(architecture.classes)).astype(np.int32)


def _segments(architecture: Architecture, batch: int) -> Iterator[tuple[Any, list[TracedLayer]]]:
    """Each layer with parameters, and the layers without that follow it; None and those before the first one."""
    head: TracedLayer | None = None
    followers: list[TracedLayer] = []
    for part in (part for row in architecture.trace(batch) for part in row.inner or (row,)):
        if isinstance(part.layer, (Conv2d, Linear, SEBlock, SKBlock)):
            yield head, followers
            head, followers = part, []
        else:
            followers.append(part)
    yield head, followers


def _ahead(segments: list[tuple[Any, list[TracedLayer]]], index: int) -> list[TracedLayer]:
    """What follows this segment as long as only squeeze-and-excitation units stand between."""
    found: list[TracedLayer] = []
    for head, followers in segments[index + 1 :]:
        if not isinstance(head.layer, SEBlock):
            break
        found += followers
    return found


def _images(architecture: Architecture, batch: int, scene: Scene) -> tuple[Images, float]:
    """The clearest draw; and how clear it is to the layers before the first one with parameters."""
    best: tuple[Images, float] | None = None
    for attempt in range(draws.ATTEMPTS):
        draw = randomness.uniform(
            (batch, *architecture.input), seed=scene.seed, purpose=Purpose.CHECK, step=attempt, part="x"
        )
        x = draw.astype(np.float32)
        margin = nearest([*scene.followers, *scene.ahead], np.asarray(x, np.float64), scene.masks)
        if best is None or margin > best[1]:
            best = x, margin
        if margin > CLEAR:
            break
    assert best is not None
    return best[0], nearest(scene.followers, np.asarray(best[0], np.float64), scene.masks)
