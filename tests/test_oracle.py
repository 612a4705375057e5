"""The oracle against naive loops, finite differences and hand calculation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import architectures

from nin_multi.oracle import NumpyBackend, NumpyNetwork, apply_layer, cross_entropy
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture, TracedLayer

Array = NDArray[np.float64]


def one_layer(fields: dict[str, Any], shape: tuple[int, ...]) -> TracedLayer:
    """The layer alone, with its shapes, behind a flatten where it needs one."""
    layers = [{**fields, "name": "it"}, {"type": "flatten"}]
    if fields["type"] == "linear":
        layers = [{"type": "flatten"}, layers[0]]
    size = shape[1:] if len(shape) == 4 else (shape[1], 1, 1)
    net = Architecture.model_validate({"name": "x", "input": size, "layers": layers})
    return next(row for row in net.trace(shape[0]) if row.name == "it")


def normal(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.RandomState(seed).standard_normal(shape)


def forward(fields: dict[str, Any], x: Array, params: dict[str, Array] | None = None) -> Array:
    return apply_layer(one_layer(fields, x.shape), x, params or {}, {})[0]


def backward(fields: dict[str, Any], x: Array, g: Array, params: dict[str, Array] | None = None) -> Array:
    return apply_layer(one_layer(fields, x.shape), x, params or {}, {})[1](g, {})


# --- forward: naive loops ----------------------------------------------------------------------------------------


def naive_conv2d(x: Array, weight: Array, bias: Array, stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    n, c, h, w = x.shape
    out, _, kh, kw = weight.shape
    rows = len(range(-padding[0], h + padding[0] - kh + 1, stride[0]))
    columns = len(range(-padding[1], w + padding[1] - kw + 1, stride[1]))
    y = np.zeros((n, out, rows, columns))
    for i, o, r, s in np.ndindex(*y.shape):
        total = bias[o]
        for ci, a, b in np.ndindex(c, kh, kw):
            top, left = r * stride[0] - padding[0] + a, s * stride[1] - padding[1] + b
            if 0 <= top < h and 0 <= left < w:
                total += x[i, ci, top, left] * weight[o, ci, a, b]
        y[i, o, r, s] = total
    return y


def naive_pool(x: Array, fields: dict[str, Any], shape: tuple[int, ...], average: bool) -> Array:
    """Max over the window's pixels; or their sum over as many places as the window has on the padded image."""
    (kh, kw), (sh, sw), (ph, pw) = fields["kernel_size"], fields["stride"], fields["padding"]
    _, _, h, w = x.shape
    y = np.zeros(shape)
    for i, c, r, s in np.ndindex(*shape):
        places = [(r * sh - ph + a, s * sw - pw + b) for a in range(kh) for b in range(kw)]
        pixels = [x[i, c, top, left] for top, left in places if 0 <= top < h and 0 <= left < w]
        on_padded = [1 for top, left in places if top < h + ph and left < w + pw]
        y[i, c, r, s] = math.fsum(pixels) / len(on_padded) if average else max(pixels)
    return y


