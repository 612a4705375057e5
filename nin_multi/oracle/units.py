"""Squeeze-and-excitation and selective-kernel units, step by step as the papers draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nin_multi.oracle.arrays import Array, Backward, Named
from nin_multi.oracle.dense import linear
from nin_multi.oracle.windows import conv2d
from nin_multi.spec import SKBlock


def se_block(name: str, x: Array, params: Mapping[str, Array]) -> tuple[Array, Backward]:
    """X times a number in (0, 1) for each image and channel (arXiv:1709.01507, section 3)."""
    area = x.shape[2] * x.shape[3]
    reduced, through_reduce = linear(f"{name}.reduce", x.mean((2, 3)), params)
    expanded, through_expand = linear(f"{name}.expand", np.maximum(reduced, 0.0), params)
    gate = sigmoid(expanded)  # (N, C)

    def backward(g: Array, gradients: Named) -> Array:
        by_gate = (g * x).sum((2, 3))
        by_squeezed = through_expand(by_gate * gate * (1.0 - gate), gradients)
        by_mean = through_reduce(np.where(reduced > 0.0, by_squeezed, 0.0), gradients)
        by_x: Array = g * gate[:, :, None, None] + by_mean[:, :, None, None] / area
        return by_x

    return x * gate[:, :, None, None], backward


def sk_block(layer: SKBlock, name: str, x: Array, params: Mapping[str, Array]) -> tuple[Array, Backward]:
    """A weighted sum of branches with kernels of several sizes (arXiv:1903.06586, section 3.1)."""
    made = [conv2d(branch, f"{name}.{branch.name}", x, params) for branch in layer.branches()]
    branches = np.stack([np.maximum(convolved, 0.0) for convolved, _ in made])  # (branches, N, C, H, W)
    reduced, through_reduce = linear(f"{name}.reduce", squeeze(branches), params)
    squeezed = np.maximum(reduced, 0.0)
    selects = [linear(f"{name}.select{i}", squeezed, params) for i, _ in enumerate(made, start=1)]
    shares = softmax(np.stack([chosen for chosen, _ in selects]))  # (branches, N, C)

    def backward(g: Array, gradients: Named) -> Array:
        by_share = (g * branches).sum((3, 4))
        by_chosen = shares * (by_share - (shares * by_share).sum(0))
        by_squeezed = np.zeros_like(squeezed)
        for (_, through), by in zip(selects, by_chosen, strict=True):
            by_squeezed += through(by, gradients)
        by_mean = through_reduce(np.where(reduced > 0.0, by_squeezed, 0.0), gradients) / math.prod(g.shape[2:])
        by_branches = g * shares[..., None, None] + by_mean[:, :, None, None]
        by_x = np.zeros_like(x)
        for (convolved, through), by in zip(made, by_branches, strict=True):
            by_x += through(by * (convolved > 0.0), gradients)
        return by_x

    return weigh(branches, shares), backward


def squeeze(branches: Array) -> Array:
    """The channels' means over the sum of all branches: (branches, N, C, H, W) to (N, C)."""
    means: Array = branches.sum(0).mean((2, 3))
    return means


def weigh(branches: Array, shares: Array) -> Array:
    """The sum of the branches (branches, N, C, H, W), each times its share (branches, N, C)."""
    total: Array = (branches * shares[..., None, None]).sum(0)
    return total


def softmax(chosen: Array) -> Array:
    """Over the first axis, the branches: for each image and channel shares that add up to 1."""
    raised = np.exp(chosen - chosen.max(0))
    shares: Array = raised / raised.sum(0)
    return shares


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), in a form that overflows nowhere."""
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result
