"""Problems for nets with maxout, local response normalisation and units: clear, alive, and none of their steps idle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nin_multi import load
from nin_multi.checks import clear_problem, draws, stored_problem
from nin_multi.checks.decisions import decisions, given_inside, nearest_inside
from nin_multi.oracle import NumpyNetwork, apply_layer
from nin_multi.spec import Architecture, TracedLayer

CONV = {"type": "conv2d", "out_channels": 12, "kernel_size": 3, "padding": 1}
FLATTEN = {"type": "flatten"}
MAXOUT = {"type": "maxout", "pieces": 3}
NORM = {"type": "local_response_norm"}
POOL = {"type": "max_pool2d", "kernel_size": 3, "stride": 1}
RELU = {"type": "relu"}
SE = {"type": "se_block", "reduction": 4}
SK = {"type": "sk_block", "out_channels": 12, "reduction": 2, "min_channels": 4}


def net(*layers: dict[str, Any], size: tuple[int, int, int] = (2, 14, 13)) -> Architecture:
    return Architecture.model_validate({"name": "x", "input": size, "layers": [*layers, FLATTEN]})


NETS = [
    [CONV, MAXOUT, POOL],
    [CONV, RELU, NORM, POOL],
    [CONV, RELU, SE, POOL],
    [SE, POOL, CONV],
    [CONV, RELU, SE, SE, RELU, POOL],
    [SK, POOL],
    [SK, SE, POOL],
    [SK, NORM, MAXOUT, POOL],
    [CONV, FLATTEN, MAXOUT],
]


@pytest.mark.parametrize("layers", NETS, ids=lambda layers: "-".join(layer["type"] for layer in layers))
def test_every_decision_is_clear(layers: list[dict[str, Any]]) -> None:
    posed = clear_problem(net(*layers), 8)
    assert posed.is_clear
    # What is told is what a look at the finished net tells.
    again = stored_problem(posed.architecture, posed.params, 8)
    np.testing.assert_allclose(posed.margin, again.margin, rtol=1e-6)


@pytest.mark.parametrize("layers", NETS[:2], ids=["maxout", "norm"])
def test_where_channels_meet_one_draw_would_not_do(layers: list[dict[str, Any]], monkeypatch: Any) -> None:
    architecture = net(*layers, size=(2, 40, 40))
    assert clear_problem(architecture, 16).margin >= 1e-5
    monkeypatch.setattr(draws, "ATTEMPTS", 1)
    assert clear_problem(architecture, 16).margin < 1e-5


@pytest.mark.parametrize("layers", [[CONV, RELU, SE], [SE, CONV], [SK], [{**SE, "reduction": 16}]], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_the_relu_inside_a_unit_lets_some_pass(layers: list[dict[str, Any]], seed: int) -> None:
    """Left out it would show, and a gradient comes through it."""
    architecture = net(*layers)
    posed = clear_problem(architecture, 4, seed)
    _, gradients, _ = NumpyNetwork(architecture, posed.params).differentiate(posed.x, posed.y, posed.masks)
    for row, x in before_units(architecture, posed.params, posed.x):
        *_, reduced = given_inside(row, x, posed.params)
        assert (reduced < 0).any()
        assert (reduced > 0).any(axis=0).all()
    for name, gradient in gradients.items():
        assert np.any(gradient), name


def before_units(architecture: Architecture, params: Any, x: Any) -> list[tuple[TracedLayer, Any]]:
    exact = {name: np.asarray(value, np.float64) for name, value in params.items()}
    value, found = np.asarray(x, np.float64), []
    for row in architecture.trace(len(x)):
        if row.name.startswith(("se", "sk")):
            found.append((row, value))
        value, _ = apply_layer(row, value, exact, {})
    return found


def test_a_piece_near_another_is_told_of_both() -> None:
    rows = list(net(MAXOUT, size=(6, 1, 1)).trace(1))
    value = np.array([1.0, 1.25, 0.0, 7.0, 3.0, 6.0]).reshape(1, 6, 1, 1)
    found, _ = decisions(rows[:1], value, {})
    np.testing.assert_allclose(found, [0.25] * 3 + [1.0] * 3)


def test_pixels_that_compete_behind_a_flatten_are_told_of_their_channels() -> None:
    rows = list(net(FLATTEN, {"type": "maxout", "pieces": 2}, size=(3, 1, 4)).trace(1))
    value = np.array([[1, 9, 2, 4], [5, 5.5, 0, 8], [0, 3, 3, 1]], np.float64).reshape(1, 3, 1, 4)
    found, _ = decisions(rows[:2], value, {})
    np.testing.assert_allclose(found, [2.0, 0.5, 2.0])


def test_a_sum_inside_a_unit_may_be_near_zero() -> None:
    architecture = net(SE, size=(4, 1, 1))
    params = {name: np.zeros(shape, np.float32) for name, shape in architecture.parameter_shapes().items()}
    params["se1.reduce.bias"][:], params["se1.reduce.weight"][:] = 1e-9, 1.0
    x = np.array([[1.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).reshape(2, 4, 1, 1)
    assert nearest_inside(architecture.trace(2)[0], x, params) == pytest.approx(1e-9 * 2**0.5)


def test_stored_weights_of_a_unit_are_looked_into() -> None:
    architecture = net(SE, size=(4, 1, 1))
    params = {name: np.zeros(shape, np.float32) for name, shape in architecture.parameter_shapes().items()}
    x = clear_problem(architecture, 2).x.astype(np.float64).mean((2, 3)).sum(1)
    params["se1.reduce.weight"][:], params["se1.reduce.bias"][:] = 1.0, -x[0]
    given = (x - x[0].astype(np.float32)).astype(np.float64)
    expected = np.abs(given).min() / np.sqrt(np.mean(given**2))
    assert expected < 1e-6
    posed = stored_problem(architecture, params, 2)
    assert posed.margin == pytest.approx(expected, rel=1e-3)
    assert not posed.is_clear


@pytest.mark.parametrize("name", ["conv-mnist", "maxout-mnist", "nin-mnist-se", "nin-mnist-sk"])
def test_nets_of_the_zoo_can_be_drawn_clearly(name: str) -> None:
    assert clear_problem(load(name), 2).margin >= 1e-6
