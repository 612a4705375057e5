"""From a layer of the spec to a layer of Gluon, every default spelled out; not how the net is run."""

from __future__ import annotations

from dataclasses import replace

from mxnet.gluon import HybridBlock, nn

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
from nin_mxnet import units


def compile_architecture(architecture: Architecture) -> nn.HybridSequential:
    """The net as Gluon people write it: nested `nn.HybridSequential`, children called as in the spec."""
    return _sequential(architecture.trace())


def _sequential(layers: tuple[TracedLayer, ...]) -> nn.HybridSequential:
    net = nn.HybridSequential()
    for traced in layers:
        net.register_child(compile_layer(traced), traced.child_name)
    return net


def compile_layer(traced: TracedLayer) -> HybridBlock:
    """One layer. Raises UnsupportedLayer for a type that has no form here."""
    layer = traced.layer
    match layer:
        case Conv2d():
            return nn.Conv2D(
                layer.out_channels,
                layer.kernel_size,
                strides=layer.stride,
                padding=layer.padding,
                dilation=(1, 1),
                groups=1,
                layout="NCHW",
                activation=None,
                use_bias=layer.bias,
                in_channels=traced.input[1],
            )
        case ReLU():
            return nn.Activation("relu")
        case MaxPool2d():
            pool = nn.MaxPool2D(
                layer.kernel_size,
                strides=layer.stride,
                padding=layer.padding,
                layout="NCHW",
                ceil_mode=False,
            )
            return pool if layer.overhang(traced.input) == (0, 0) else units.CeilMaxPool2D(traced, layer)
        case AvgPool2d():
            pool = nn.AvgPool2D(
                layer.kernel_size,
                strides=layer.stride,
                padding=layer.padding,
                layout="NCHW",
                ceil_mode=False,
                count_include_pad=True,
            )
            return pool if layer.overhang(traced.input) == (0, 0) else units.CeilAvgPool2D(traced, layer)
        case Dropout():
            return nn.Dropout(rate=layer.rate, axes=())
        case GlobalAvgPool2d():
            return nn.GlobalAvgPool2D(layout="NCHW")
        case Flatten():
            return nn.Flatten()
        case Linear():
            return nn.Dense(
                layer.out_features,
                activation=None,
                use_bias=layer.bias,
                flatten=False,
                in_units=traced.input[1],
            )
        case Maxout():
            return units.Maxout(layer.pieces, has_area=len(traced.input) == 4)
        case LocalResponseNorm():
            # It divides alpha by the size, which the spec does not.
            return units.LocalResponseNorm(layer.size, alpha=layer.size * layer.alpha, beta=layer.beta, k=layer.k)
        case SEBlock():
            return units.SEBlock(traced.input[1], layer.squeezed(traced.input[1]))
        case SKBlock():
            return units.SKBlock(_branches(traced, layer), layer.out_channels, layer.squeezed)
        case NinBlock():
            return _sequential(traced.inner)
        case _:
            raise unsupported("mxnet", traced)


def _branches(traced: TracedLayer, layer: SKBlock) -> list[HybridBlock]:
    """The convolutions of a unit, side by side."""
    return [compile_layer(replace(traced, layer=branch)) for branch in layer.branches()]
