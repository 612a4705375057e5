"""A strided convolution of few channels as one of many channels and stride 1; the same sums in another order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)


class SpaceToDepthConv2d(nn.Conv2d):
    """`nn.Conv2d` whose stride s is alike in both directions: s x s pixels become channels, (N, s * s * C, H/s, W/s).

    Kernels for one input channel leave vector units empty, those for s * s channels fill them. The trick is known from
    the ResNets of MLPerf. Weights stay (out, in, kh, kw); zeros fill kernel and image up to multiples of s.
    """

    layout = torch.contiguous_format  # of what it gives out; of one channel, nothing tells the layout

    memory_format: torch.memory_format = torch.contiguous_format

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, OH, OW)."""
        step = self.stride[0]
        (kh, kw), (ph, pw) = self.kernel_size, (int(p) for p in self.padding)
        (height, down), (width, right) = _fill(x.shape[2], kh, step, ph), _fill(x.shape[3], kw, step, pw)
        pixels = F.pixel_unshuffle(F.pad(x, (pw, right, ph, down)), step)
        weight = F.pixel_unshuffle(F.pad(self.weight, (0, width - kw, 0, height - kh)), step)
        pixels, weight = (t.contiguous(memory_format=self.layout) for t in (pixels, weight))
        return F.conv2d(pixels, weight, self.bias)


def _fill(size: int, kernel: int, step: int, padding: int) -> tuple[int, int]:
    """The kernel's size as a multiple of the step, and what the image wants behind it (negative: less of it)."""
    whole = -(-kernel // step) * step
    count = (size + 2 * padding - kernel) // step + 1
    return whole, (count - 1) * step + whole - padding - size


def can_use(layer: Any) -> bool:
    """Whether a convolution of the spec can take this form, and would change by it."""
    return bool(layer.stride[0] == layer.stride[1] > 1)
