"""Mistakes in maxout, normalization and units, planted through what the three adapters have in common.

What only one framework's own words can say stands in `mutations_units_torch.py` and its siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mutations_alike import Adapter, Patch, Planting, both

from nin_multi.spec import Conv2d, LocalResponseNorm


def plantings(adapter: Adapter) -> dict[str, Planting]:
    """All of `mutations.IN_UNITS` that need no word of the framework's."""
    return {
        "alpha divided by the size": _respecify(
            adapter, LocalResponseNorm, lambda lrn: {"alpha": lrn.alpha / lrn.size}
        ),
        "k left at 1": _respecify(adapter, LocalResponseNorm, lambda _: {"k": 1.0}),
        "size left at its default": _respecify(adapter, LocalResponseNorm, lambda _: {"size": 5}),
        "size taken for a radius": _respecify(adapter, LocalResponseNorm, lambda lrn: {"size": 2 * lrn.size + 1}),
        "branches' padding left out": _respecify(adapter, Conv2d, lambda _: {"padding": (0, 0)}),
        "branches' stride left at its default": _respecify(adapter, Conv2d, lambda _: {"stride": (1, 1)}),
        "shares exchanged": both(
            adapter.load(lambda _, params: _exchange(params)),
            adapter.around("params", lambda params, net: _exchange(params(net))),
        ),
    }


def _respecify(adapter: Adapter, kind: type, change: Callable[[Any], dict[str, Any]]) -> Planting:
    """Layers of a kind are made as if the spec said something else of them."""

    def plant(patch: Patch) -> None:
        compile_layer = adapter.layers.compile_layer

        def compile_other(traced: Any) -> Any:
            layer = traced.layer
            other = layer.model_copy(update=change(layer)) if isinstance(layer, kind) else layer
            return compile_layer(replace(traced, layer=other))

        patch.setattr(adapter.layers, "compile_layer", compile_other)

    return plant


def _exchange(params: Any) -> Any:
    other = {"select1": "select2", "select2": "select1"}
    parts = {name: name.split(".") for name in params}
    return {name: params[".".join(other.get(part, part) for part in each)] for name, each in parts.items()}
