"""From a layer of the spec to a layer of PyTorch, every default spelled out; not how the net is run."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, TypeVar

import torch
from torch import nn

from nin_multi.backend import refuse_taken_names, unsupported
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
from nin_torch import units
from nin_torch.convolutions import ContiguousConv2d, SlicedConv2d, SpaceToDepthConv2d
from nin_torch.forms import convolutions, has_slices, has_space, is_large

AnyConv2d = TypeVar("AnyConv2d", bound=nn.Conv2d)


def compile_architecture(
    architecture: Architecture, *, first_conv: str = "direct", layout: str = "contiguous"
) -> nn.Sequential:
    """The net as PyTorch people write it: nested `nn.Sequential`, children called as in the spec.

    Other values of the knobs `first_conv` and `layout` give some convolutions another form with the same parameters; so
    do strides that PyTorch cannot be trusted with: of single pixels, and of a kernel that has one place.
    """
    net = _sequential(architecture.trace())
    for is_first, traced in zip(chain([True], repeat(False)), architecture.walk(), strict=False):
        for name, layer in convolutions(traced):
            if is_first and first_conv == "space_to_depth" and has_space(layer):
                other = _replace(net, name, SpaceToDepthConv2d)
                other.layout = torch.contiguous_format if layout == "contiguous" else torch.channels_last
            elif has_slices(layer, traced.input[2:]):
                _replace(net, name, SlicedConv2d)
            elif not is_first and layout == "mixed" and is_large(layer):
                _replace(net, name, ContiguousConv2d)
    return net


def _replace(net: nn.Sequential, name: str, kind: type[AnyConv2d]) -> AnyConv2d:
    """Another kind of convolution in a convolution's place."""
    plain: Any = net.get_submodule(name)
    other = kind(
        plain.in_channels,
        plain.out_channels,
        plain.kernel_size,
        stride=plain.stride,
        padding=plain.padding,
        bias=plain.bias is not None,
    )
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, other)
    return other


def _sequential(layers: tuple[TracedLayer, ...]) -> nn.Sequential:
    refuse_taken_names("torch", nn.Sequential(), layers)
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
        case Maxout():
            return units.Maxout(layer.pieces)
        case LocalResponseNorm():
            # It divides alpha by the size, which the spec does not.
            return nn.LocalResponseNorm(layer.size, alpha=layer.size * layer.alpha, beta=layer.beta, k=layer.k)
        case SEBlock():
            return units.SEBlock(traced.input[1], layer.squeezed(traced.input[1]))
        case SKBlock():
            return units.SKBlock(_branches(traced, layer), layer.out_channels, layer.squeezed)
        case NinBlock():
            return _sequential(traced.inner)
        case _:
            raise unsupported("torch", traced)


def _branches(traced: TracedLayer, layer: SKBlock) -> list[nn.Module]:
    """The convolutions of a unit, side by side."""
    return [compile_layer(replace(traced, layer=branch)) for branch in layer.branches()]
