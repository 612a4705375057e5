"""The oracle's answers to a problem, against the oracle itself and against formulas; not what backends answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import architectures

from nin_multi.checks import Problem, Truth, clear_problem, find_truth, stored_problem
from nin_multi.checks.truth import DESCENT, load, save
from nin_multi.oracle import NumpyNetwork
from nin_multi.spec import Architecture

Array = NDArray[np.float64]

DROPPED = [{"type": "dropout", "rate": 0.5}, {"type": "flatten"}, {"type": "linear", "out_features": 3}]
REGRESSION = Architecture.model_validate({"name": "x", "input": [1, 2, 3], "layers": DROPPED})


@settings(max_examples=30, deadline=None)
@given(architectures(max_size=12), st.integers(1, 3), st.integers(0, 2**32))
def test_truth_is_what_the_oracle_says(architecture: Architecture, batch: int, seed: int) -> None:
    posed = clear_problem(architecture, batch, seed)
    truth = find_truth(posed, 0)
    network = NumpyNetwork(architecture, posed.params)
    expected = list(network.activations(posed.x))
    assert list(truth.activations) == [name for name, _ in expected] == [row.name for row in architecture.walk()]
    for name, value in expected:
        assert truth.activations[name].dtype == np.float64
        np.testing.assert_array_equal(truth.activations[name], value)
    np.testing.assert_array_equal(truth.logits, network.logits(posed.x))
    loss, gradients, _ = network.differentiate(posed.x, posed.y, posed.masks)
    assert truth.loss == loss
    assert truth.gradients.keys() == posed.params.keys()
    for name, value in gradients.items():
        np.testing.assert_array_equal(truth.gradients[name], value)
    assert truth.curve == ()


# --- softmax regression behind a dropout, by its formulas --------------------------------------------------------


class Regression:
    """Weight and bias, and the loss and the gradients for images of which a mask leaves some."""

    def __init__(self, posed: Problem) -> None:
        self.posed = posed
        self.weight, self.bias = (np.asarray(value, np.float64) for value in posed.params.values())

    def loss_and_gradients(self, step: int) -> tuple[float, Array, Array]:
        posed = self.posed
        rows = (np.asarray(posed.x, np.float64) * posed.masks_of(step)["dropout1"]).reshape(len(posed.y), -1)
        logits = rows @ self.weight.T + self.bias
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error = (shares - np.eye(3)[posed.y]) / len(posed.y)
        return -np.log(shares[range(len(posed.y)), posed.y]).mean(), error.T @ rows, error.sum(0)


def assert_holds(held: dict[str, Array], weight: Array, bias: Array) -> None:
    assert list(held) == ["linear1.weight", "linear1.bias"]
    np.testing.assert_allclose(held["linear1.weight"], weight, rtol=1e-12)
    np.testing.assert_allclose(held["linear1.bias"], bias, rtol=1e-12)


def test_loss_gradients_and_one_step_by_their_formulas() -> None:
    posed = clear_problem(REGRESSION, 5, seed=3)
    truth, by_hand = find_truth(posed, 0), Regression(posed)
    loss, by_weight, by_bias = by_hand.loss_and_gradients(0)
    np.testing.assert_allclose(truth.loss, loss, rtol=1e-12)
    assert_holds({name: truth.gradients[name] for name in posed.params}, by_weight, by_bias)
    assert_holds(dict(truth.stepped), by_hand.weight - 0.1 * by_weight, by_hand.bias - 0.1 * by_bias)


def test_two_steps_with_momentum_by_their_formulas() -> None:
    posed = clear_problem(REGRESSION, 5, seed=4)
    by_hand = Regression(posed)
    _, by_weight, by_bias = by_hand.loss_and_gradients(0)
    by_hand.weight, by_hand.bias = by_hand.weight - 0.02 * by_weight, by_hand.bias - 0.02 * by_bias
    _, then_weight, then_bias = by_hand.loss_and_gradients(0)  # the masks are those of step 0 again
    moving, moving_bias = 0.9 * by_weight + then_weight, 0.9 * by_bias + then_bias
    assert_holds(dict(find_truth(posed, 0).moved), by_hand.weight - 0.01 * moving, by_hand.bias - 0.01 * moving_bias)


def test_the_curve_by_its_formula() -> None:
    posed = clear_problem(REGRESSION, 5, seed=5)
    by_hand, losses = Regression(posed), []
    loss, by_weight, by_bias = by_hand.loss_and_gradients(0)
    rate = DESCENT * loss / ((by_weight**2).sum() + (by_bias**2).sum())
    for step in range(6):
        loss, by_weight, by_bias = by_hand.loss_and_gradients(step)
        by_hand.weight, by_hand.bias = by_hand.weight - rate * by_weight, by_hand.bias - rate * by_bias
        losses.append(loss)
    truth = find_truth(posed, 6)
    np.testing.assert_allclose(truth.curve, losses, rtol=1e-12)
    # A longer curve begins as the shorter one, and nothing else hangs on its length.
    longer = find_truth(posed, 8)
    assert (longer.curve[:6], longer.loss) == (truth.curve, truth.loss)
    np.testing.assert_array_equal(longer.moved["linear1.weight"], truth.moved["linear1.weight"])


# --- for another process -------------------------------------------------------------------------------------------


def assert_same_arrays(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Or numbers, by name."""
    assert list(one) == list(other)
    for name in one:
        first, second = np.asarray(one[name]), np.asarray(other[name])
        assert (first.shape, first.dtype) == (second.shape, second.dtype)
        assert first.tobytes() == second.tobytes(), name


