"""Layers in which neighbouring channels meet: maxout and local response normalisation."""

from __future__ import annotations

import numpy as np

from nin_multi.oracle.arrays import Array, Backward, Named
from nin_multi.spec import LocalResponseNorm, Maxout


def maxout(layer: Maxout, x: Array) -> tuple[Array, Backward]:
    """The largest of each `pieces` channels that follow one another; of equal ones the first."""
    groups = x.reshape(len(x), -1, layer.pieces, *x.shape[2:])  # (N, C/pieces, pieces, H, W)
    winner = np.expand_dims(groups.argmax(2), 2)

    def backward(g: Array, _: Named) -> Array:
        by_group = np.zeros_like(groups)
        np.put_along_axis(by_group, winner, np.expand_dims(g, 2), 2)
        return by_group.reshape(x.shape)

    return np.take_along_axis(groups, winner, 2).squeeze(2), backward


def local_response_norm(layer: LocalResponseNorm, x: Array) -> tuple[Array, Backward]:
    """B = a / s ** beta, where s = k + alpha * (sum of a squared over the neighbours)."""
    s = layer.k + layer.alpha * _sum_of_neighbours(x**2, layer.size)
    power: Array = s**-layer.beta

    def backward(g: Array, _: Named) -> Array:
        # Every b of which an a is a neighbour falls with a squared; to be a neighbour is mutual.
        falls = _sum_of_neighbours(g * x * power / s, layer.size)
        by_x: Array = g * power - 2.0 * layer.alpha * layer.beta * x * falls
        return by_x

    return x * power, backward


def _sum_of_neighbours(x: Array, size: int) -> Array:
    """For each channel the sum over itself and the size // 2 channels on either side, as far as there are any."""
    total = x.copy()
    for far in range(1, min(size // 2, x.shape[1] - 1) + 1):
        total[:, far:] += x[:, :-far]
        total[:, :-far] += x[:, far:]
    return total
