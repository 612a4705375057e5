"""From a layer of the spec to a layer of MindSpore, every default spelled out; not how the net is run."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from mindspore import nn

from nin_mindspore import units
from nin_multi.backend import unsupported
from nin_multi.spec import (
    Architecture,
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


def compile_architecture(architecture: Architecture) -> nn.SequentialCell:
    """The net as MindSpore people write it: nested `nn.SequentialCell`, children called as in the spec."""
    return _sequential(architecture.trace())


def _sequential(layers: tuple[TracedLayer, ...]) -> nn.SequentialCell:
    return nn.SequentialCell(OrderedDict((traced.child_name, compile_layer(traced)) for traced in layers))


def compile_layer(traced: TracedLayer) -> nn.Cell:
    """One layer. Raises UnsupportedLayer for a type that has no form here."""
    layer = traced.layer
    match layer:
        case Conv2d():
            (ph, pw) = layer.padding
            return nn.Conv2d(
                traced.input[1],
                layer.out_channels,
                layer.kernel_size,
                stride=layer.stride,
                pad_mode="pad",
                padding=(ph, ph, pw, pw),
                dilation=1,
                group=1,
                has_bias=layer.bias,
                weight_init="zeros",
                bias_init="zeros",
                data_format="NCHW",
            )
        case ReLU():
            return nn.ReLU()
        case MaxPool2d():
            return nn.MaxPool2d(
                kernel_size=layer.kernel_size,
                stride=layer.stride,
                pad_mode="pad",
                padding=layer.padding,
                dilation=1,
                return_indices=False,
                ceil_mode=layer.ceil_mode,
                data_format="NCHW",
            )
        case AvgPool2d():
            return nn.AvgPool2d(
                kernel_size=layer.kernel_size,
                stride=layer.stride,
                pad_mode="pad",
                padding=layer.padding,
                ceil_mode=layer.ceil_mode,
                count_include_pad=True,
                divisor_override=None,
                data_format="NCHW",
            )
        case Dropout():
            return units.repeatable(nn.Dropout(p=layer.rate))
        case GlobalAvgPool2d():
            return units.GlobalAvgPool()
        case Flatten():
            return nn.Flatten(start_dim=1, end_dim=-1)
        case Linear():
            return nn.Dense(
                traced.input[1],
                layer.out_features,
                weight_init="zeros",
                bias_init="zeros",
                has_bias=layer.bias,
                activation=None,
            )
        case Maxout():
            return units.Maxout(layer.pieces)
        case LocalResponseNorm():
            return units.LocalResponseNorm(traced.input[1], layer.size, alpha=layer.alpha, beta=layer.beta, k=layer.k)
        case SEBlock():
            return units.SEBlock(traced.input[1], layer.squeezed(traced.input[1]))
        case SKBlock():
            return units.SKBlock(_branches(traced, layer), layer.out_channels, layer.squeezed)
        case NinBlock():
            return _sequential(traced.inner)
        case _:
            raise unsupported("mindspore", traced)


def _branches(traced: TracedLayer, layer: SKBlock) -> list[nn.Cell]:
    """The convolutions of a unit, side by side."""
    return [compile_layer(replace(traced, layer=branch)) for branch in layer.branches()]
