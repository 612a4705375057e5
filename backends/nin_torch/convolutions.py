"""Convolutions computed in another way than `nn.Conv2d` would be: the same parameters, sums in another order."""

from __future__ import annotations

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


class ContiguousConv2d(nn.Conv2d):
    """`nn.Conv2d` among layers with their channels last, computed without: oneDNN blocks the channels by itself then.

    On AVX2 a 5 x 5 convolution is faster so, by more than it costs to turn image and result around; 3 x 3 is not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, OH, OW)."""
        padding = tuple(int(p) for p in self.padding)
        y = F.conv2d(x.contiguous(), self.weight.contiguous(), self.bias, self.stride, padding)
        return y.contiguous(memory_format=torch.channels_last)


class SlicedConv2d(nn.Conv2d):
    """`nn.Conv2d` that leaves pixels out where it can, before it looks, instead of taking a stride.

    PyTorch 2.13 (oneDNN) is wrong about such strides. With AVX2 its gradient by a kernel of single pixels
    (`jit_1x1:avx2`) is, in 2 to 5 of 100 passes with two threads where the channels are no multiple of 8, and memory
    may be damaged, whatever the layout. With AVX-512, where the kernel has one place in the direction of its stride, it
    (`brg_conv_fwd:avx512_core`) gives memory that nobody has written: 3.7e6 for 0.15 where a 3 x 3 kernel with stride
    (1, 2) and padding (2, 0) goes over 1 x 3 pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, OH, OW)."""
        (kh, kw), (down, right), (ph, pw) = self.kernel_size, self.stride, (int(p) for p in self.padding)
        padded = F.pad(x, (pw, pw, ph, ph))
        one_row = down > 1 and padded.shape[2] < kh + down
        one_column = right > 1 and padded.shape[3] < kw + right
        if (kh, kw) == (1, 1) and self.stride != (1, 1):
            padded, down, right = padded[:, :, ::down, ::right], 1, 1
        elif one_row or one_column:
            rows, down = (kh, 1) if one_row else (None, down)
            columns, right = (kw, 1) if one_column else (None, right)
            padded = padded[:, :, :rows, :columns]
        else:
            return super().forward(x)
        return F.conv2d(padded, self.weight, self.bias, (down, right))


def _fill(size: int, kernel: int, step: int, padding: int) -> tuple[int, int]:
    """The kernel's size as a multiple of the step, and what the image wants behind it (negative: less of it)."""
    whole = -(-kernel // step) * step
    count = (size + 2 * padding - kernel) // step + 1
    return whole, (count - 1) * step + whole - padding - size
