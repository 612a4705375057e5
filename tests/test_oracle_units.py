"""Maxout, local response normalisation and the units of the oracle: naive loops, hand calculation, differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nin_multi.oracle import apply_layer
from nin_multi.spec import Architecture, TracedLayer

Array = NDArray[np.float64]
Params = dict[str, Array]


def one_layer(fields: dict[str, Any], shape: tuple[int, ...]) -> TracedLayer:
    """The layer alone, with its shapes, behind a flatten where it is given rows."""
    layers = [{**fields, "name": "it"}, {"type": "flatten"}]
    if len(shape) == 2:
        layers = layers[::-1]
    size = shape[1:] if len(shape) == 4 else (shape[1], 1, 1)
    net = Architecture.model_validate({"name": "x", "input": size, "layers": layers})
    return next(row for row in net.trace(shape[0]) if row.name == "it")


def normal(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.RandomState(seed).standard_normal(shape)


def with_params(fields: dict[str, Any], shape: tuple[int, ...]) -> tuple[TracedLayer, Params]:
    traced = one_layer(fields, shape)
    return traced, {name: normal(size, seed) for seed, (name, size) in enumerate(traced.parameters.items(), start=1)}


def relu(value: float) -> float:
    return max(value, 0.0)


# --- maxout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (2, 6)])
def test_maxout_compares_channels_that_follow_one_another(shape: tuple[int, ...]) -> None:
    x = normal(shape)
    y, _ = apply_layer(one_layer({"type": "maxout", "pieces": 3}, shape), x, {}, {})
    assert y.shape == (2, 2, *shape[2:])
    for place in np.ndindex(*y.shape):
        pieces = [(place[0], 3 * place[1] + piece, *place[2:]) for piece in range(3)]
        assert y[place] == max(x[each] for each in pieces)


def test_maxout_passes_the_gradient_to_the_first_of_equal_values() -> None:
    x = np.array([[1.0, 2.0, 2.0, 0.0, 0.0, -1.0]])
    _, back = apply_layer(one_layer({"type": "maxout", "pieces": 3}, x.shape), x, {}, {})
    np.testing.assert_array_equal(back(np.array([[5.0, 7.0]]), {}), [[0, 5, 0, 7, 0, 0]])


# --- local response normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "channels"), [(1, 3), (3, 4), (5, 3), (5, 7), (99, 4)])
def test_local_response_norm_is_the_papers_formula(size: int, channels: int) -> None:
    fields = {"type": "local_response_norm", "size": size, "alpha": 0.3, "beta": 0.6, "k": 1.5}
    x = normal((2, channels, 2, 3))
    y, _ = apply_layer(one_layer(fields, x.shape), x, {}, {})
    for i, c, h, w in np.ndindex(*x.shape):
        first, last = max(0, c - size // 2), min(channels - 1, c + size // 2)
        total = math.fsum(x[i, other, h, w] ** 2 for other in range(first, last + 1))
        np.testing.assert_allclose(y[i, c, h, w], x[i, c, h, w] / (1.5 + 0.3 * total) ** 0.6, rtol=1e-13)


def test_local_response_norm_by_hand() -> None:
    # Two channels with 3 and 4, k 2, alpha 1, beta 1/2: 3 / sqrt(2 + 9 + 16), 4 / sqrt(27).
    fields = {"type": "local_response_norm", "alpha": 1.0, "beta": 0.5}
    x = np.array([3.0, 4.0]).reshape(1, 2, 1, 1)
    y, _ = apply_layer(one_layer(fields, x.shape), x, {}, {})
    np.testing.assert_allclose(y.ravel(), [3 / math.sqrt(27), 4 / math.sqrt(27)], rtol=1e-15)


# --- units -------------------------------------------------------------------------------------------------------


def dense(row: list[float], weight: Array, bias: Array) -> list[float]:
    return [
        math.fsum([*(a * b for a, b in zip(row, line, strict=True)), add])
        for line, add in zip(weight, bias, strict=True)
    ]


def test_se_block_step_by_step() -> None:
    traced, params = with_params({"type": "se_block", "reduction": 2}, (2, 5, 3, 2))
    x = normal((2, 5, 3, 2), 9)
    y, _ = apply_layer(traced, x, params, {})
    for i, image in enumerate(x):
        means = [math.fsum(channel.ravel()) / 6 for channel in image]
        squeezed = [relu(z) for z in dense(means, params["it.reduce.weight"], params["it.reduce.bias"])]
        assert len(squeezed) == 2
        gates = dense(squeezed, params["it.expand.weight"], params["it.expand.bias"])
        for channel, gate in enumerate(gates):
            np.testing.assert_allclose(y[i, channel], image[channel] / (1 + math.exp(-gate)), rtol=1e-12)


def test_a_gate_that_is_wide_open_or_shut_overflows_nowhere() -> None:
    traced, params = with_params({"type": "se_block"}, (1, 2, 2, 2))
    params = {name: np.zeros_like(value) for name, value in params.items()}
    params["it.expand.bias"] = np.array([1e4, -1e4])
    x = normal((1, 2, 2, 2))
    with np.errstate(all="raise"):
        y, back = apply_layer(traced, x, params, {})
        back(np.ones_like(y), {})
    np.testing.assert_array_equal(y[:, 0], x[:, 0])
    np.testing.assert_array_equal(y[:, 1], np.zeros((1, 2, 2)))


SK = {"type": "sk_block", "out_channels": 3, "kernel_sizes": [1, 3, 5], "stride": [2, 1], "min_channels": 2}


def naive_branch(image: Array, weight: Array, bias: Array, stride: tuple[int, int]) -> Array:
    (channels, height, width), kernel = image.shape, weight.shape[-1]
    rows, columns = -(-height // stride[0]), -(-width // stride[1])
    y = np.zeros((len(weight), rows, columns))
    for out, r, s in np.ndindex(*y.shape):
        total = bias[out]
        for c, a, b in np.ndindex(channels, kernel, kernel):
            top, left = r * stride[0] - kernel // 2 + a, s * stride[1] - kernel // 2 + b
            if 0 <= top < height and 0 <= left < width:
                total += image[c, top, left] * weight[out, c, a, b]
        y[out, r, s] = relu(total)
    return y


def test_sk_block_step_by_step() -> None:
    traced, params = with_params(SK, (2, 2, 5, 4))
    x = normal((2, 2, 5, 4), 9)
    y, _ = apply_layer(traced, x, params, {})
    assert y.shape == traced.output == (2, 3, 3, 4)
    for i, image in enumerate(x):
        named = [(params[f"it.branch{b}.weight"], params[f"it.branch{b}.bias"]) for b in (1, 2, 3)]
        branches = [naive_branch(image, weight, bias, (2, 1)) for weight, bias in named]
        means = [math.fsum(float(branch[c].sum()) for branch in branches) / 12 for c in range(3)]
        squeezed = [relu(z) for z in dense(means, params["it.reduce.weight"], params["it.reduce.bias"])]
        chosen = [dense(squeezed, params[f"it.select{b}.weight"], params[f"it.select{b}.bias"]) for b in (1, 2, 3)]
        for c in range(3):
            raised = [math.exp(each[c]) for each in chosen]
            expected = sum(raised[b] / sum(raised) * branches[b][c] for b in range(3))
            np.testing.assert_allclose(y[i, c], expected, rtol=1e-12, atol=1e-14)


def test_branches_that_are_chosen_with_huge_numbers_overflow_nowhere() -> None:
    traced, params = with_params(SK, (1, 2, 5, 4))
    params |= {f"it.select{b}.bias": np.full(3, 1e4 * b) for b in (1, 2, 3)}
    x = normal((1, 2, 5, 4))
    with np.errstate(over="raise", invalid="raise"):
        y, _ = apply_layer(traced, x, params, {})
    expected = naive_branch(x[0], params["it.branch3.weight"], params["it.branch3.bias"], (2, 1))
    np.testing.assert_allclose(y[0], expected, rtol=1e-12, atol=1e-14)


# --- backward ----------------------------------------------------------------------------------------------------

LAYERS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"type": "maxout", "pieces": 2}, (2, 4, 3, 2)),
    ({"type": "maxout", "pieces": 5}, (3, 10)),
    ({"type": "local_response_norm", "alpha": 0.7}, (2, 7, 3, 2)),
    ({"type": "local_response_norm", "size": 3, "alpha": 2.0, "beta": 1.5, "k": 0.5}, (2, 2, 3, 2)),
    ({"type": "se_block", "reduction": 2}, (3, 5, 3, 2)),
    ({"type": "se_block"}, (3, 2, 1, 1)),
    (SK, (3, 2, 5, 4)),
    ({"type": "sk_block", "out_channels": 8, "reduction": 2, "min_channels": 1}, (2, 3, 4, 5)),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("fields", "shape"), LAYERS, ids=lambda value: str(value)[:60])
def test_every_gradient_is_a_central_difference(fields: dict[str, Any], shape: tuple[int, ...], seed: int) -> None:
    traced, params = with_params(fields, shape)
    named = {**params, "x": normal(shape, 100 + seed)}
    weights = normal(traced.output, 200 + seed)  # the loss is the sum of all outputs, each times one of these

    def loss(changed: Params) -> float:
        return float((apply_layer(traced, changed["x"], changed, {})[0] * weights).sum())

    gradients: Params = {}
    gradients["x"] = apply_layer(traced, named["x"], named, {})[1](weights, gradients)
    assert gradients.keys() == named.keys()
    for name, value in named.items():
        assert gradients[name].shape == value.shape
        found = np.zeros(value.size)
        for place in range(value.size):
            step = np.zeros(value.size)
            step[place] = 1e-6
            up, down = (loss({**named, name: value + sign * step.reshape(value.shape)}) for sign in (1, -1))
            found[place] = (up - down) / 2e-6
        np.testing.assert_allclose(gradients[name].ravel(), found, rtol=1e-5, atol=1e-7, err_msg=name)