small = st.integers(1, 3)
pairs = st.tuples(small, small)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 2), small, st.integers(1, 7), st.integers(1, 7)),
    small,
    pairs,
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
)
def test_conv2d(
    shape: tuple[int, int, int, int],
    out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    bias: bool,
) -> None:
    kh, kw = (min(k, size + 2 * p) for k, size, p in zip(kernel, shape[2:], padding, strict=True))
    weight, add, x = normal((out, shape[1], kh, kw), 1), normal((out,), 2), normal(shape)
    fields = {"type": "conv2d", "out_channels": out, "kernel_size": (kh, kw), "stride": stride, "padding": padding}
    params = {"it.weight": weight, **({"it.bias": add} if bias else {})}
    expected = naive_conv2d(x, weight, add if bias else np.zeros(out), stride, padding)
    np.testing.assert_allclose(forward({**fields, "bias": bias}, x, params), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(["max_pool2d", "avg_pool2d"]),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.booleans(),
)
def test_pools(
    kind: str,
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    share: tuple[float, float],
    ceil_mode: bool,
) -> None:
    kernel = (min(kernel[0], shape[2]), min(kernel[1], shape[3]))
    padding = (round(share[0] * (kernel[0] // 2)), round(share[1] * (kernel[1] // 2)))
    fields = {"type": kind, "kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    x = normal(shape) - 3.0  # mostly below zero: padding that took part in a maximum would show
    traced = one_layer(fields, shape)
    expected = naive_pool(x, fields, traced.output, kind == "avg_pool2d")
    np.testing.assert_allclose(forward(fields, x), expected, rtol=1e-12, atol=1e-12)


def test_avg_pool2d_by_hand() -> None:
    # Ceil mode on 4 pixels, kernel 3, stride 2, padding 1, all ones: windows hold 3, 3 and 2 places of the padded
    # image, of them 2, 3 and 1 pixels. Padding counts, what ceil mode reads beyond it does not.
    fields = {"type": "avg_pool2d", "kernel_size": [1, 3], "stride": [1, 2], "padding": [0, 1], "ceil_mode": True}
    np.testing.assert_allclose(forward(fields, np.ones((1, 1, 1, 4))), [[[[2 / 3, 1, 1 / 2]]]], rtol=1e-15)


def test_relu_and_its_gradient_at_zero() -> None:
    x = np.array([[-2.0, -0.0, 0.0, 3.0]])
    fields = {"type": "relu"}
    np.testing.assert_array_equal(forward(fields, x.reshape(1, 1, 1, 4)).ravel(), [0, 0, 0, 3])
    g = np.array([5.0, 6.0, 7.0, 8.0]).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(backward(fields, x.reshape(1, 1, 1, 4), g).ravel(), [0, 0, 0, 8])


def test_global_avg_pool2d() -> None:
    x = normal((2, 3, 4, 5))
    y = forward({"type": "global_avg_pool2d"}, x)
    assert y.shape == (2, 3, 1, 1)
    for i, c in np.ndindex(2, 3):
        np.testing.assert_allclose(y[i, c, 0, 0], math.fsum(x[i, c].ravel()) / 20, rtol=1e-13)


def test_flatten_has_channels_slowest() -> None:
    x = normal((2, 3, 4, 5))
    y = forward({"type": "flatten"}, x)
    assert y.shape == (2, 60)
    for i, c, h, w in np.ndindex(*x.shape):
        assert y[i, c * 20 + h * 5 + w] == x[i, c, h, w]


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    x, weight, add = normal((3, 4)), normal((2, 4), 1), normal((2,), 2)
    params = {"it.weight": weight, **({"it.bias": add} if bias else {})}
    y = forward({"type": "linear", "out_features": 2, "bias": bias}, x, params)
    for i, o in np.ndindex(3, 2):
        expected = math.fsum([*(x[i, k] * weight[o, k] for k in range(4)), add[o] if bias else 0.0])
        np.testing.assert_allclose(y[i, o], expected, rtol=1e-12)


def test_a_block_is_its_layers_one_after_another() -> None:
    x = normal((2, 3, 7, 6))
    params = {
        "it.conv.weight": normal((4, 3, 3, 2), 1),
        "it.conv.bias": normal((4,), 2),
        "it.mlp1.weight": normal((5, 4, 1, 1), 3),
        "it.mlp1.bias": normal((5,), 4),
    }
    fields = {"type": "nin_block", "out_channels": 4, "kernel_size": [3, 2], "stride": 2, "padding": [1, 0]}
    fields["mlp_channels"] = [5]
    y = np.maximum(naive_conv2d(x, params["it.conv.weight"], params["it.conv.bias"], (2, 2), (1, 0)), 0)
    y = naive_conv2d(y, params["it.mlp1.weight"], params["it.mlp1.bias"], (1, 1), (0, 0))
    np.testing.assert_allclose(forward({**fields, "final_relu": False}, x, params), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(forward(fields, x, params), np.maximum(y, 0), rtol=1e-12, atol=1e-12)
    assert y.min() < 0


# --- backward ----------------------------------------------------------------------------------------------------


def test_of_equal_values_the_first_passes_the_gradient_on() -> None:
    x = np.array([[1.0, 2.0, 2.0], [2.0, 2.0, 1.0]]).reshape(1, 1, 2, 3)
    fields = {"type": "max_pool2d", "kernel_size": 2, "stride": 1}
    # Left window: first 2 in reading order is above right; right window: above left. Both are the same pixel.
    g = np.array([10.0, 1.0]).reshape(1, 1, 1, 2)
    np.testing.assert_array_equal(backward(fields, x, g)[0, 0], [[0, 11, 0], [0, 0, 0]])
    column = np.array([[3.0, 1.0], [3.0, 3.0]]).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(backward(fields, column, np.ones((1, 1, 1, 1)))[0, 0], [[1, 0], [0, 0]])


def test_padding_takes_no_gradient_from_a_maximum() -> None:
    fields = {"type": "max_pool2d", "kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    x = np.full((1, 1, 4, 4), -5.0)
    g = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert backward(fields, x, g).sum() == g.sum()


LINEAR_LAYERS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    (
        {"type": "conv2d", "out_channels": 3, "kernel_size": [3, 2], "stride": [2, 3], "padding": [2, 0]},
        (2, 2, 6, 7),
    ),
    ({"type": "conv2d", "out_channels": 3, "kernel_size": 1, "stride": 4}, (2, 2, 6, 7)),
    ({"type": "avg_pool2d", "kernel_size": [3, 2], "stride": 2, "padding": 1, "ceil_mode": True}, (2, 2, 6, 7)),
    ({"type": "avg_pool2d", "kernel_size": 2, "stride": 3, "ceil_mode": True}, (2, 2, 6, 7)),
    ({"type": "global_avg_pool2d"}, (2, 3, 4, 5)),
    ({"type": "flatten"}, (2, 3, 4, 5)),
    ({"type": "linear", "out_features": 4}, (3, 5)),
]


@pytest.mark.parametrize(("fields", "shape"), LINEAR_LAYERS, ids=lambda value: str(value)[:60])
def test_backward_is_the_adjoint_of_a_linear_layer(fields: dict[str, Any], shape: tuple[int, ...]) -> None:
    # <layer(x), g> = <x, backward(g)> for every x and g, where the layer adds no bias.
    traced = one_layer({**fields, **({"bias": False} if "out" in str(list(fields)) else {})}, shape)
    params = {name: normal(size, 9) for name, size in traced.parameters.items()}
    x, g = normal(shape, 1), normal(traced.output, 2)
    y, back = apply_layer(traced, x, params, {})
    np.testing.assert_allclose((y * g).sum(), (x * back(g, {})).sum(), rtol=1e-12)


def loss_at(net: Architecture, params: dict[str, Array], x: Array, y: Any, masks: dict[str, Any]) -> float:
    return NumpyNetwork(net, params).loss_and_gradients(x, y, masks)[0]  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(architectures(max_size=9), st.integers(0, 2**31))
def test_gradients_are_central_differences(net: Architecture, seed: int) -> None:
    random = np.random.RandomState(seed)
    # Biases unlike zero, so that no ReLU stands exactly on its kink.
    params = {name: random.standard_normal(shape) for name, shape in net.parameter_shapes().items()}
    x = random.standard_normal((3, *net.input))
    y = random.randint(0, net.classes, 3).astype(np.int32)
    masks = {
        name: (random.random_sample((3, *shape)) >= rate).astype(np.float32) / np.float32(1 - rate)
        for name, (rate, shape) in net.dropouts().items()
    }
    _, gradients = NumpyNetwork(net, params).loss_and_gradients(x, y, masks)  # type: ignore[arg-type]
    assert list(gradients) == list(params)
    for name, value in params.items():
        direction = random.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)
        analytic = float((gradients[name] * direction).sum())
        scale = 1 + float(np.linalg.norm(gradients[name]))
        differences = []
        for h in (1e-4, 1e-5, 1e-6):  # a kink inside a step spoils that step, not all of them
            up, down = (loss_at(net, {**params, name: value + s * direction}, x, y, masks) for s in (h, -h))
            differences.append(abs((up - down) / (2 * h) - analytic) / scale)
        assert min(differences) < 1e-6, (name, differences)


def test_dropout_uses_the_mask_forward_and_backward() -> None:
    traced = one_layer({"type": "dropout", "rate": 0.2}, (1, 1, 1, 4))
    x, g = np.array([[[[1.0, 2.0, 3.0, 4.0]]]]), np.array([[[[5.0, 6.0, 7.0, 8.0]]]])
    mask = np.array([[[[1.25, 0, 1.25, 0]]]], np.float32)
    y, back = apply_layer(traced, x, {}, {"it": mask})
    np.testing.assert_array_equal(y, [[[[1.25, 0, 3.75, 0]]]])
    np.testing.assert_array_equal(back(g, {}), [[[[6.25, 0, 8.75, 0]]]])
    y, back = apply_layer(traced, x, {}, {"another": mask})
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(back(g, {}), g)


# --- loss, step ----------------------------------------------------------------------------------------------------


def test_cross_entropy_against_plain_arithmetic() -> None:
    logits, labels = normal((5, 4)) * 3, np.array([0, 3, 1, 1, 2], np.int32)
    loss, gradient = cross_entropy(logits, labels)
    sums = [math.fsum(math.exp(value) for value in row) for row in logits]
    each = [math.log(total) - row[label] for total, row, label in zip(sums, logits, labels, strict=True)]
    np.testing.assert_allclose(loss, math.fsum(each) / 5, rtol=1e-14)
    for i, k in np.ndindex(5, 4):
        expected = (math.exp(logits[i, k]) / sums[i] - (k == labels[i])) / 5
        np.testing.assert_allclose(gradient[i, k], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("row", "label", "loss"),
    [
        ([0.0] * 10, 3, math.log(10)),
        ([1e6, 0.0], 1, 1e6),
        ([1e6, 0.0], 0, 0.0),
        ([-1e6, -1e6], 0, math.log(2)),
        ([800.0, 800.0 + math.log(3)], 0, math.log(4)),
        ([5.0], 0, 0.0),
    ],
)
def test_cross_entropy_by_hand(row: list[float], label: int, loss: float) -> None:
    found, gradient = cross_entropy(np.array([row]), np.array([label], np.int32))
    np.testing.assert_allclose(found, loss, rtol=1e-13, atol=1e-15)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(), 0, atol=1e-12)


def softmax_regression() -> tuple[Architecture, dict[str, NDArray[np.float32]], NDArray[np.float32], Any]:
    layers = [{"type": "flatten"}, {"type": "linear", "out_features": 3}]
    net = Architecture.model_validate({"name": "x", "input": [1, 2, 2], "layers": layers})
    weight = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    x = np.array([[4, 1, 0, 0], [0, 1, 3, 2], [1, 2, 0, 0], [5, 1, 1, 1]], np.float32).reshape(4, 1, 2, 2)
    return net, {"linear1.weight": weight, "linear1.bias": np.zeros(3, np.float32)}, x, np.array([0, 2, 0, 0], np.int32)


def test_one_step_of_softmax_regression_by_its_formula() -> None:
    net, params, x, y = softmax_regression()
    network = NumpyBackend().build(net, params, device="cpu", precision="fp64")
    weight, bias = params["linear1.weight"].astype(np.float64), np.zeros(3)
    rows = x.reshape(4, 4).astype(np.float64)
    for _ in range(3):
        logits = rows @ weight.T + bias
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        loss = -np.log(shares[range(4), y]).sum()
        error = (shares - np.eye(3)[y]) / 4
        result = network.train_step(x, y, {}, lr=0.3)
        np.testing.assert_allclose(result.loss, loss, rtol=1e-12)
        assert (result.correct, result.count) == ((logits.argmax(1) == y).sum(), 4)
        weight, bias = weight - 0.3 * error.T @ rows, bias - 0.3 * error.sum(0)
        np.testing.assert_allclose(network.params()["linear1.weight"], weight, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(network.params()["linear1.bias"], bias, rtol=1e-6, atol=1e-7)


def test_a_step_counts_before_it_moves() -> None:
    # By hand: the logits are (4,1,0), (0,1,5), (1,2,0), (5,1,2): three of four are right.
    net, params, x, y = softmax_regression()
    network = NumpyNetwork(net, params)
    result = network.train_step(x, y, {}, lr=100.0)
    assert (result.correct, result.count) == (3, 4)
    rows = [([4, 1, 0], 0), ([0, 1, 5], 2), ([1, 2, 0], 0), ([5, 1, 2], 0)]
    loss = sum(math.log(sum(math.exp(v) for v in row)) - row[label] for row, label in rows)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(architectures(max_size=8))
def test_a_step_is_p_minus_lr_times_g(net: Architecture) -> None:
    params = initial_parameters(net, seed=0)
    x, y = normal((2, *net.input)).astype(np.float32), np.zeros(2, np.int32)
    network = NumpyNetwork(net, params)
    loss, gradients = network.loss_and_gradients(x, y, {})
    for name, value in network.params().items():  # a gradient moves nothing
        np.testing.assert_array_equal(value, params[name])
    result = network.train_step(x, y, {}, lr=0.25)
    np.testing.assert_allclose(result.loss, 2 * loss, rtol=1e-12)
    for name, value in network.params().items():
        expected = params[name].astype(np.float64) - 0.25 * gradients[name].astype(np.float64)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)


def test_evaluation_knows_no_dropout_and_training_does() -> None:
    layers = [{"type": "dropout", "rate": 0.5}, {"type": "flatten"}]
    net = Architecture.model_validate({"name": "x", "input": [1, 1, 2], "layers": layers})
    network = NumpyNetwork(net, {})
    x = np.array([[[[1.0, 3.0]]]], np.float32)
    np.testing.assert_array_equal(network.logits(x), [[1, 3]])
    mask = {"dropout1": np.array([[[[2, 0]]]], np.float32)}
    loss, _ = network.loss_and_gradients(x, np.array([0], np.int32), mask)
    np.testing.assert_allclose(loss, math.log(1 + math.exp(-2)), rtol=1e-12)  # logits (2, 0)


def test_parameters_are_copies_on_both_sides() -> None:
    net, params, x, _ = softmax_regression()
    network = NumpyBackend().build(net, params, device="cpu", precision="fp64")
    before = network.logits(x)
    params["linear1.weight"][:] = 0
    network.params()["linear1.bias"][:] = 7
    np.testing.assert_array_equal(network.logits(x), before)


def test_float64_throughout() -> None:
    net, params, x, _ = softmax_regression()
    for _, value in NumpyNetwork(net, params).activations(x):
        assert value.dtype == np.float64
    assert {value.dtype for value in NumpyNetwork(net, params).params().values()} == {np.dtype(np.float32)}


# --- momentum, state, native dropout ---------------------------------------------------------------------------------


def test_momentum_by_its_formula_with_a_rate_that_changes() -> None:
    """v <- m v + g, p <- p - lr v. With the rate inside v, as others have it, the third step would differ."""
    net, params, x, y = softmax_regression()
    network = NumpyNetwork(net, params)
    weight, bias = params["linear1.weight"].astype(np.float64), np.zeros(3)
    moving, moving_bias = np.zeros((3, 4)), np.zeros(3)
    rows = x.reshape(4, 4).astype(np.float64)
    for lr, momentum in ((0.3, 0.9), (0.3, 0.9), (0.01, 0.9), (0.2, 0.5), (0.0, 0.9), (0.1, 0.9)):
        logits = rows @ weight.T + bias
        error = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[y]) / 4
        moving, moving_bias = momentum * moving + error.T @ rows, momentum * moving_bias + error.sum(0)
        weight, bias = weight - lr * moving, bias - lr * moving_bias
        network.train_step(x, y, {}, lr, momentum)
        np.testing.assert_allclose(network._params["linear1.weight"], weight, rtol=1e-12)
        np.testing.assert_allclose(network._params["linear1.bias"], bias, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(network.velocities()["linear1.weight"], moving, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(network.velocities()["linear1.bias"], moving_bias, rtol=1e-6, atol=1e-7)


def test_without_momentum_there_is_no_velocity() -> None:
    net, params, x, y = softmax_regression()
    network = NumpyNetwork(net, params)
    network.train_step(x, y, {}, 0.1)
    assert network.velocities() == {}
    network.train_step(x, y, {}, 0.1, 0.9)
    assert list(network.velocities()) == ["linear1.weight", "linear1.bias"]


def test_restore_puts_everything_back_and_keeps_copies() -> None:
    net, params, x, y = softmax_regression()
    network = NumpyNetwork(net, params)
    network.train_step(x, y, {}, 0.1, 0.9)
    kept, moving = network.params(), network.velocities()
    network.restore(kept, moving)
    first = network.train_step(x, y, {}, 0.1, 0.9), network.params(), network.velocities()
    network.restore(kept, moving)
    for name, value in moving.items():
        assert network.velocities()[name].tobytes() == value.tobytes()
        assert network.params()[name].tobytes() == kept[name].tobytes()
    assert network.train_step(x, y, {}, 0.1, 0.9) == first[0]
    for name in kept:
        assert network.params()[name].tobytes() == first[1][name].tobytes()
        assert network.velocities()[name].tobytes() == first[2][name].tobytes()
    network.restore(kept, {})
    assert network.velocities() == {}


def dropout_net(rate: float) -> Architecture:
    layers = [{"type": "dropout", "rate": rate}, {"type": "flatten"}]
    return Architecture.model_validate({"name": "x", "input": [1, 40, 40], "layers": layers})


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
def test_dropout_of_our_own_drops_its_share_and_scales_the_rest(rate: float) -> None:
    mask = NumpyNetwork(dropout_net(rate), {}, seed=1)._draw(50)["dropout1"]
    assert (mask.shape, mask.dtype) == ((50, 1, 40, 40), np.float32)
    kept = mask[mask != 0]
    np.testing.assert_array_equal(kept, np.full(len(kept), np.float32(1 / (1 - rate))))
    error = 6 * math.sqrt(rate * (1 - rate) / mask.size)
    np.testing.assert_allclose((mask == 0).mean(), rate, atol=error)
    # No place is dropped more often than another, and no image is another's copy.
    np.testing.assert_allclose((mask == 0).mean(0), rate, atol=6 * math.sqrt(rate * (1 - rate) / 50) + 1e-9)
    assert len({one.tobytes() for one in mask}) == (50 if rate else 1)


def test_draws_repeat_with_their_seed_and_move_on_with_every_step() -> None:
    net = dropout_net(0.5)
    x, y = normal((2, 1, 40, 40)).astype(np.float32), np.array([3, 5], np.int32)

    def losses(seed: int | None) -> list[float]:
        network = NumpyBackend().build(net, {}, device="cpu", precision="fp64", seed=seed)
        return [network.train_step(x, y, None, 0.1).loss for _ in range(3)]

    assert losses(4) == losses(4)
    assert len({*losses(4), *losses(5), *losses(None)}) == 9


def test_evaluation_draws_nothing() -> None:
    net = dropout_net(0.5)
    network = NumpyNetwork(net, {}, seed=0)
    x = normal((2, 1, 40, 40)).astype(np.float32)
    np.testing.assert_array_equal(network.logits(x), x.reshape(2, -1))
    ahead = NumpyNetwork(net, {}, seed=0)
    assert network._draw(2)["dropout1"].tobytes() == ahead._draw(2)["dropout1"].tobytes()
