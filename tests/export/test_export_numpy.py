"""The NumPy program computes what the oracle does: loss and parameters, step by step; and its gradients are right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import architectures

from nin_multi import load, randomness, registry
from nin_multi.architecture_file import parse_architecture
from nin_multi.oracle import NumpyNetwork
from nin_multi.randomness import Purpose
from nin_multi.spec import Architecture

WITHIN = 1e-9  # of each other: the same sums, in an order that the memory's layout decides in places


def run(architecture: Architecture) -> dict[str, Any]:
    """The program's names."""
    names: dict[str, Any] = {"__name__": "written"}
    exec(compile(registry.load("numpy").source(architecture), "written.py", "exec"), names)
    return names


def beginning(architecture: Architecture) -> dict[str, np.ndarray]:
    """Weights, and biases that are not zero."""
    params = randomness.initial_parameters(architecture, 3)
    draws = {name: randomness.uniform(value.shape, seed=3, purpose=Purpose.INPUT) for name, value in params.items()}
    return {name: np.float32(draws[name] - 0.4) if value.ndim == 1 else value for name, value in params.items()}


def batch(architecture: Architecture, count: int) -> tuple[np.ndarray, np.ndarray]:
    x = randomness.uniform((count, *architecture.input), seed=1, purpose=Purpose.INPUT).astype(np.float32)
    return x, np.arange(count) % architecture.classes


def filled(program: dict[str, Any], params: dict[str, np.ndarray]) -> Any:
    net = program["make_net"]()
    for name, array in net.named_parameters().items():
        array[...] = params[name]
    return net


def assert_near(found: Any, expected: Any, what: str = "") -> None:
    norm = max(float(np.linalg.norm(expected)), 1e-12)
    assert np.linalg.norm(np.asarray(found) - expected) <= WITHIN * norm, what


