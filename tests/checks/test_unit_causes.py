"""The mistakes that people make with maxout, local response normalisation and units: each is told by its numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nin_multi.checks.layer_causes import of_layer
from nin_multi.oracle import apply_layer
from nin_multi.spec import Architecture, TracedLayer

Array = NDArray[np.float64]
Params = dict[str, Array]


def place(fields: dict[str, Any], shape: tuple[int, ...] = (3, 6, 4, 5)) -> TracedLayer:
    layers = [{**fields, "name": "it"}, {"type": "flatten"}]
    return Architecture.model_validate({"name": "x", "input": shape[1:], "layers": layers}).trace(shape[0])[0]


def normal(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.RandomState(seed).standard_normal(shape)


def causes(fields: dict[str, Any], x: Array, params: Params, observed: Array) -> list[str]:
    """What is said, in float32, of an output that is off."""
    named = {name: value.astype(np.float32) for name, value in params.items()}
    return list(of_layer(place(fields, x.shape), x, observed.astype(np.float32), named))


def other(fields: dict[str, Any], x: Array, params: Params, **changes: Any) -> Array:
    """What the oracle gives for the layer with other settings."""
    return apply_layer(place({**fields, **changes}, x.shape), x, params, {})[0]


# --- maxout ------------------------------------------------------------------------------------------------------

MAXOUT = {"type": "maxout", "pieces": 3}


@pytest.mark.parametrize(
    ("cause", "pick"),
    [
        ("channels compete that lie far apart", lambda x: np.stack([x[:, j::2].max(1) for j in range(2)], 1)),
        ("it takes the mean of the pieces", lambda x: np.stack([x[:, :3].mean(1), x[:, 3:].mean(1)], 1)),
        ("it takes the sum of the pieces", lambda x: np.stack([x[:, :3].sum(1), x[:, 3:].sum(1)], 1)),
        ("it takes the smallest", lambda x: np.stack([x[:, :3].min(1), x[:, 3:].min(1)], 1)),
        ("it takes the first", lambda x: x[:, ::3]),
    ],
)
def test_maxout(cause: str, pick: Any) -> None:
    x = normal((3, 6, 4, 5), 0)
    (said,) = causes(MAXOUT, x, {}, pick(x))
    assert said.startswith(cause)


# --- local response normalisation --------------------------------------------------------------------------------

NORM = {"type": "local_response_norm", "size": 3, "alpha": 0.2, "beta": 0.6, "k": 1.7}


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("its alpha is divided by the size", {"alpha": 0.2 / 3}),
        ("its alpha is multiplied by the size", {"alpha": 0.2 * 3}),
        ("its k is left at 1", {"k": 1.0}),
        ("its alpha is divided by the size, and its k is left at 1", {"alpha": 0.2 / 3, "k": 1.0}),
        ("its size is left at 5", {"size": 5}),
        ("its alpha is left at 0.0001", {"alpha": 1e-4}),
        ("its beta is left at 0.75", {"beta": 0.75}),
        ("its size is taken for a radius", {"size": 7}),
    ],
)
def test_local_response_norm_with_other_settings(cause: str, changes: dict[str, Any]) -> None:
    x = normal((3, 6, 4, 5), 1)
    assert causes(NORM, x, {}, other(NORM, x, {}, **changes)) == [cause]


def test_local_response_norm_over_pixels_and_left_out() -> None:
    x = normal((3, 6, 4, 5), 2)
    within = np.empty_like(x)
    for i, c, h, w in np.ndindex(*x.shape):
        around = x[i, c, max(h - 1, 0) : h + 2, max(w - 1, 0) : w + 2]
        within[i, c, h, w] = x[i, c, h, w] / (1.7 + 0.2 * (around**2).sum()) ** 0.6
    assert causes(NORM, x, {}, within) == ["its neighbours are pixels of one channel, not channels"]
    assert causes(NORM, x, {}, x) == ["it is left out"]


# --- squeeze and excitation --------------------------------------------------------------------------------------

SE = {"type": "se_block", "reduction": 2}


def dense(x: Array, params: Params, part: str) -> Array:
    return x @ params[f"it.{part}.weight"].T + params[f"it.{part}.bias"]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def se(x: Array, params: Params, squeezed: Any = None, between: Any = None, gate: Any = sigmoid) -> Array:
    means = x.mean((2, 3)) if squeezed is None else squeezed(x)
    middle = dense(means, params, "reduce")
    middle = np.maximum(middle, 0) if between is None else between(middle)
    return gate(dense(middle, params, "expand"))[:, :, None, None]


def without(params: Params, name: str) -> Params:
    return {**params, name: np.zeros_like(params[name])}


SE_MISTAKES: list[tuple[str, Any]] = [
    ("its sigmoid is left out", lambda x, p: x * se(x, p, gate=lambda a: a)),
    ("its ReLU is left out", lambda x, p: x * se(x, p, between=lambda z: z)),
    ("the bias of reduce is left out", lambda x, p: x * se(x, without(p, "it.reduce.bias"))),
    ("the bias of expand is left out", lambda x, p: x * se(x, without(p, "it.expand.bias"))),
    ("it squeezes by the largest value", lambda x, p: x * se(x, p, squeezed=lambda x: x.max((2, 3)))),
    ("it squeezes by the sum", lambda x, p: x * se(x, p, squeezed=lambda x: x.sum((2, 3)))),
    ("a hard sigmoid, from -3 to 3", lambda x, p: x * se(x, p, gate=lambda a: np.minimum(np.maximum(a + 3, 0), 6) / 6)),
    ("a hard sigmoid, from -2.5 to 2.5", lambda x, p: x * se(x, p, gate=lambda a: np.clip(0.2 * a + 0.5, 0, 1))),
    ("a softmax over the channels", lambda x, p: x * se(x, p, gate=lambda a: np.exp(a) / np.exp(a).sum(1)[:, None])),
    ("its input is added once more", lambda x, p: x + x * se(x, p)),
    ("its gates are added", lambda x, p: x + se(x, p)),
    ("its gates are not multiplied", lambda x, p: se(x, p) + 0 * x),
    ("it is left out", lambda x, p: x),
]


@pytest.mark.parametrize(("cause", "mistake"), SE_MISTAKES, ids=[cause for cause, _ in SE_MISTAKES])
def test_squeeze_and_excitation(cause: str, mistake: Any) -> None:
    x = normal((3, 6, 4, 5), 3) + 0.3
    params = {name: normal(shape, seed) for seed, (name, shape) in enumerate(place(SE).parameters.items(), start=10)}
    (said,) = causes(SE, x, params, mistake(x, params))
    assert said.startswith(cause)


# --- selective kernels -------------------------------------------------------------------------------------------

SK = {"type": "sk_block", "out_channels": 4, "kernel_sizes": [3, 1, 5], "stride": [1, 2], "min_channels": 5}


def sk(x: Array, params: Params, *, squeezed: Any = None, weigh: Any = None, middle: Any = None) -> Array:
    """Step by step; each step may be another one."""
    branches = branches_of(x, params)
    means = branches.sum(0).mean((2, 3)) if squeezed is None else squeezed(branches)
    z = dense(means, params, "reduce")
    z = np.maximum(z, 0) if middle is None else middle(z)
    chosen = np.stack([dense(z, params, f"select{i}") for i in (1, 2, 3)])
    shares = np.exp(chosen) / np.exp(chosen).sum(0) if weigh is None else weigh(chosen)
    return sum(share[:, :, None, None] * u for share, u in zip(shares, branches, strict=True))


def branches_of(x: Array, params: Params, activation: Any = None) -> Array:
    made = []
    for i, kernel in enumerate(SK["kernel_sizes"], start=1):
        fields = {"type": "conv2d", "out_channels": 4, "kernel_size": kernel, "stride": [1, 2], "padding": kernel // 2}
        held = {f"it.{role}": params[f"it.branch{i}.{role}"] for role in ("weight", "bias")}
        convolved, _ = apply_layer(place(fields, x.shape), x, held, {})
        made.append(np.maximum(convolved, 0) if activation is None else activation(convolved))
    return np.stack(made)


def over_channels(chosen: Array) -> Array:
    return np.exp(chosen) / np.exp(chosen).sum(2, keepdims=True)


def softmax(chosen: Array) -> Array:
    return np.exp(chosen) / np.exp(chosen).sum(0)


SK_MISTAKES: list[tuple[str, Any]] = [
    ("its softmax goes over the channels", lambda x, p: sk(x, p, weigh=over_channels)),
    ("a sigmoid stands in place of its softmax", lambda x, p: sk(x, p, weigh=sigmoid)),
    ("its softmax is left out", lambda x, p: sk(x, p, weigh=lambda chosen: chosen)),
    ("its branches are added up", lambda x, p: branches_of(x, p).sum(0)),
    ("the mean of its branches", lambda x, p: branches_of(x, p).mean(0)),
    ("the shares of its branches come in the opposite order", lambda x, p: sk(x, p, weigh=lambda a: softmax(a)[::-1])),
    ("its ReLU after reduce is left out", lambda x, p: sk(x, p, middle=lambda z: z)),
    ("the bias of branch2 is left out", lambda x, p: sk(x, without(p, "it.branch2.bias"))),
    ("the bias of reduce is left out", lambda x, p: sk(x, without(p, "it.reduce.bias"))),
    ("the bias of select3 is left out", lambda x, p: sk(x, without(p, "it.select3.bias"))),
    ("it squeezes the first branch alone", lambda x, p: sk(x, p, squeezed=lambda u: u[0].mean((2, 3)))),
    ("it squeezes the mean of the branches", lambda x, p: sk(x, p, squeezed=lambda u: u.mean(0).mean((2, 3)))),
    ("it squeezes by the sum over the pixels", lambda x, p: sk(x, p, squeezed=lambda u: u.sum(0).sum((2, 3)))),
    ("it squeezes by the largest value", lambda x, p: sk(x, p, squeezed=lambda u: u.sum(0).max((2, 3)))),
    ("its stride is left at 1", lambda x, p: other(SK, x, p, stride=1)),
]


@pytest.mark.parametrize(("cause", "mistake"), SK_MISTAKES, ids=[cause for cause, _ in SK_MISTAKES])
def test_selective_kernels(cause: str, mistake: Any) -> None:
    x = normal((3, 6, 4, 5), 4)
    named = enumerate(place(SK).parameters.items(), start=20)
    params = {name: normal(shape, seed) / math.sqrt(math.prod(shape[1:])) for seed, (name, shape) in named}
    (said,) = causes(SK, x, params, mistake(x, params))
    assert said.startswith(cause)


def test_branches_without_their_relus() -> None:
    x = normal((3, 6, 4, 5), 5)
    named = enumerate(place(SK).parameters.items(), start=20)
    params = {name: normal(shape, seed) / math.sqrt(math.prod(shape[1:])) for seed, (name, shape) in named}
    branches = branches_of(x, params, activation=lambda u: u)
    z = np.maximum(dense(branches.sum(0).mean((2, 3)), params, "reduce"), 0)
    shares = softmax(np.stack([dense(z, params, f"select{i}") for i in (1, 2, 3)]))
    observed = (shares[..., None, None] * branches).sum(0)
    assert causes(SK, x, params, observed) == ["the ReLUs of its branches are left out"]


@pytest.mark.parametrize("fields", [MAXOUT, NORM, SE, SK], ids=lambda fields: fields["type"])
def test_what_is_right_or_wrong_in_no_known_way_has_no_cause(fields: dict[str, Any]) -> None:
    x = normal((3, 6, 4, 5), 6)
    traced = place(fields)
    params = {name: normal(shape, seed) for seed, (name, shape) in enumerate(traced.parameters.items())}
    right = apply_layer(traced, x, params, {})[0]
    assert causes(fields, x, params, right) == []
    assert causes(fields, x, params, right * 1.1 + normal(right.shape, 7)) == []
