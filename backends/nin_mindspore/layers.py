"""From a layer of the spec to a layer of MindSpore, every default spelled out; not how the net is run."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from mindspore import nn, ops

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
            return _repeatable(nn.Dropout(p=layer.rate))
        case GlobalAvgPool2d():
            return GlobalAvgPool()
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
        case NinBlock():
            return _sequential(traced.inner)
        case _:
            raise unsupported("mindspore", traced)


def _repeatable(dropout: nn.Dropout) -> nn.Dropout:
    """The same layer, whose draws hang on the seed alone.

    After the first five runs of its kernel, MindSpore splits it over threads as it finds fastest, and each thread draws
    for itself: equal runs would not be equal.
    """
    dropout.dropout = Draw(dropout.p, dropout.dropout.Seed0, dropout.dropout.Seed1)
    return dropout


class Draw(nn.Cell):
    """What stands inside a dropout: values scaled by 1 / (1 - rate), or 0; and by what they were multiplied."""

    def __init__(self, rate: float, seed: int, other_seed: int) -> None:
        super().__init__()
        self.rate = rate
        self.uniform = ops.UniformReal(seed, other_seed)

    def construct(self, x: Any) -> tuple[Any, Any]:
        mask = (self.uniform(x.shape) >= self.rate).astype(x.dtype) / (1.0 - self.rate)
        return x * mask, mask


class GlobalAvgPool(nn.Cell):
    """Mean over height and width, kept as 1 x 1; `nn` has no layer of its own for it that runs on the CPU."""

    def construct(self, x: Any) -> Any:
        return ops.mean(x, (2, 3), True)
