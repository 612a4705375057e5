"""The mistakes of `mutations.IN_UNITS`, planted in the PyTorch adapter; what has to be said of them stands there."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from mutations_alike import Patch, Planting
from mutations_torch import ADAPTER, TUNING, surroundings
from mutations_units import plantings
from torch import nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from nin_multi.spec import LocalResponseNorm, Maxout, SEBlock, SKBlock
from nin_torch import units

__all__ = ["PLANTINGS", "TUNING", "surroundings"]

_forward = ADAPTER.compute
_over_branches = partial(torch.softmax, dim=1)


def _make_without_bias(patch: Patch) -> None:
    other = SimpleNamespace(**{**vars(nn), "Linear": lambda *sizes, bias: nn.Linear(*sizes, bias=False)})
    patch.setattr(units, "nn", other)


def _mean(x: Any) -> Any:
    return x.mean((2, 3))


def _gated(
    unit: Any, x: Any, squeeze: Any = _mean, between: Any = torch.relu, gate: Any = torch.sigmoid, has_bias: bool = True
) -> Any:
    """Squeeze and excitation with one step changed."""
    z = between(unit.reduce(squeeze(x)))
    scores = F.linear(z, unit.expand.weight, unit.expand.bias if has_bias else None)
    return x * gate(scores)[:, :, None, None]


def _without_gradient(scores: Any) -> Any:
    """Zeros, not none at all, which would be noticed by itself."""
    return torch.sigmoid(scores.detach() + 0.0 * scores)


def _selected(unit: Any, x: Any, activation: Any = torch.relu, share: Any = _over_branches) -> Any:
    """Selective kernels with one step changed; `share` of scores (N, B, C)."""
    images = torch.stack([activation(layer(x)) for layer in unit._each("branch")], 1)
    z = torch.relu(unit.reduce(_mean(images.sum(1))))
    scores = torch.stack([layer(z) for layer in unit._each("select")], 1)
    return (share(scores)[..., None, None] * images).sum(1)


PLANTINGS: dict[str, Planting] = {
    **plantings(ADAPTER),
    "normalization left out": _forward(LocalResponseNorm, lambda _, x: x),
    "linear maps made without bias": _make_without_bias,
    "sigmoid left out": _forward(SEBlock, partial(_gated, gate=lambda scores: scores)),
    "ReLU left out in between": _forward(SEBlock, partial(_gated, between=lambda z: z)),
    "second bias not added": _forward(SEBlock, partial(_gated, has_bias=False)),
    "squeezed by the maximum": _forward(SEBlock, partial(_gated, squeeze=lambda x: x.amax((2, 3)))),
    "gates without a gradient": _forward(SEBlock, partial(_gated, gate=_without_gradient)),
    "softmax over the channels": _forward(SKBlock, partial(_selected, share=partial(torch.softmax, dim=2))),
    "branches added without shares": _forward(SKBlock, partial(_selected, share=torch.ones_like)),
    "branches' ReLUs left out": _forward(SKBlock, partial(_selected, activation=lambda x: x)),
    "pieces far apart": _forward(Maxout, lambda unit, x: x.unflatten(1, (unit.pieces, -1)).amax(1)),
    "mean of the pieces": _forward(Maxout, lambda unit, x: x.unflatten(1, (-1, unit.pieces)).mean(2)),
}
