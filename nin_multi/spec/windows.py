"""Layers with a window that moves over an image: the convolution and the pools, and how many windows fit."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Strict, model_validator

from nin_multi.spec.base import LayerBase, need_image
from nin_multi.spec.fields import Count, Padding, Shape, Size


def _positions(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, axis: str) -> int:
    """How many windows fit. Ceil mode keeps only windows that begin inside the image or its left padding."""
    room = size + 2 * padding - kernel
    if room < 0:
        raise ValueError(
            f"kernel does not fit: expected a padded {axis} of at least {kernel}, "
            f"got {size + 2 * padding} ({size} + 2 x {padding})"
        )
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


class Conv2d(LayerBase):
    """2-D convolution (cross-correlation), weight (out, in, kh, kw)."""

    prefix: ClassVar[str] = "conv"
    type: Literal["conv2d"] = "conv2d"
    out_channels: Count
    kernel_size: Size
    stride: Size = (1, 1)
    padding: Padding = (0, 0)
    bias: Annotated[bool, Strict()] = True

    def output_shape(self, shape: Shape) -> Shape:
        n, _, h, w = need_image(shape, "conv2d")
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        rows = _positions(h, kh, sh, ph, False, "height")
        return (n, self.out_channels, rows, _positions(w, kw, sw, pw, False, "width"))

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        weight = (self.out_channels, shape[1], *self.kernel_size)
        return {"weight": weight, "bias": (self.out_channels,)} if self.bias else {"weight": weight}

    def multiply_adds(self, shape: Shape) -> int:
        _, c, h, w = self.output_shape(shape)
        return c * h * w * shape[1] * math.prod(self.kernel_size)


class Pool2d(LayerBase):
    """What max and average pooling share. Padding is at most half the kernel, so no window is all padding."""

    prefix: ClassVar[str] = "pool"
    kernel_size: Size
    stride: Size
    padding: Padding = (0, 0)
    ceil_mode: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _padding_fits(self) -> Pool2d:
        for pad, kernel in zip(self.padding, self.kernel_size, strict=True):
            if 2 * pad > kernel:
                raise ValueError(f"padding must be at most half the kernel ({kernel}), got {pad}")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        n, c, h, w = need_image(shape, "pooling")
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        rows = _positions(h, kh, sh, ph, self.ceil_mode, "height")
        return (n, c, rows, _positions(w, kw, sw, pw, self.ceil_mode, "width"))

    def overhang(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns that ceil mode reads past the padded image: floor pooling needs just this much more.

        Frameworks disagree about ceil mode, and agree about floor mode on an image so extended.
        """
        _, _, rows, columns = self.output_shape(shape)
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        down = (rows - 1) * sh + kh - (shape[2] + 2 * ph)
        return (max(down, 0), max((columns - 1) * sw + kw - (shape[3] + 2 * pw), 0))

    def window_sizes(self, shape: Shape) -> tuple[list[int], list[int]]:
        """For each row and each column of the output, how much of its window lies on the padded image."""
        _, _, rows, columns = self.output_shape(shape)
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        down = [min(kh, shape[2] + 2 * ph - i * sh) for i in range(rows)]
        return down, [min(kw, shape[3] + 2 * pw - i * sw) for i in range(columns)]


class MaxPool2d(Pool2d):
    """Largest value of each window; padding never wins. Of equal values the first passes the gradient on."""

    type: Literal["max_pool2d"] = "max_pool2d"


class AvgPool2d(Pool2d):
    """Mean of each window. Padding counts as zeros; what ceil mode reads past the padding does not count."""

    type: Literal["avg_pool2d"] = "avg_pool2d"
