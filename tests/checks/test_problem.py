"""Problems of `clear_problem` and `stored_problem`: what is given to a backend, and how near its decisions are.

The nearest decision is looked for once more, pixel by pixel; what a backend makes of a problem is tested elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import architectures

from nin_multi import load
from nin_multi.checks import Problem, clear_problem, draws, stored_problem
from nin_multi.checks.decisions import decisions
from nin_multi.oracle import apply_layer
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture, Conv2d, Linear, Maxout, MaxPool2d, ReLU, SEBlock, SKBlock, TracedLayer

Array = NDArray[np.float64]

BLOCK = {"type": "nin_block", "out_channels": 8, "kernel_size": 3, "padding": 1}
FLATTEN = {"type": "flatten"}
RELU = {"type": "relu"}


def net(size: list[int], *layers: dict[str, Any]) -> Architecture:
    return Architecture.model_validate({"name": "x", "input": size, "layers": layers})


NIN = net([1, 20, 20], BLOCK, {"type": "max_pool2d", "kernel_size": 3, "stride": 2}, BLOCK, FLATTEN)


# --- the nearest decision, once more ------------------------------------------------------------------------------


def in_training(posed: Problem) -> Iterator[tuple[TracedLayer, Array, float]]:
    """Every layer with its input in training, and the root mean square of what the last layer with weights gave."""
    params = {name: np.asarray(value, np.float64) for name, value in posed.params.items()}
    value = np.asarray(posed.x, np.float64)
    scale = math.sqrt(np.mean(value**2))
    for row in posed.architecture.trace(len(posed.y)):
        for part in row.inner or (row,):
            yield part, value, scale
            value, _ = apply_layer(part, value, params, posed.masks)
            if isinstance(part.layer, (Conv2d, Linear, SEBlock, SKBlock)):
                scale = math.sqrt(np.mean(value**2)) or 1.0


def gaps(layer: MaxPool2d, x: Array, shape: tuple[int, ...]) -> Iterator[float]:
    """Of each window, how far its largest pixel is from the next smaller one."""
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    for i, c, row, column in np.ndindex(*shape):
        down, right = row * sh - ph, column * sw - pw
        window = x[i, c, max(down, 0) : down + kh, max(right, 0) : right + kw]
        pixels = sorted(set(window.ravel().tolist()))
        if len(pixels) > 1:
            yield pixels[-1] - pixels[-2]


def pieces(layer: Maxout, x: Array) -> Iterator[float]:
    """Of each maxout's pieces, how far the largest is from the next smaller one."""
    for i, j, *place in np.ndindex(len(x), x.shape[1] // layer.pieces, *x.shape[2:]):
        rivals = [(i, j * layer.pieces + piece, *place) for piece in range(layer.pieces)]
        found = sorted({float(x[each]) for each in rivals})
        if len(found) > 1:
            yield found[-1] - found[-2]


def rows_through(x: Array, params: dict[str, Array], name: str) -> Array:
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def inside(part: TracedLayer, x: Array, posed: Problem) -> Iterator[Array]:
    """What the ReLUs inside a unit get."""
    params = {name: np.asarray(value, np.float64) for name, value in posed.params.items()}
    if isinstance(part.layer, SEBlock):
        yield rows_through(x.mean(axis=(2, 3)), params, f"{part.name}.reduce")
    if isinstance(part.layer, SKBlock):
        total: Any = 0.0
        for branch in part.layer.branches():
            alone = TracedLayer(f"{part.name}.{branch.name}", branch, x.shape, part.output, {}, 0)
            convolved, _ = apply_layer(alone, x, params, {})
            yield convolved
            total = total + np.maximum(convolved, 0)
        yield rows_through(total.mean(axis=(2, 3)), params, f"{part.name}.reduce")


def off_zero(value: Array) -> list[float]:
    return list(np.abs(value[value != 0]).tolist())


def nearest_decision(posed: Problem) -> float:
    """Of every ReLU's input, every window and every maxout's pieces. What is exactly 0 is 0 in any arithmetic."""
    nearest = math.inf
    for part, value, scale in in_training(posed):
        found: list[float] = []
        if isinstance(part.layer, ReLU):
            found = off_zero(value)
        if isinstance(part.layer, MaxPool2d):
            found = list(gaps(part.layer, value, part.output))
        if isinstance(part.layer, Maxout):
            found = list(pieces(part.layer, value))
        for before in inside(part, value, posed):
            nearest = min(nearest, min(off_zero(before), default=math.inf) / (math.sqrt(np.mean(before**2)) or 1.0))
        nearest = min(nearest, min(found, default=math.inf) / scale)
    return nearest


def dead_channels(posed: Problem) -> int:
    """Channels of which no value passes a ReLU."""
    relus = (value for part, value, _ in in_training(posed) if isinstance(part.layer, ReLU))
    return sum(int((value[:, c] <= 0).all()) for value in relus for c in range(value.shape[1]))


@settings(max_examples=60, deadline=None)
@given(architectures(max_size=12), st.integers(1, 4), st.integers(0, 2**63 - 1))
def test_the_margin_is_that_of_the_nearest_decision(architecture: Architecture, batch: int, seed: int) -> None:
    posed = clear_problem(architecture, batch, seed)
    np.testing.assert_allclose(posed.margin, nearest_decision(posed), rtol=1e-6)
    assert posed.is_clear == (posed.margin > 1e-6)


@settings(max_examples=30, deadline=None)
@given(architectures(max_size=12), st.integers(1, 4), st.integers(0, 2**32))
def test_a_problem_is_the_same_each_time(architecture: Architecture, batch: int, seed: int) -> None:
    first, second = (clear_problem(architecture, batch, seed) for _ in range(2))
    assert (first.x.tobytes(), first.y.tobytes(), first.margin) == (
        second.x.tobytes(),
        second.y.tobytes(),
        second.margin,
    )
    assert list(first.params) == list(second.params)
    for name, value in first.params.items():
        assert value.tobytes() == second.params[name].tobytes()


@settings(max_examples=40, deadline=None)
@given(architectures(), st.integers(1, 5), st.integers(0, 2**32))
def test_what_a_problem_consists_of(architecture: Architecture, batch: int, seed: int) -> None:
    posed = clear_problem(architecture, batch, seed)
    assert (posed.architecture, posed.seed) == (architecture, seed)
    assert (posed.x.shape, posed.x.dtype) == ((batch, *architecture.input), np.float32)
    assert posed.x.min() >= 0
    assert posed.x.max() <= 1
    assert (posed.y.shape, posed.y.dtype) == ((batch,), np.int32)
    assert posed.y.min() >= 0
    assert posed.y.max() < architecture.classes
    expected = architecture.parameter_shapes()
    assert [(name, value.shape) for name, value in posed.params.items()] == list(expected.items())
    assert {value.dtype for value in posed.params.values()} <= {np.dtype(np.float32)}
    for value in posed.params.values():
        assert np.all(value != 0)
    assert {name: mask.shape for name, mask in posed.masks.items()} == {
        name: (batch, *shape) for name, (_, shape) in architecture.dropouts().items()
    }


def test_every_class_gets_a_label() -> None:
    assert set(clear_problem(net([1, 2, 2], FLATTEN), 200).y.tolist()) == {0, 1, 2, 3}


def test_seeds_differ_in_everything() -> None:
    architecture = net([1, 8, 8], BLOCK, {"type": "dropout", "rate": 0.5}, FLATTEN)
    one, other = (clear_problem(architecture, 8, seed) for seed in (0, 1))
    assert not np.any(one.x == other.x)
    assert not np.array_equal(one.y, other.y)
    assert not np.array_equal(one.masks["dropout1"], other.masks["dropout1"])
    for name, value in one.params.items():
        assert not np.any(value == other.params[name]), name


def test_steps_have_masks_of_their_own() -> None:
    posed = clear_problem(net([1, 8, 8], {"type": "dropout", "rate": 0.5}, FLATTEN), 2)
    assert np.array_equal(posed.masks["dropout1"], posed.masks_of(0)["dropout1"])
    assert not np.array_equal(posed.masks["dropout1"], posed.masks_of(1)["dropout1"])


# --- drawing -------------------------------------------------------------------------------------------------------


def test_weights_are_drawn_until_they_decide_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    posed = clear_problem(NIN, 8)
    assert posed.margin >= 1e-5
    assert nearest_decision(posed) >= 1e-5
    assert posed.is_clear
    monkeypatch.setattr(draws, "ATTEMPTS", 1)  # 8 images x 20 x 20 x 8 channels x 3: no draw is clear by chance
    once = clear_problem(NIN, 8)
    assert once.margin < 1e-6
    assert not once.is_clear
    changed = [name for name, value in posed.params.items() if not np.array_equal(value, once.params[name])]
    assert changed
    # Channel by channel: most stay as they were drawn first.
    first = changed[0]
    kept = [np.array_equal(a, b) for a, b in zip(posed.params[first], once.params[first], strict=True)]
    assert 0 < sum(kept) < len(kept)


def test_a_channel_drawn_anew_keeps_its_mask() -> None:
    """Of some channels alone the same is found as of those channels among all."""
    layers = [{"type": "dropout", "rate": 0.5}, {"type": "max_pool2d", "kernel_size": 2, "stride": 1}, FLATTEN]
    architecture = net([6, 5, 4], *layers, {"type": "dropout", "rate": 0.5}, RELU)
    masks, rows = clear_problem(architecture, 3).masks, list(architecture.trace(3))
    value, some = np.random.RandomState(0).standard_normal((3, 6, 5, 4)), np.array([1, 2, 5])
    for whole, part in zip(decisions(rows, value, masks), decisions(rows, value[:, some], masks, some), strict=True):
        np.testing.assert_array_equal(part, whole[some])


def test_dead_channels_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = net([3, 1, 1], {**BLOCK, "kernel_size": 1, "padding": 0}, FLATTEN, RELU)
    assert [dead_channels(clear_problem(narrow, 2, seed)) for seed in range(30)] == [0] * 30
    monkeypatch.setattr(draws, "ATTEMPTS", 1)
    assert sum(dead_channels(clear_problem(narrow, 2, seed)) for seed in range(30)) > 30


def test_a_channel_that_no_draw_revives_is_no_decision_that_is_near() -> None:
    """A mask that drops the only pixel: all that a layer without a bias gets is zeros."""
    convolution = {"type": "conv2d", "out_channels": 2, "kernel_size": 1, "bias": False}
    architecture = net([1, 1, 1], {"type": "dropout", "rate": 0.9}, convolution, RELU, FLATTEN)
    found = [clear_problem(architecture, 1, seed) for seed in range(10)]
    dropped = [posed for posed in found if not posed.masks["dropout1"].any()]
    assert dropped
    for posed in dropped:
        assert dead_channels(posed) == 2
        assert posed.margin == math.inf


@pytest.mark.parametrize(
    "layers",
    [
        [BLOCK, RELU, FLATTEN],
        [{"type": "conv2d", "out_channels": 4, "kernel_size": 3}, {"type": "dropout", "rate": 0.5}, RELU, FLATTEN],
        [BLOCK, FLATTEN, {"type": "dropout", "rate": 0.5}, RELU],
        # The border of what comes out is all padding.
        [{"type": "conv2d", "out_channels": 4, "kernel_size": 1, "padding": 1, "bias": False}, RELU, FLATTEN],
        [BLOCK, {"type": "max_pool2d", "kernel_size": 2, "stride": 1}, FLATTEN, RELU],
    ],
    ids=["a ReLU twice", "a mask before a ReLU", "a mask behind a flatten", "padding alone", "a pool after a ReLU"],
)
def test_zeros_that_no_arithmetic_misses_are_clear(layers: list[dict[str, Any]]) -> None:
    posed = clear_problem(net([1, 6, 6], *layers), 3)
    assert posed.margin >= 1e-5
    np.testing.assert_allclose(posed.margin, nearest_decision(posed), rtol=1e-6)


def test_pools_over_pools_look_past_what_they_see_twice() -> None:
    """The two largest values of a window may be one pixel; then the third is what nearly wins."""
    pool = {"type": "max_pool2d", "kernel_size": [1, 2], "stride": 1}
    architecture = net([1, 1, 4], pool, {**pool, "kernel_size": [1, 3]}, FLATTEN)
    for seed in range(30):
        posed = clear_problem(architecture, 1, seed)
        a, b, c, d = posed.x.ravel().astype(np.float64)
        first = [abs(a - b), abs(b - c), abs(c - d)]
        seen = sorted({max(a, b), max(b, c), max(c, d)})
        second = seen[-1] - seen[-2] if len(seen) > 1 else math.inf
        np.testing.assert_allclose(posed.margin, min(*first, second) / math.sqrt(np.mean([a * a, b * b, c * c, d * d])))


def test_without_a_decision_there_is_no_nearest_one() -> None:
    posed = clear_problem(
        net([1, 3, 3], {"type": "global_avg_pool2d"}, FLATTEN, {"type": "linear", "out_features": 2}), 2
    )
    assert posed.margin == math.inf
    assert posed.is_clear


@pytest.mark.parametrize("name", ["nin-mnist", "nin-cifar10"])
def test_the_authors_nets_can_be_drawn_clearly(name: str) -> None:
    posed = clear_problem(load(name), 1)
    assert posed.margin >= 1e-5
    assert dead_channels(posed) == 0


# --- stored weights --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(architectures(max_size=12), st.integers(1, 3), st.integers(0, 2**32))
def test_stored_weights_stay_as_they_are(architecture: Architecture, batch: int, seed: int) -> None:
    params = initial_parameters(architecture, seed=5)
    before = {name: value.copy() for name, value in params.items()}
    posed, fresh = stored_problem(architecture, params, batch, seed), clear_problem(architecture, batch, seed)
    assert list(posed.params) == list(params)
    for name, value in before.items():
        np.testing.assert_array_equal(posed.params[name], value)
        np.testing.assert_array_equal(params[name], value)
    assert (posed.x.tobytes(), posed.y.tobytes(), posed.seed) == (fresh.x.tobytes(), fresh.y.tobytes(), seed)
    np.testing.assert_allclose(posed.margin, nearest_decision(posed), rtol=1e-6)


TWO = net([1, 1, 1], FLATTEN, {"type": "linear", "out_features": 2}, RELU)


@pytest.mark.parametrize(
    ("bias", "margin"),
    [
        ((1e-9, 1.0), 1e-9 * math.sqrt(2)),
        ((-1e-9, 1.0), 1e-9 * math.sqrt(2)),
        ((0.5, -0.5), 1.0),
        ((0.0, -0.5), math.sqrt(2)),
        ((-0.5, -0.5), 1.0),
    ],
    ids=str,
)
def test_the_margin_of_stored_weights_by_hand(bias: tuple[float, float], margin: float) -> None:
    """With weights of 0 the biases are what the ReLU gets; a dead channel is as far from deciding as it is."""
    params = {"linear1.weight": np.zeros((2, 1), np.float32), "linear1.bias": np.array(bias, np.float32)}
    posed = stored_problem(TWO, params, 3)
    np.testing.assert_allclose(posed.margin, margin, rtol=1e-6)
    assert posed.is_clear == (margin > 1e-6)
