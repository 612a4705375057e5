"""The mistakes of `mutations.IN_UNITS`, planted in the MindSpore adapter; what has to be said of them stands there."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from mindspore import nn, ops
from mutations_alike import Patch, Planting
from mutations_mindspore import ADAPTER, TUNING, surroundings
from mutations_units import plantings

from nin_mindspore import units
from nin_multi.spec import LocalResponseNorm, Maxout, SEBlock, SKBlock

__all__ = ["PLANTINGS", "TUNING", "surroundings"]

_forward = ADAPTER.compute
_over_branches = partial(ops.softmax, axis=1)


def _make_without_bias(patch: Patch) -> None:
    def make(*sizes: int, **given: Any) -> nn.Dense:
        return nn.Dense(*sizes, **{**given, "has_bias": False})

    patch.setattr(units, "nn", SimpleNamespace(**{**vars(nn), "Dense": make}))


def _mean(x: Any) -> Any:
    return ops.mean(x, (2, 3))


def _gated(
    unit: Any, x: Any, squeeze: Any = _mean, between: Any = ops.relu, gate: Any = ops.sigmoid, has_bias: bool = True
) -> Any:
    """Squeeze and excitation with one step changed."""
    z = between(unit.reduce(squeeze(x)))
    scores = ops.dense(z, unit.expand.weight, unit.expand.bias if has_bias else None)
    return x * units._spread(gate(scores))


def _selected(unit: Any, x: Any, activation: Any = ops.relu, share: Any = _over_branches) -> Any:
    """Selective kernels with one step changed; `share` of scores (N, B, C)."""
    images = ops.stack([activation(layer(x)) for layer in unit.branches], 1)
    z = ops.relu(unit.reduce(_mean(images.sum(1))))
    scores = ops.stack([layer(z) for layer in unit.selects], 1)
    return (units._spread(share(scores)) * images).sum(1)


def _group(x: Any, *sizes: int) -> Any:
    """(N, C, H, W) with the channels in so many groups of so many."""
    return x.reshape((x.shape[0], *sizes, *x.shape[2:]))


PLANTINGS: dict[str, Planting] = {
    **plantings(ADAPTER),
    "normalization left out": _forward(LocalResponseNorm, lambda _, x: x),
    "linear maps made without bias": _make_without_bias,
    "sigmoid left out": _forward(SEBlock, partial(_gated, gate=lambda scores: scores)),
    "ReLU left out in between": _forward(SEBlock, partial(_gated, between=lambda z: z)),
    "second bias not added": _forward(SEBlock, partial(_gated, has_bias=False)),
    "squeezed by the maximum": _forward(SEBlock, partial(_gated, squeeze=lambda x: ops.amax(x, (2, 3)))),
    "gates without a gradient": _forward(
        SEBlock, partial(_gated, gate=lambda scores: ops.sigmoid(ops.stop_gradient(scores)))
    ),
    "softmax over the channels": _forward(SKBlock, partial(_selected, share=partial(ops.softmax, axis=2))),
    "branches added without shares": _forward(SKBlock, partial(_selected, share=ops.ones_like)),
    "branches' ReLUs left out": _forward(SKBlock, partial(_selected, activation=lambda x: x)),
    "pieces far apart": _forward(Maxout, lambda unit, x: ops.amax(_group(x, unit.pieces, -1), 1)),
    "mean of the pieces": _forward(Maxout, lambda unit, x: ops.mean(_group(x, -1, unit.pieces), 2)),
}
