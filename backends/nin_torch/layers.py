"""From a layer of the spec to a layer of PyTorch, every default spelled out; not how the net is run."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from nin_multi.backend import unsupported
from nin_multi.spec import (
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    NinBlock,
    ReLU,
    TracedLayer,
)
from nin_torch.space_to_depth import SpaceToDepthConv2d, can_use


def compile_architecture(
    architecture: Architecture, *, first_conv: str = "direct", layout: torch.memory_format = torch.contiguous_format
) -> nn.Sequential:
    """The net as PyTorch people write it: nested `nn.Sequential`, children called as in the spec.

    `first_conv` "space_to_depth" gives the first convolution another form with the same parameters, for a net in that
    `layout`.
    """
    net = _sequential(architecture.trace())
    if first_conv == "space_to_depth":
        _replace_first(net, architecture, layout)
    return net


def _replace_first(net: nn.Sequential, architecture: Architecture, layout: torch.memory_format) -> None:
    first = first_convolution(architecture)
    if first is None:
        return
    plain: Any = net.get_submodule(first.name)
    other = SpaceToDepthConv2d(
        plain.in_channels,
        plain.out_channels,
        plain.kernel_size,
        stride=plain.stride,
        padding=plain.padding,
        bias=plain.bias is not None,
    )
    other.layout = layout
    parent, _, child = first.name.rpartition(".")
    setattr(net.get_submodule(parent), child, other)


def first_convolution(architecture: Architecture) -> TracedLayer | None:
    """The convolution that sees the image, where it is the first layer and has a form with pixels as channels."""
    first = next(iter(architecture.walk()), None)
    return first if first and isinstance(first.layer, Conv2d) and can_use(first.layer) else None


def _sequential(layers: tuple[TracedLayer, ...]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((traced.child_name, compile_layer(traced)) for traced in layers))


def compile_layer(traced: TracedLayer) -> nn.Module:
    """One layer. Raises UnsupportedLayer for a type that has no form here."""
    layer = traced.layer
    match layer:
        case Conv2d():
            return nn.Conv2d(
                traced.input[1],
                layer.out_channels,
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                dilation=1,
                groups=1,
                bias=layer.bias,
                padding_mode="zeros",
            )
        case ReLU():
            return nn.ReLU(inplace=False)
        case MaxPool2d():
            return nn.MaxPool2d(
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                dilation=1,
                return_indices=False,
                ceil_mode=layer.ceil_mode,
            )
        case AvgPool2d():
            return nn.AvgPool2d(
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                ceil_mode=layer.ceil_mode,
                count_include_pad=True,
                divisor_override=None,
            )
        case Dropout():
            return nn.Dropout(p=layer.rate, inplace=False)
        case GlobalAvgPool2d():
            return nn.AdaptiveAvgPool2d((1, 1))
        case Flatten():
            return nn.Flatten(start_dim=1, end_dim=-1)
        case Linear():
            return nn.Linear(traced.input[1], layer.out_features, bias=layer.bias)
        case NinBlock():
            return _sequential(traced.inner)
        case _:
            raise unsupported("torch", traced)
