"""Layers as matrix products of images that have their channels last (N, H, W, C); not the net that people write.

MindSpore's own convolution hands oneDNN its weights in the plain order, for which oneDNN 3.10 has no fast kernel
(docs/performance.md); its matrix product is fast. A convolution here gathers the pixels under each window into a row:
(N * OH * OW, kh * kw * C) times the weights. A pool compares what it gathers. The backward passes are written by hand,
since the derivatives that MindSpore has for gathering are slower than the products.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from nin_mindspore import product_units
from nin_multi.spec import (
    Architecture,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    LocalResponseNorm,
    Maxout,
    MaxPool2d,
    NinBlock,
    SEBlock,
    SKBlock,
    TracedLayer,
)

Indices = NDArray[np.int32]
OUTSIDE = -1


def compile_products(architecture: Architecture, twin: nn.SequentialCell) -> nn.SequentialCell:
    """The net `twin` in another form: the same parameters and names, between `channels_last` and `channels_first`."""
    first = next((traced.name for traced in architecture.walk() if traced.parameters), None)
    return _sequential(architecture.trace(), twin, first)


def _sequential(layers: tuple[TracedLayer, ...], twin: nn.SequentialCell, first: str | None) -> nn.SequentialCell:
    pairs = zip(layers, twin.cells(), strict=True)
    cells = ((traced.child_name, _compile_layer(traced, cell, first)) for traced, cell in pairs)
    return nn.SequentialCell(OrderedDict(cells))


def _compile_layer(traced: TracedLayer, twin: nn.Cell, first: str | None) -> nn.Cell:
    layer = traced.layer
    match layer:
        case Conv2d():
            return ProductConv2d(traced, layer, twin, is_first=traced.name == first)
        case MaxPool2d():
            return GatheredMaxPool2d(traced, layer)
        case NinBlock():
            return _sequential(traced.inner, twin, first)
        case GlobalAvgPool2d():
            return product_units.GlobalAvgPool()
        case AvgPool2d() | Flatten():
            return ChannelsFirst(twin)
        case Maxout():
            return product_units.Maxout(layer.pieces)
        case LocalResponseNorm():
            return product_units.LocalResponseNorm(twin)
        case SEBlock():
            return product_units.SEBlock(twin)
        case SKBlock():
            return product_units.SKBlock(twin, _branches(traced, layer, twin, is_first=traced.name == first))
        case _:
            return twin  # alike in any order


def _branches(traced: TracedLayer, layer: SKBlock, twin: nn.Cell, *, is_first: bool) -> list[nn.Cell]:
    """The convolutions of a unit, side by side."""
    pairs = zip(layer.branches(), twin.branches, strict=True)
    return [ProductConv2d(replace(traced, layer=branch), branch, cell, is_first=is_first) for branch, cell in pairs]


def channels_last(x: Any) -> Any:
    """(N, C, H, W) as (N, H, W, C); anything else as it is."""
    return ops.transpose(x, (0, 2, 3, 1)) if x.ndim == 4 else x


def channels_first(x: Any) -> Any:
    """(N, H, W, C) as (N, C, H, W); anything else as it is."""
    return ops.transpose(x, (0, 3, 1, 2)) if x.ndim == 4 else x


class ChannelsFirst(nn.Cell):
    """A layer that wants (N, C, H, W), among layers that have their channels last."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.layer = layer

    def construct(self, x: Any) -> Any:
        return channels_last(self.layer(channels_first(x)))


def reach(size: int, count: int, kernel: int, stride: int, padding: int) -> Indices:
    """Where each of `count` windows looks along one axis of so many pixels, (count, kernel).

    >>> reach(4, 2, 3, 2, 1).tolist()
    [[-1, 0, 1], [1, 2, 3]]
    """
    at = np.arange(count)[:, np.newaxis] * stride + np.arange(kernel) - padding
    return np.where((at >= 0) & (at < size), at, OUTSIDE).astype(np.int32)


class ProductConv2d(nn.Cell):
    """A convolution of (N, H, W, C), with the parameters of the `nn.Conv2d` that it stands for."""

    def __init__(self, traced: TracedLayer, layer: Conv2d, twin: nn.Conv2d, *, is_first: bool) -> None:
        super().__init__()
        self.weight = twin.weight
        self.bias = twin.bias if layer.bias else None
        self.product = _convolution(traced, layer)
        self.product.is_first = is_first
        self.add = AddBias()

    def construct(self, x: Any) -> Any:
        y = self.product(x, self.weight)
        return y if self.bias is None else self.add(y, self.bias)