def assert_same(posed: Problem, truth: Truth, folder: Path) -> None:
    """What is in the folder is both of these, bit for bit and in their order."""
    loaded, found = load(folder)
    assert (loaded.architecture, loaded.seed, loaded.margin) == (posed.architecture, posed.seed, posed.margin)
    assert_same_arrays({"x": posed.x, "y": posed.y}, {"x": loaded.x, "y": loaded.y})
    for field in fields(Truth):
        one, other = getattr(truth, field.name), getattr(found, field.name)
        if isinstance(one, Mapping):
            assert_same_arrays(one, other)
        else:
            assert one == other, field.name
    assert_same_arrays(posed.params, loaded.params)
    assert_same_arrays(posed.masks_of(3), loaded.masks_of(3))
    assert found.logits.tobytes() == truth.logits.tobytes()


@settings(max_examples=30, deadline=None)
@given(architectures(max_size=12), st.integers(1, 3), st.integers(0, 2**63 - 1))
def test_a_folder_gives_back_what_was_put_in(architecture: Architecture, batch: int, seed: int) -> None:
    posed = clear_problem(architecture, batch, seed)
    truth = find_truth(posed, 2)
    with TemporaryDirectory() as folder:
        save(Path(folder), posed, truth)
        assert_same(posed, truth, Path(folder))


def test_layers_may_have_the_names_of_a_keyword(tmp_path: Path) -> None:
    """Arrays are handed to NumPy by name, and it has names of its own."""
    layers = [{"type": "flatten", "name": "file"}, {"type": "linear", "out_features": 2, "name": "arr_0"}]
    posed = clear_problem(Architecture.model_validate({"name": "x", "input": [1, 2, 2], "layers": layers}), 2)
    truth = find_truth(posed, 1)
    save(tmp_path, posed, truth)
    assert_same(posed, truth, tmp_path)


def test_stored_weights_go_through_a_folder(tmp_path: Path) -> None:
    params = {"linear1.weight": np.full((3, 6), 0.1, np.float32), "linear1.bias": np.full(3, -0.0, np.float32)}
    posed = stored_problem(REGRESSION, params, 2)
    truth = find_truth(posed, 3)
    save(tmp_path, posed, truth)
    assert_same(posed, truth, tmp_path)
    assert np.signbit(load(tmp_path)[0].params["linear1.bias"]).all()
