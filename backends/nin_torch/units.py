"""Layers that PyTorch has no class for, as modules that a person would write; not which layer of the spec gets which.

Shape letters: N batch, C channels, H height, W width, F features, D channels in a bottleneck, B branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Maxout(nn.Module):
    """The largest of each `pieces` channels that follow one another: (N, C, H, W) or (N, F), C / pieces come out."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        # Of equal values `max` along an axis lets the first pass its gradient on; `amax` would share it out.
        y: Tensor = torch.unflatten(x, 1, (-1, self.pieces)).max(dim=2, keepdim=False).values
        # Channels that came last leave last: the pools that often follow are ten times as fast so.
        is_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        return y.contiguous(memory_format=torch.channels_last) if is_last else y


class SEBlock(nn.Module):
    """Squeeze and excitation (arXiv:1709.01507): every channel of (N, C, H, W) times a number in (0, 1)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, squeezed, bias=True)
        self.expand = nn.Linear(squeezed, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.reduce(x.mean((2, 3))))  # (N, D)
        gates = torch.sigmoid(self.expand(z))  # (N, C)
        return x * gates[:, :, None, None]


class SKBlock(nn.Module):
    """Selective kernels (arXiv:1903.06586): a mean of all branches, for each channel with weights of its own."""

    def __init__(self, branches: Sequence[nn.Module], channels: int, squeezed: int) -> None:
        super().__init__()
        self.count = len(branches)
        for i, branch in enumerate(branches, start=1):
            self.add_module(f"branch{i}", branch)
        self.reduce = nn.Linear(channels, squeezed, bias=True)
        for i in range(1, self.count + 1):
            self.add_module(f"select{i}", nn.Linear(squeezed, channels, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        images = [torch.relu(layer(x)) for layer in self._each("branch")]  # B times (N, C, H, W)
        z = torch.relu(self.reduce(sum(images[1:], images[0]).mean((2, 3))))  # (N, D)
        scores = torch.stack([layer(z) for layer in self._each("select")], 1)  # (N, B, C)
        weights = scores.softmax(1)[..., None, None].unbind(1)  # B times (N, C, 1, 1)
        weighed = [weight * image for weight, image in zip(weights, images, strict=True)]
        return sum(weighed[1:], weighed[0])

    def _each(self, name: str) -> list[nn.Module]:
        return [self.get_submodule(f"{name}{i}") for i in range(1, self.count + 1)]
