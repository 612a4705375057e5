"""Layers that MindSpore has no class for, as cells that a person would write; not which layer of the spec gets which.

Shape letters: N batch, C channels, H height, W width, F features, D channels in a bottleneck, B branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops


def repeatable(dropout: nn.Dropout) -> nn.Dropout:
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


class Maxout(nn.Cell):
    """The largest of each `pieces` channels that follow one another: (N, C, H, W) or (N, F), C / pieces come out."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def construct(self, x: Any) -> Any:
        # Of equal values `max` lets the first pass its gradient on; `amax` would share it out.
        groups = x.reshape((*x.shape[:1], x.shape[1] // self.pieces, self.pieces, *x.shape[2:]))
        return ops.max(groups, 2)[0]


class LocalResponseNorm(nn.Cell):
    """Each value of (N, C, H, W) / (k + alpha * (sum of squares over `size` channels)) ** beta.

    MindSpore's own, `ops.LRN`, fails on the CPU for many numbers of channels, 1 and 16 among them ("could not execute a
    primitive"). Here a matrix (C, C), ones around its diagonal, adds the neighbours up.
    """

    def __init__(self, channels: int, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.k = alpha, beta, k
        distance = np.abs(np.arange(channels)[:, np.newaxis] - np.arange(channels))
        self.neighbours = Tensor((distance <= size // 2).astype(np.float32))

    def construct(self, x: Any) -> Any:
        squares = ops.square(x).reshape((x.shape[0], x.shape[1], -1))  # (N, C, H * W)
        return self.divide(x, ops.matmul(self.neighbours, squares))

    def divide(self, x: Any, sums: Any) -> Any:
        """Through float64: MindSpore's `pow` takes twice as long, and float32's `exp` is off by 1e-6."""
        divisor = (self.k + self.alpha * sums).reshape(x.shape).astype(mindspore.float64)
        return x * ops.exp(-self.beta * ops.log(divisor)).astype(x.dtype)


class SEBlock(nn.Cell):
    """Squeeze and excitation (arXiv:1709.01507): every channel of (N, C, H, W) times a number in (0, 1)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = _dense(channels, squeezed)
        self.expand = _dense(squeezed, channels)

    def construct(self, x: Any) -> Any:
        return x * _spread(self.gates(ops.mean(x, (2, 3))))

    def gates(self, means: Any) -> Any:
        """(N, C) -> (N, C); through float64, for float32's `sigmoid` is off by 3e-6."""
        scores = self.expand(ops.relu(self.reduce(means)))
        return ops.sigmoid(scores.astype(mindspore.float64)).astype(scores.dtype)


class SKBlock(nn.Cell):
    """Selective kernels (arXiv:1903.06586): a mean of all branches, for each channel with weights of its own."""

    def __init__(self, branches: Sequence[nn.Cell], channels: int, squeezed: int) -> None:
        super().__init__()
        numbers = range(1, len(branches) + 1)
        for i, branch in zip(numbers, branches, strict=True):
            self.insert_child_to_cell(f"branch{i}", branch)
        self.reduce = _dense(channels, squeezed)
        for i in numbers:
            self.insert_child_to_cell(f"select{i}", _dense(squeezed, channels))
        self.branches = tuple(branches)
        self.selects = tuple(getattr(self, f"select{i}") for i in numbers)

    def construct(self, x: Any) -> Any:
        images = [ops.relu(branch(x)) for branch in self.branches]  # B times (N, C, H, W)
        weights = self.weights(ops.mean(ops.addn(images), (2, 3)))
        return ops.addn([_spread(weights[i]) * image for i, image in enumerate(images)])

    def weights(self, means: Any) -> Any:
        """(N, C) -> B times (N, C); through float64, as in `SEBlock`."""
        z = ops.relu(self.reduce(means))  # (N, D)
        scores = ops.stack([select(z) for select in self.selects], 1)  # (N, B, C)
        shares = ops.softmax(scores.astype(mindspore.float64), 1).astype(scores.dtype)
        return ops.unstack(shares, 1)


def _dense(before: int, after: int) -> nn.Dense:
    return nn.Dense(before, after, weight_init="zeros", bias_init="zeros", has_bias=True, activation=None)


def _spread(weights: Any) -> Any:
    """(N, C) -> (N, C, 1, 1)."""
    return weights.reshape((*weights.shape, 1, 1))
