"""Stored images on a device, resized and scaled there to exactly the values that the harness makes on the host."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nin_multi.backend import Resampling
from nin_multi.spec import Shape

_TOGETHER = 512  # images resized at a time where all are resized once: 100 MB of whole numbers each, at 224 x 224


class _Axis(NamedTuple):
    """One axis' resampling on the device; `weights` are shaped to be multiplied along that axis."""

    number: int
    rows: Tensor  # (taps, out) int64
    weights: Tensor  # (taps, out, 1) or (taps, 1, out) int32
    bits: int


class Pictures:
    """Images uint8 (N, h, w) on a device; given out as float32 (n, C, H, W) in [0, 1], as the net takes them.

    With `once`, all are resized at the start and kept as uint8 (N, H, W); else each batch is, when it is taken.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        channels: int,
        resampling: tuple[Resampling | None, Resampling | None],
        device: torch.device,
        *,
        channels_last: bool,
        once: bool,
    ) -> None:
        self._channels, self._channels_last = channels, channels_last
        down, across = resampling
        # Horizontally first, as Pillow does it: there is a rounding between the two passes.
        self._axes = [_axis(number, axis, device) for number, axis in ((2, across), (1, down)) if axis is not None]
        # A tensor, and on the device: by a plain number a GPU divides as x * (1 / 255), which is another value.
        self._white = torch.tensor(255.0, device=device)
        self._pixels = torch.tensor(images, device=device)
        if once and self._axes:
            self._pixels, self._axes = self._resize_all(), []

    def take(self, chosen: Tensor) -> Tensor:
        """The images of these numbers, int64 (n,), in this order."""
        pixels = self._resize(self._pixels.index_select(0, chosen))
        x = torch.div(pixels, self._white)  # float32 (n, H, W)
        if self._channels_last:  # the strides of (n, H, W, C), without a copy where C is 1
            return x.unsqueeze(3).expand(-1, -1, -1, self._channels).contiguous().permute(0, 3, 1, 2)
        return x.unsqueeze(1).expand(-1, self._channels, -1, -1).contiguous()

    def _resize_all(self) -> Tensor:
        height, width = self._resize(self._pixels[:1]).shape[1:]
        whole = torch.empty((len(self._pixels), height, width), dtype=torch.uint8, device=self._pixels.device)
        for part, out in zip(torch.split(self._pixels, _TOGETHER), torch.split(whole, _TOGETHER), strict=True):
            out.copy_(self._resize(part))
        return whole

    def _resize(self, pixels: Tensor) -> Tensor:
        for axis in self._axes:
            pixels = _resample(pixels, axis)
        return pixels


def _axis(number: int, resampling: Resampling, device: torch.device) -> _Axis:
    shape = (1, -1) if number == 2 else (-1, 1)
    weights: NDArray[Any] = resampling.weights.reshape(len(resampling.weights), *shape)
    rows = torch.tensor(resampling.rows.astype(np.int64), device=device)
    return _Axis(number, rows, torch.tensor(weights.astype(np.int32), device=device), resampling.bits)


def _resample(pixels: Tensor, axis: _Axis) -> Tensor:
    """One pass in whole numbers, so that nothing depends on how a device rounds: uint8 in, uint8 out."""
    wide = pixels.to(torch.int32)
    total = wide.index_select(axis.number, axis.rows[0]) * axis.weights[0]
    for rows, weights in zip(axis.rows[1:], axis.weights[1:], strict=True):
        total += wide.index_select(axis.number, rows) * weights
    total += 1 << (axis.bits - 1)  # so that the shift below rounds halves up
    total >>= axis.bits
    return total.clamp_(max=255).to(torch.uint8)


def output_bytes(count: int, shape: Shape) -> int:
    """What `count` images take once they are resized to (C, H, W): one byte a pixel, whatever C is."""
    return count * shape[1] * shape[2]
