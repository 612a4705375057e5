"""Layers that Gluon has no class for, as blocks that a person would write; not which layer of the spec gets which.

Shape letters: N batch, C channels, H height, W width, F features, D channels in a bottleneck, B branches.
"""

# ruff: noqa: N803  (F is what Gluon calls it)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, nn
from mxnet.util import is_np_array

from nin_multi.spec import Pool2d, TracedLayer


class CeilPool2D(HybridBlock):
    """Pooling that rounds up, as floor pooling of an extended image.

    MXNet's own ceil mode ("full") keeps windows that lie outside the image altogether, and counts the overhang in
    averages.
    """

    def __init__(self, traced: TracedLayer, layer: Pool2d) -> None:
        super().__init__()
        (ph, pw), (down, right) = layer.padding, layer.overhang(traced.input)
        self._padding = (0, 0, 0, 0, ph, ph, pw, pw)
        self._overhang = (0, 0, 0, 0, 0, down, 0, right)
        self._window = {"kernel": layer.kernel_size, "stride": layer.stride, "pooling_convention": "valid"}

    def _extend(self, F: Any, x: Any, around: float, beyond: float) -> Any:
        padded = F.pad(x.as_nd_ndarray(), mode="constant", pad_width=self._padding, constant_value=around)
        return F.pad(padded, mode="constant", pad_width=self._overhang, constant_value=beyond)


class CeilMaxPool2D(CeilPool2D):
    """Max pooling that rounds up."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        lowest = float(np.finfo(np.float32).min)
        return as_around(F.Pooling(self._extend(F, x, lowest, lowest), pool_type="max", **self._window))


class CeilAvgPool2D(CeilPool2D):
    """Average pooling that rounds up; padding counts, the overhang does not."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        mean = F.Pooling(self._extend(F, x, 0.0, 0.0), pool_type="avg", **self._window)
        share = F.Pooling(self._extend(F, F.ones_like(x.as_nd_ndarray()), 1.0, 0.0), pool_type="avg", **self._window)
        return as_around(mean / share)


class Maxout(HybridBlock):
    """The largest of each `pieces` channels that follow one another: (N, C, H, W) or (N, F), C / pieces come out."""

    def __init__(self, pieces: int, *, has_area: bool) -> None:
        super().__init__()
        self._has_area = has_area  # a graph does not know what comes in
        self._groups = (0, -4, -1, pieces, -3)  # batch as it is, channels split in two, height and width made one
        self._window = {"kernel": (pieces, 1), "stride": (pieces, 1)}

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = x.as_nd_ndarray() if self._has_area else F.reshape(x.as_nd_ndarray(), shape=(0, 0, 1, 1))
        groups = F.reshape(x, shape=self._groups)  # (N, C / pieces, pieces, H * W)
        # A pool, for of equal values the first passes its gradient on; with `F.max`, each of them does.
        largest = F.Pooling(groups, pool_type="max", pooling_convention="valid", **self._window)
        y = F.reshape_like(largest, x, lhs_begin=2, lhs_end=4, rhs_begin=2, rhs_end=4)
        return as_around(y if self._has_area else F.flatten(y))


class LocalResponseNorm(HybridBlock):
    """Each value of (N, C, H, W) / (k + alpha / size * (sum of squares over `size` channels)) ** beta."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self._settings = {"nsize": size, "alpha": alpha, "beta": beta, "knorm": k}

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return as_around(F.LRN(x.as_nd_ndarray(), **self._settings))


class SEBlock(HybridBlock):
    """Squeeze and excitation (arXiv:1709.01507): every channel of (N, C, H, W) times a number in (0, 1)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = _dense(channels, squeezed, "relu")
        self.expand = _dense(squeezed, channels, "sigmoid")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = x.as_nd_ndarray()
        gates = self.expand(self.reduce(_means(F, x)))  # (N, C)
        return as_around(_weigh(F, x, gates.as_nd_ndarray()))


class SKBlock(HybridBlock):
    """Selective kernels (arXiv:1903.06586): a mean of all branches, for each channel with weights of its own."""

    def __init__(self, branches: Sequence[HybridBlock], channels: int, squeezed: int) -> None:
        super().__init__()
        self._count = len(branches)
        for i, branch in enumerate(branches, start=1):
            self.register_child(branch, f"branch{i}")
        self.reduce = _dense(channels, squeezed, "relu")
        for i in range(1, self._count + 1):
            self.register_child(_dense(squeezed, channels, None), f"select{i}")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        images = [F.relu(layer(x).as_nd_ndarray()) for layer in self._each("branch")]  # B times (N, C, H, W)
        z = self.reduce(_means(F, sum(images[1:], images[0])))  # (N, D)
        scores = F.stack(*[layer(z).as_nd_ndarray() for layer in self._each("select")], axis=1)  # (N, B, C)
        weights = F.split(F.softmax(scores, axis=1), num_outputs=self._count, axis=1, squeeze_axis=True)
        weighed = [_weigh(F, image, weight) for image, weight in zip(images, weights, strict=True)]
        return as_around(sum(weighed[1:], weighed[0]))

    def _each(self, name: str) -> list[Any]:
        return [self._children[f"{name}{i}"] for i in range(1, self._count + 1)]


def _dense(before: int, after: int, activation: str | None) -> nn.Dense:
    return nn.Dense(after, activation=activation, use_bias=True, flatten=False, in_units=before)


def _means(F: Any, x: Any) -> Any:
    """(N, C, H, W) -> (N, C), as the layers around have it. MXNet's pool is far faster than its mean."""
    return as_around(F.flatten(F.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg")))


def _weigh(F: Any, x: Any, weights: Any) -> Any:
    """(N, C, H, W) times (N, C)."""
    return F.broadcast_mul(x, F.reshape(weights, shape=(0, 0, 1, 1)))


def as_around(value: Any) -> Any:
    """The operations here make MXNet's older arrays; after `npx.set_np()` the layers around want the newer ones."""
    return value.as_np_ndarray() if is_np_array() else value
