"""The linear map of rows: a layer of its own, and a part of the units."""

from __future__ import annotations

from collections.abc import Mapping

from nin_multi.oracle.arrays import Array, Backward, Named


def linear(name: str, x: Array, params: Mapping[str, Array]) -> tuple[Array, Backward]:
    """X (N, in) times weight (out, in), transposed, and the bias where there is one."""
    weight, bias = params[f"{name}.weight"], params.get(f"{name}.bias")

    def backward(g: Array, gradients: Named) -> Array:
        gradients[f"{name}.weight"] = g.T @ x
        if bias is not None:
            gradients[f"{name}.bias"] = g.sum(0)
        return g @ weight

    y = x @ weight.T
    return (y if bias is None else y + bias), backward
