"""The mistakes of `mutations.IN_UNITS`, planted in the MXNet adapter; what has to be said of them stands there."""

# ruff: noqa: N803  (F is what Gluon calls it)

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from mutations_alike import Planting
from mutations_mxnet import ADAPTER, TUNING, surroundings
from mutations_units import plantings
from mxnet.gluon import nn

from nin_multi.spec import LocalResponseNorm, Maxout, SEBlock, SKBlock
from nin_mxnet import units

__all__ = ["PLANTINGS", "TUNING", "surroundings"]

_forward = ADAPTER.compute


def _make_dense(make: Callable[..., nn.Dense]) -> Planting:
    """Where a unit makes a linear map by `nn.Dense`, call `make` with the same arguments."""
    return lambda patch: patch.setattr(units, "nn", SimpleNamespace(**{**vars(nn), "Dense": make}))


def _activate(**others: str | None) -> Planting:
    """Another activation in place of one."""

    def make(*args: Any, activation: str | None, **given: Any) -> nn.Dense:
        return nn.Dense(*args, activation=others.get(str(activation), activation), **given)

    return _make_dense(make)


class _ForgetsBias(nn.Dense):
    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        return super().hybrid_forward(F, x, weight, F.zeros_like(bias))


def _forget_gates_bias(*args: Any, **given: Any) -> nn.Dense:
    """Only a unit's gates end in a sigmoid."""
    return (_ForgetsBias if given["activation"] == "sigmoid" else nn.Dense)(*args, **given)


def _make_without_bias(*args: Any, **given: Any) -> nn.Dense:
    return nn.Dense(*args, **{**given, "use_bias": False})


def _gated(unit: Any, F: Any, x: Any, squeeze: Any = units._means, stop: Any = lambda F, gates: gates) -> Any:
    """Squeeze and excitation with one step changed."""
    return units._weigh(F, x, stop(F, unit.expand(unit.reduce(squeeze(F, x)))))


def _softmax(F: Any, scores: Any, axis: int = 1) -> Any:
    return F.softmax(scores, axis=axis)


def _selected(unit: Any, F: Any, x: Any, activation: str | None = "relu", share: Any = _softmax) -> Any:
    """Selective kernels with one step changed; `share` of scores (N, 2, C)."""
    images = [layer(x) for layer in unit._each("branch")]
    images = [F.Activation(image, act_type=activation) if activation else image for image in images]
    z = unit.reduce(units._means(F, images[0] + images[1]))
    scores = F.stack(*[layer(z) for layer in unit._each("select")], axis=1)
    weights = F.split(share(F, scores), num_outputs=2, axis=1, squeeze_axis=True)
    return units._weigh(F, images[0], weights[0]) + units._weigh(F, images[1], weights[1])


def _group(F: Any, x: Any, *sizes: int) -> Any:
    """(N, C, H, W) with the channels in so many groups of so many."""
    return F.reshape(x, shape=(0, -4, *sizes, 0, 0))


PLANTINGS: dict[str, Planting] = {
    **plantings(ADAPTER),
    "normalization left out": _forward(LocalResponseNorm, lambda _, F, x: F.identity(x)),
    "linear maps made without bias": _make_dense(
        lambda *args, **given: nn.Dense(*args, **{**given, "use_bias": False})
    ),
    "sigmoid left out": _activate(sigmoid=None),
    "ReLU left out in between": _activate(relu=None),
    "second bias not added": _make_dense(_forget_gates_bias),
    "squeezed by the maximum": _forward(SEBlock, partial(_gated, squeeze=lambda F, x: F.max(x, axis=(2, 3)))),
    "gates without a gradient": _forward(SEBlock, partial(_gated, stop=lambda F, gates: F.BlockGrad(gates))),
    "softmax over the channels": _forward(SKBlock, partial(_selected, share=partial(_softmax, axis=2))),
    "branches added without shares": _forward(SKBlock, partial(_selected, share=lambda F, x: F.ones_like(x))),
    "branches' ReLUs left out": _forward(SKBlock, partial(_selected, activation=None)),
    "pieces far apart": _forward(Maxout, lambda _, F, x: F.max(_group(F, x, 3, -1), axis=1)),
    "mean of the pieces": _forward(Maxout, lambda _, F, x: F.mean(_group(F, x, -1, 3), axis=2)),
}
