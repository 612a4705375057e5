"""The layers of `units.py` for images that have their channels last (N, H, W, C): the same numbers and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindspore import nn, ops

from nin_mindspore import units


class GlobalAvgPool(nn.Cell):
    """Mean over height and width, kept as 1 x 1."""

    def construct(self, x: Any) -> Any:
        return ops.mean(x, (1, 2), True)


class Maxout(nn.Cell):
    """The largest of each `pieces` channels that follow one another: (N, H, W, C) or (N, C), C / pieces come out."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def construct(self, x: Any) -> Any:
        groups = x.reshape((*x.shape[:-1], x.shape[-1] // self.pieces, self.pieces))
        return ops.max(groups, -1)[0]


class LocalResponseNorm(nn.Cell):
    """Each value divided by a power of what its channel's neighbours hold."""

    def __init__(self, twin: units.LocalResponseNorm) -> None:
        super().__init__()
        self.twin = twin

    def construct(self, x: Any) -> Any:
        squares = ops.square(x).reshape((-1, x.shape[-1]))  # (N * H * W, C)
        return self.twin.divide(x, ops.matmul(squares, self.twin.neighbours))


class SEBlock(nn.Cell):
    """Squeeze and excitation: every channel times a number in (0, 1)."""

    def __init__(self, twin: units.SEBlock) -> None:
        super().__init__()
        self.twin = twin

    def construct(self, x: Any) -> Any:
        return x * _spread(self.twin.gates(ops.mean(x, (1, 2))))


class SKBlock(nn.Cell):
    """Selective kernels, whose branches are matrix products."""

    def __init__(self, twin: units.SKBlock, branches: Sequence[nn.Cell]) -> None:
        super().__init__()
        self.twin = twin
        for i, branch in enumerate(branches, start=1):
            self.insert_child_to_cell(f"branch{i}", branch)
        self.branches = tuple(branches)

    def construct(self, x: Any) -> Any:
        images = [ops.relu(branch(x)) for branch in self.branches]  # B times (N, H, W, C)
        weights = self.twin.weights(ops.mean(ops.addn(images), (1, 2)))
        return ops.addn([_spread(weights[i]) * image for i, image in enumerate(images)])


def _spread(weights: Any) -> Any:
    """(N, C) -> (N, 1, 1, C)."""
    return weights.reshape((weights.shape[0], 1, 1, weights.shape[1]))
