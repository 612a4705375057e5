"""One layer after another, by its type; those with more than a line to them stand in modules of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nin_multi.backend import Masks, unsupported
from nin_multi.oracle.arrays import Array, Backward, Named
from nin_multi.oracle.channels import local_response_norm, maxout
from nin_multi.oracle.dense import linear
from nin_multi.oracle.units import se_block, sk_block
from nin_multi.oracle.windows import avg_pool2d, conv2d, max_pool2d
from nin_multi.spec import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    LocalResponseNorm,
    Maxout,
    MaxPool2d,
    NinBlock,
    ReLU,
    SEBlock,
    SKBlock,
    TracedLayer,
)


def apply_layer(traced: TracedLayer, x: Array, params: Mapping[str, Array], masks: Masks) -> tuple[Array, Backward]:
    """Output of one layer, and the function that leads gradients back through it."""
    layer, name = traced.layer, traced.name
    match layer:
        case Conv2d():
            return conv2d(layer, name, x, params)
        case Linear():
            return linear(name, x, params)
        case ReLU():
            return np.maximum(x, 0.0), lambda g, _: g * (x > 0.0)
        case MaxPool2d():
            return max_pool2d(layer, x)
        case AvgPool2d():
            return avg_pool2d(layer, x)
        case Dropout():
            mask = masks.get(name)
            return (x, lambda g, _: g) if mask is None else (x * mask, lambda g, _: g * mask)
        case GlobalAvgPool2d():
            area = x.shape[2] * x.shape[3]
            return x.mean((2, 3), keepdims=True), lambda g, _: np.broadcast_to(g / area, x.shape)
        case Flatten():
            return x.reshape(len(x), -1), lambda g, _: g.reshape(x.shape)
        case NinBlock():
            return apply_layers(traced.inner, x, params, masks)
        case Maxout():
            return maxout(layer, x)
        case LocalResponseNorm():
            return local_response_norm(layer, x)
        case SEBlock():
            return se_block(name, x, params)
        case SKBlock():
            return sk_block(layer, name, x, params)
        case _:
            raise unsupported("numpy", traced)


def apply_layers(
    layers: tuple[TracedLayer, ...], x: Array, params: Mapping[str, Array], masks: Masks
) -> tuple[Array, Backward]:
    """Output of the last layer, and the function that leads gradients back through all of them."""
    steps: list[Backward] = []
    for traced in layers:
        x, step = apply_layer(traced, x, params, masks)
        steps.append(step)

    def backward(g: Array, gradients: Named) -> Array:
        for step in reversed(steps):
            g = step(g, gradients)
        return g

    return x, backward