def _convolution(traced: TracedLayer, layer: Conv2d) -> nn.Cell:
    (_, _, height, width), (_, _, out_height, out_width) = traced.input, traced.output
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    rows, columns = reach(height, out_height, kh, sh, ph), reach(width, out_width, kw, sw, pw)
    pixel = rows[:, np.newaxis, :, np.newaxis] * width + columns[:, np.newaxis, :]  # (OH, OW, kh, kw)
    is_outside = (rows == OUTSIDE)[:, np.newaxis, :, np.newaxis] | (columns == OUTSIDE)[:, np.newaxis, :]
    if pixel.shape == (height, width, 1, 1) and not is_outside.any():
        return PointConvolution(traced)
    if is_outside.any():
        return PaddedConvolution(traced, layer, np.where(is_outside, height * width, pixel))
    return GatheredConvolution(traced, layer, pixel)


class PointConvolution(nn.Cell):
    """1 x 1, stride 1: the pixels are the rows. (N, H, W, C), (O, C, 1, 1) -> (N, H, W, O)."""

    is_first = False  # then nobody wants the gradient by its input, and MindSpore would not leave it out by itself

    def __init__(self, traced: TracedLayer) -> None:
        super().__init__()
        self.input, self.output = _channels_last(traced)
        self.channels, self.filters = self.input[-1], self.output[-1]
        self.forward_product = ops.MatMul(transpose_b=True)
        self.weight_product = ops.MatMul(transpose_a=True)
        self.input_product = ops.MatMul()
        self.zeros_like = ops.ZerosLike()

    def construct(self, x: Any, weight: Any) -> Any:
        y = self.forward_product(x.reshape(-1, self.channels), weight.reshape(self.filters, self.channels))
        return y.reshape(self.output)

    def bprop(self, x: Any, weight: Any, out: Any, dout: Any) -> Any:
        dy = dout.reshape(-1, self.filters)
        dw = self.weight_product(dy, x.reshape(-1, self.channels)).reshape(self.filters, self.channels, 1, 1)
        if self.is_first:
            return self.zeros_like(x), dw
        dx = self.input_product(dy, weight.reshape(self.filters, self.channels))
        return dx.reshape(self.input), dw


class GatheredConvolution(nn.Cell):
    """(N, H, W, C), (O, C, kh, kw) -> (N, OH, OW, O)."""

    is_first = False

    def __init__(self, traced: TracedLayer, layer: Conv2d, pixel: Indices) -> None:
        super().__init__()
        self.input, self.output = _channels_last(traced)
        self.channels, self.filters = self.input[-1], self.output[-1]
        self.pixels = self.input[1] * self.input[2]
        (self.kh, self.kw) = layer.kernel_size
        self.columns = self.kh * self.kw * self.channels
        self.pixel = Tensor(pixel.astype(np.int32).ravel())
        self.gather, self.scatter = ops.Gather(), ops.IndexAdd(axis=1)
        self.forward_product = ops.MatMul(transpose_b=True)
        self.weight_product = ops.MatMul(transpose_a=True)
        self.input_product = ops.MatMul()
        self.transpose, self.zeros, self.zeros_like = ops.Transpose(), ops.Zeros(), ops.ZerosLike()

    def rows(self, x: Any) -> Any:
        """(N * OH * OW, kh * kw * C)."""
        gathered = self.gather(x.reshape(-1, self.pixels, self.channels), self.pixel, 1)
        return gathered.reshape(-1, self.columns)

    def add_up(self, rows: Any, like: Any) -> Any:
        """(N, H, W, C): what each pixel gets from all rows that it stands in."""
        zeros = self.zeros((like.shape[0], self.pixels, self.channels), like.dtype)
        return self.scatter(zeros, self.pixel, rows.reshape(like.shape[0], -1, self.channels)).reshape(like.shape)

    def flat(self, weight: Any) -> Any:
        return self.transpose(weight, (0, 2, 3, 1)).reshape(self.filters, self.columns)

    def construct(self, x: Any, weight: Any) -> Any:
        return self.forward_product(self.rows(x), self.flat(weight)).reshape(self.output)

    def bprop(self, x: Any, weight: Any, out: Any, dout: Any) -> Any:
        dy = dout.reshape(-1, self.filters)
        dw = self.weight_product(dy, self.rows(x)).reshape(self.filters, self.kh, self.kw, self.channels)
        if self.is_first:
            return self.zeros_like(x), self.transpose(dw, (0, 3, 1, 2))
        dx = self.add_up(self.input_product(dy, self.flat(weight)), x)
        return dx, self.transpose(dw, (0, 3, 1, 2))


