"""Everything random, decided once for all frameworks: initial weights, batch order, dropout masks.

Each draw is the raw output of Philox (Salmon et al., SC 2011) under a key and counter of its own, so that it depends
on nothing drawn before. Only raw words are used: NumPy promises their stream for ever, and not that of
`Generator.permutation` and its kind.
"""

from __future__ import annotations

import hashlib
import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from nin_multi.spec import Architecture, Shape

INITIALISATIONS = ("xavier", "he")
_PIECE = 1 << 14  # words of a mask drawn at a time, so that they stay in cache


class Purpose(IntEnum):
    """What a draw is for: part of the key, so that no two purposes share numbers."""

    WEIGHTS = 1
    ORDER = 2
    DROPOUT = 3
    INPUT = 4
    CHECK = 5


def words(count: int, *, seed: int, purpose: Purpose, step: int = 0, part: str = "") -> NDArray[np.uint64]:
    """`count` raw 64-bit words. `part` (a layer's or a parameter's name) and `step` set the counter apart."""
    return _draw(_philox(seed, purpose, step, part), count)


def _philox(seed: int, purpose: Purpose, step: int, part: str) -> np.random.Philox:
    label = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    # The lowest two of the four counter words stay free for the generator's own counting.
    # As uint64 arrays: from a list with a number over 2^63, NumPy makes floats and loses its low bits.
    key, counter = np.array([seed, int(purpose)], np.uint64), np.array([0, 0, label, step], np.uint64)
    return np.random.Philox(key=key, counter=counter)


def _draw(philox: np.random.Philox, count: int) -> NDArray[np.uint64]:
    """The next `count` raw words."""
    return np.asarray(philox.random_raw(count), dtype=np.uint64)


def uniform(shape: Shape, *, seed: int, purpose: Purpose, step: int = 0, part: str = "") -> NDArray[np.float64]:
    """Uniform in [0, 1) with 53 bits."""
    raw = words(math.prod(shape), seed=seed, purpose=purpose, step=step, part=part)
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def initial_parameters(architecture: Architecture, seed: int, init: str = "xavier") -> dict[str, NDArray[np.float32]]:
    """Uniform weights and zero biases, float32, by parameter name.

    The bound of the weights is, by `init`,
    - "xavier": sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010);
    - "he": sqrt(6 / fan_in), the variance 2 / fan_in of He et al., 2015, for layers before a ReLU.

    Both fans of a convolution count the kernel's area. The draws are the same numbers, only their bound differs.
    """
    params: dict[str, NDArray[np.float32]] = {}
    for name, shape in architecture.parameter_shapes().items():
        if len(shape) == 1:
            params[name] = np.zeros(shape, np.float32)
            continue
        fans = shape[1] if init == "he" else shape[0] + shape[1]
        bound = math.sqrt(6.0 / (fans * math.prod(shape[2:])))
        draw = uniform(shape, seed=seed, purpose=Purpose.WEIGHTS, part=name)
        params[name] = ((2.0 * draw - 1.0) * bound).astype(np.float32)
    return params


def order(examples: int, seed: int, epoch: int) -> NDArray[np.intp]:
    """The order of the training images in one epoch (counted from 0): (examples,)."""
    return np.argsort(words(examples, seed=seed, purpose=Purpose.ORDER, step=epoch), kind="stable")


def dropout_masks(architecture: Architecture, batch: int, seed: int, step: int) -> dict[str, NDArray[np.float32]]:
    """One mask per dropout layer for the whole batch in its global order: 0, or 1 / (1 - rate) where a value is kept.

    They hang on seed, step and layer alone, not on micro-batches or on the number of workers.
    """
    return {
        name: _mask((batch, *shape), rate, name, seed, step) for name, (rate, shape) in architecture.dropouts().items()
    }


def _mask(shape: Shape, rate: float, name: str, seed: int, step: int) -> NDArray[np.float32]:
    philox = _philox(seed, Purpose.DROPOUT, step, name)
    dropped, scale = np.uint32(min(round(rate * 2**32), 2**32 - 1)), np.float32(1.0 / (1.0 - rate))
    mask = np.empty(math.prod(shape), np.float32)
    for start in range(0, len(mask), 2 * _PIECE):
        part = mask[start : start + 2 * _PIECE]
        # Two 32-bit draws per word, low half first on every machine.
        halves = _draw(philox, -(-len(part) // 2)).astype("<u8", copy=False).view("<u4")[: len(part)]
        np.multiply(halves >= dropped, scale, out=part, dtype=np.float32)
    return mask.reshape(shape)
