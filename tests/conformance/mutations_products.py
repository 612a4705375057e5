"""The mistakes of `mutations.IN_PRODUCTS`, planted in MindSpore's product form; what to say of them stands there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mindspore import Tensor, nn, ops
from mutations_alike import Patch, Planting
from mutations_mindspore import surroundings

from nin_mindspore import products
from nin_multi.knobs import Tuning

__all__ = ["PLANTINGS", "TUNING", "surroundings"]

TUNING: Tuning = {"convolution": "products"}


def _set(cls: type, name: str, change: Callable[[Any], Any]) -> Planting:
    """In cells that are just `cls`, no subclass, another attribute: `change(cell)`."""
    make = cls.__init__

    def make_other(cell: Any, *args: Any, **given: Any) -> None:
        make(cell, *args, **given)
        if type(cell) is cls:
            setattr(cell, name, change(cell))

    return lambda patch: patch.setattr(cls, "__init__", make_other)


def _replace(cls: type, name: str, other: Callable[..., Any]) -> Planting:
    """Another method."""
    return lambda patch: patch.setattr(cls, name, other)


def _by_columns(cell: Any) -> Any:
    """What the index of a pixel would be if columns were counted first; the one outside stays."""
    _, height, width, _ = cell.input
    pixel = cell.pixel.asnumpy()
    is_inside = pixel < height * width
    pixel[is_inside] = (pixel % width * height + pixel // width)[is_inside]
    return Tensor(pixel)


class _Assign:
    """In place of `ops.IndexAdd(axis=1)`: of several values for one place the last one stays."""

    def __init__(self, _: Any) -> None:
        pass

    def __call__(self, zeros: Any, index: Any, values: Any) -> Any:
        result = zeros.asnumpy().copy()
        result[:, index.asnumpy()] = values.asnumpy()
        return Tensor(result)


def _turn_gradient(cell: Any, x: Any, weight: Any, out: Any, dout: Any) -> Any:
    dy = dout.reshape(-1, cell.filters)
    dx = cell.input_product(dy, weight.reshape(cell.filters, cell.channels)).reshape(cell.input)
    return dx, cell.weight_product(x.reshape(-1, cell.channels), dy).reshape(weight.shape)


def _give_to_each(cell: Any, x: Any, out: Any, dout: Any) -> Any:
    nothing = cell.zeros_like(dout)
    parts = tuple(cell.select(cell.equal(cell.gather(x, tap, 1), out), dout, nothing) for tap in cell.taps)
    zeros = cell.zeros((x.shape[0], cell.size, x.shape[2]), x.dtype)
    return (cell.scatter(zeros, cell.all, cell.concat(parts)),)


def _take_second_for_first(patch: Patch) -> None:
    make = products.ProductConv2d.__init__

    def make_other(cell: Any, traced: Any, *args: Any, is_first: bool) -> None:
        make(cell, traced, *args, is_first=is_first or traced.name == "block1.conv")

    patch.setattr(products.ProductConv2d, "__init__", make_other)


def _flatten_as_it_lies(patch: Patch) -> None:
    enclose = products.ChannelsFirst
    patch.setattr(products, "ChannelsFirst", lambda layer: layer if isinstance(layer, nn.Flatten) else enclose(layer))


PLANTINGS: dict[str, Planting] = {
    "rows: channels before positions": _replace(
        products.GatheredConvolution, "flat", lambda cell, weight: weight.reshape(cell.filters, cell.columns)
    ),
    "rows: pixel outside is not zero": _set(products.PaddedConvolution, "zeros", lambda _: ops.Ones()),
    "rows: pixels counted by columns": _set(products.PaddedConvolution, "pixel", _by_columns),
    "rows: overlaps lost": _set(products.GatheredConvolution, "scatter", _Assign),
    "rows: overlaps lost at the edge": _set(products.PaddedConvolution, "scatter", _Assign),
    "bias has no gradient": _replace(
        products.AddBias, "bprop", lambda cell, x, bias, out, dout: (dout, ops.zeros_like(bias))
    ),
    "second convolution taken for the first": _take_second_for_first,
    "1 x 1: weight's gradient as (in, out)": _replace(products.PointConvolution, "bprop", _turn_gradient),
    "pool: last tap ignored": _set(products.LargestOf, "taps", lambda cell: cell.taps[:-1]),
    "pool: overlaps lost": _set(products.LargestOf, "scatter", _Assign),
    "pool: each of equal values counts": _replace(products.LargestOf, "bprop", _give_to_each),
    "channels stay last in flatten": _flatten_as_it_lies,
}