@pytest.mark.parametrize(("arch", "count", "size"), [("nin-mnist", 12, 4), ("nin", 2, 1)])
def test_it_trains_as_the_oracle_does(arch: str, count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of several batches in the orders that the program draws, which the oracle is given afterwards."""
    architecture = load(arch).with_dropout_rate(0.0)
    if arch == "nin":
        architecture = architecture.with_input((1, 161, 193))
    params, (x, y) = beginning(architecture), batch(architecture, count)
    program, losses, orders = run(architecture), [], []
    cross_entropy, permutation = program["cross_entropy"], np.random.permutation

    def overheard(scores: np.ndarray, labels: np.ndarray) -> Any:
        found = cross_entropy(scores, labels)
        losses.append(found[0])
        return found

    def noted(n: int) -> np.ndarray:
        orders.append(permutation(n))
        return orders[-1]

    net = filled(program, params)
    program["cross_entropy"] = overheard
    monkeypatch.setattr(np.random, "permutation", noted)
    program["train"](net, x, y, epochs=2, batch_size=size, lr=0.02)
    oracle = NumpyNetwork(architecture, params)
    batches = [order[start : start + size] for order in orders for start in range(0, count, size)]
    expected = [oracle.train_step(x[b], y[b].astype(np.int32), {}, 0.02).loss / size for b in batches]
    assert len(set(losses)) == len(losses) == 2 * (count // size)
    np.testing.assert_allclose(losses, expected, rtol=WITHIN)
    moved = oracle.exact_params()
    for name, value in net.named_parameters().items():
        assert_near(value - params[name], moved[name] - params[name], name)


@settings(max_examples=60, deadline=None)
@given(architecture=architectures())
def test_gradients_of_random_architectures(architecture: Architecture) -> None:
    architecture = architecture.with_dropout_rate(0.0)
    params, (x, y) = beginning(architecture), batch(architecture, 3)
    oracle, program = NumpyNetwork(architecture, params), run(architecture)
    net = filled(program, params)
    loss, gradients, logits = oracle.differentiate(x, y.astype(np.int32), {})
    net.train()
    scores = net.forward(x.astype(np.float64))
    assert scores.tobytes() == logits.tobytes()
    found, by_scores = program["cross_entropy"](scores, y)
    assert found == loss
    by_x = net.backward(by_scores)
    assert by_x.shape == x.shape
    held = {prefix + name: layer.gradients[name] for prefix, layer in net.named_layers() for name in layer.parameters}
    assert list(held) == list(architecture.parameter_shapes())
    for name, gradient in held.items():
        assert_near(gradient, gradients[name], name)


UNITS = [
    {"type": "maxout", "pieces": 3},
    {"type": "local_response_norm", "size": 3, "alpha": 0.5, "beta": 0.6, "k": 1.5},
    {"type": "se_block", "reduction": 2},
    {"type": "sk_block", "out_channels": 4, "kernel_sizes": [1, 5, 3], "stride": [2, 1], "min_channels": 3},
]


def test_the_style_of_newer_layers_is_ruffs(tmp_path: Path) -> None:
    for layer in UNITS:
        source = registry.load("numpy").source(with_unit({**layer, "name": "n" * 64}))
        (tmp_path / f"{layer['type']}.py").write_text(source)
    rules = ["--isolated", "--no-cache", "--select", "E4,E5,E7,E9,F,I,UP,B"]
    for words in (["check", *rules], ["format", "--isolated", "--no-cache", "--diff"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "."], cwd=tmp_path, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout + found.stderr


def with_unit(layer: dict[str, Any]) -> Architecture:
    before = {"type": "conv2d", "out_channels": 6, "kernel_size": 2}
    after = [{"type": "flatten"}, {"type": "linear", "out_features": 3}]
    return Architecture.model_validate({"name": "unit", "input": [2, 5, 6], "layers": [before, layer, *after]})


@pytest.mark.parametrize("layer", UNITS, ids=lambda layer: str(layer["type"]))
def test_newer_layers_are_the_oracles(layer: dict[str, Any]) -> None:
    architecture = with_unit(layer)
    params, (x, _) = beginning(architecture), batch(architecture, 4)
    found = filled(run(architecture), params).forward(x.astype(np.float64))
    assert found.tobytes() == NumpyNetwork(architecture, params).logits(x).tobytes()


@pytest.mark.parametrize("layer", UNITS, ids=lambda layer: str(layer["type"]))
def test_gradients_of_newer_layers(layer: dict[str, Any]) -> None:
    """By differences of the loss, for every parameter and the image. A convolution before it has a say, too."""
    architecture = with_unit(layer)
    program, (x, y) = run(architecture), batch(architecture, 3)
    net, x = filled(program, beginning(architecture)), x.astype(np.float64)

    def loss() -> float:
        return program["cross_entropy"](net.forward(x), y)[0]

    by_x = net.backward(program["cross_entropy"](net.forward(x), y)[1])
    held = {prefix + name: layer.gradients[name] for prefix, layer in net.named_layers() for name in layer.parameters}
    arrays = {**net.named_parameters(), "x": x}
    assert list(arrays) == [*architecture.parameter_shapes(), "x"]
    for name, gradient in {**held, "x": by_x}.items():
        found, flat = np.zeros(gradient.size), arrays[name].reshape(-1)
        for i in range(flat.size):
            before_it = flat[i]
            flat[i] = before_it + 1e-5
            above = loss()
            flat[i] = before_it - 1e-5
            found[i] = (above - loss()) / 2e-5
            flat[i] = before_it
        np.testing.assert_allclose(found, gradient.reshape(-1), rtol=1e-5, atol=1e-8, err_msg=name)


def test_what_is_dropped_gets_no_gradient() -> None:
    architecture = parse_architecture(
        "name: drop\ninput: [3, 8, 8]\nlayers:\n  - {type: dropout, rate: 0.2}\n  - {type: flatten}\n"
    )
    net = run(architecture)["make_net"]()
    net.train()
    np.random.seed(0)
    y = net.forward(np.ones((4, 3, 8, 8)))
    assert {*np.unique(y)} == {0.0, 1.25}
    assert (y == 0).mean() == pytest.approx(0.2, abs=0.05)
    assert net.backward(np.ones_like(y)).reshape(y.shape).tobytes() == y.tobytes()