class PaddedConvolution(GatheredConvolution):
    """Windows that reach over the edge find zeros in one more pixel."""

    def __init__(self, traced: TracedLayer, layer: Conv2d, pixel: Indices) -> None:
        super().__init__(traced, layer, pixel)
        self.inside = Tensor(np.arange(self.pixels, dtype=np.int32))
        self.concat = ops.Concat(1)

    def rows(self, x: Any) -> Any:
        outside = self.zeros((x.shape[0], 1, self.channels), x.dtype)
        extended = self.concat((x.reshape(-1, self.pixels, self.channels), outside))
        return self.gather(extended, self.pixel, 1).reshape(-1, self.columns)

    def add_up(self, rows: Any, like: Any) -> Any:
        zeros = self.zeros((like.shape[0], self.pixels + 1, self.channels), like.dtype)
        extended = self.scatter(zeros, self.pixel, rows.reshape(like.shape[0], -1, self.channels))
        # A gather takes the extra pixel away: MindSpore's slices copy element by element.
        return self.gather(extended, self.inside, 1).reshape(like.shape)


class AddBias(nn.Cell):
    """(N, H, W, C) + (C,)."""

    def __init__(self) -> None:
        super().__init__()
        self.add, self.sum, self.ones = ops.BiasAdd(), ops.MatMul(), ops.Ones()

    def construct(self, x: Any, bias: Any) -> Any:
        return self.add(x.reshape(-1, x.shape[-1]), bias).reshape(x.shape)

    def bprop(self, x: Any, bias: Any, out: Any, dout: Any) -> Any:
        # As a product with ones the sum over rows is three times as fast as MindSpore's sum.
        dy = dout.reshape(-1, dout.shape[-1])
        return dout, self.sum(self.ones((1, dy.shape[0]), dy.dtype), dy).reshape(bias.shape)


class GatheredMaxPool2d(nn.Cell):
    """Max pooling of (N, H, W, C), first along the rows, then along the columns: of equal values the first counts."""

    def __init__(self, traced: TracedLayer, layer: MaxPool2d) -> None:
        super().__init__()
        (_, self.height, self.width, self.channels), (_, self.out_height, self.out_width, _) = _channels_last(traced)
        (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
        self.across = LargestOf(reach(self.width, self.out_width, kw, sw, pw), self.width)
        self.down = LargestOf(reach(self.height, self.out_height, kh, sh, ph), self.height)

    def construct(self, x: Any) -> Any:
        x = self.across(x.reshape(-1, self.width, self.channels))
        x = self.down(x.reshape(-1, self.height, self.out_width * self.channels))
        return x.reshape(-1, self.out_height, self.out_width, self.channels)


class LargestOf(nn.Cell):
    """The largest of each window along axis 1, (N, size, C) -> (N, count, C)."""

    def __init__(self, at: Indices, size: int) -> None:
        super().__init__()
        first = np.where(at == OUTSIDE, size, at).min(1, keepdims=True)
        taps = np.where(at == OUTSIDE, first, at).T  # what is looked at twice changes no maximum
        self.taps = tuple(Tensor(np.ascontiguousarray(tap)) for tap in taps)
        self.all = Tensor(np.ascontiguousarray(taps).ravel())
        self.size = size
        self.gather, self.scatter, self.concat = ops.Gather(), ops.IndexAdd(axis=1), ops.Concat(1)
        self.maximum, self.equal, self.select = ops.Maximum(), ops.Equal(), ops.Select()
        self.zeros, self.zeros_like = ops.Zeros(), ops.ZerosLike()
        self.no_parts: tuple[Any, ...] = ()

    def construct(self, x: Any) -> Any:
        largest = self.gather(x, self.taps[0], 1)
        for tap in self.taps[1:]:
            largest = self.maximum(largest, self.gather(x, tap, 1))
        return largest

    def bprop(self, x: Any, out: Any, dout: Any) -> Any:
        nothing = self.zeros_like(dout)
        remaining, parts = dout, self.no_parts
        for tap in self.taps[:-1]:
            is_largest = self.equal(self.gather(x, tap, 1), out)
            part = self.select(is_largest, remaining, nothing)
            parts, remaining = (*parts, part), remaining - part
        parts = (*parts, remaining)
        zeros = self.zeros((x.shape[0], self.size, x.shape[2]), x.dtype)
        return (self.scatter(zeros, self.all, self.concat(parts)),)


def _channels_last(traced: TracedLayer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of input and output as (-1, H, W, C)."""
    (_, *into), (_, *out) = traced.input, traced.output
    return (-1, into[1], into[2], into[0]), (-1, out[1], out[2], out[0])
