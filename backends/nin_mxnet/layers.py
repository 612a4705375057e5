"""From a layer of the spec to a layer of Gluon, every default spelled out; not how the net is run."""

from __future__ import annotations

from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, nn
from mxnet.util import is_np_array

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
    Pool2d,
    ReLU,
    TracedLayer,
)


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
            return pool if layer.overhang(traced.input) == (0, 0) else CeilMaxPool2D(traced, layer)
        case AvgPool2d():
            pool = nn.AvgPool2D(
                layer.kernel_size,
                strides=layer.stride,
                padding=layer.padding,
                layout="NCHW",
                ceil_mode=False,
                count_include_pad=True,
            )
            return pool if layer.overhang(traced.input) == (0, 0) else CeilAvgPool2D(traced, layer)
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
        case NinBlock():
            return _sequential(traced.inner)
        case _:
            raise unsupported("mxnet", traced)


class CeilPool2D(HybridBlock):
    """Pooling that rounds up, as floor pooling of an extended image.

    MXNet's own ceil mode ("full") keeps windows that lie outside the image altogether, and counts the overhang in
    averages.
    """

    def __init__(self, traced: TracedLayer, layer: Pool2d) -> None:
        super().__init__()
        (ph, pw), (down, right) = layer.padding, layer.overhang(traced.input)
        self._padding = (0, 0, 0, 0, ph, ph, pw, pw)
        self._overhang = (0, 0, 0, 0, 0, down, 0, right)
        self._window = {"kernel": layer.kernel_size, "stride": layer.stride, "pooling_convention": "valid"}

    def _extend(self, F: Any, x: Any, around: float, beyond: float) -> Any:  # noqa: N803
        padded = F.pad(x.as_nd_ndarray(), mode="constant", pad_width=self._padding, constant_value=around)
        return F.pad(padded, mode="constant", pad_width=self._overhang, constant_value=beyond)


class CeilMaxPool2D(CeilPool2D):
    """Max pooling that rounds up."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803
        lowest = float(np.finfo(np.float32).min)
        return _as_around(F.Pooling(self._extend(F, x, lowest, lowest), pool_type="max", **self._window))


class CeilAvgPool2D(CeilPool2D):
    """Average pooling that rounds up; padding counts, the overhang does not."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803
        mean = F.Pooling(self._extend(F, x, 0.0, 0.0), pool_type="avg", **self._window)
        share = F.Pooling(self._extend(F, F.ones_like(x.as_nd_ndarray()), 1.0, 0.0), pool_type="avg", **self._window)
        return _as_around(mean / share)


def _as_around(value: Any) -> Any:
    """`pad` and `Pooling` make MXNet's older arrays; after `npx.set_np()` the layers around want the newer ones."""
    return value.as_np_ndarray() if is_np_array() else value
