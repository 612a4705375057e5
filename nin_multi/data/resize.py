"""Bilinear resize of grey images, bit for bit as Pillow does it, and pixels to floats; not about batches.

Shape letters: N images, (h, w) in, (H, W) out, all uint8. Resampling one axis is a weighted sum of a few
rows; the horizontal axis comes first, with rounding to uint8 between the two. Pillow up to 12 always does it
so, and so does torch; Pillow 13 begins with the vertical axis where h shrinks by more than twice what w does,
which can differ by a grey level from its own earlier versions (never for square to square). This module stays
with the one order, so that pixels do not depend on a version.

Source: Pillow, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc, ImagingResample).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nin_multi.errors import DataError

__all__ = ["resize", "to_float"]

_PRECISION_BITS = 32 - 8 - 2  # Pillow's: 8 bits of pixel and two spare in an int32
_BLOCK_PIXELS = 1 << 18  # output pixels worked on at a time, so that the intermediate sums stay in cache


class _Taps(NamedTuple):
    """Which source rows make up each output row, and with what weights in units of 2**-bits."""

    rows: NDArray[np.intp]  # (taps, out)
    weights: NDArray[Any]  # (taps, out, 1), uint16 or int32
    bits: int


def resize(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 (N, h, w) to uint8 (N, H, W), size = (H, W), bit for bit Pillow's `resize(..., BILINEAR)`.

    Down-scaling widens the filter, as Pillow does. The same size returns the input itself. Raises DataError
    for another type or number of axes, and for an empty size.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(f"resize takes images uint8 (N, h, w), got {images.dtype} {images.shape}.")
    if min(*size, *images.shape[1:]) < 1:
        raise DataError(f"resize takes sizes of at least 1 x 1, got {images.shape[1:]} to {tuple(size)}.")
    if images.shape[1:] == tuple(size):
        return images
    result = np.empty((len(images), *size), dtype=np.uint8)
    block = max(1, _BLOCK_PIXELS // (size[0] * size[1]))
    for start in range(0, len(images), block):
        part = images[start : start + block]
        # (n, h, w) -> (n, w, h) -> (n, W, h) -> (n, h, W): rows are contiguous, so columns are made rows.
        across = _resample_rows(np.ascontiguousarray(part.swapaxes(1, 2)), size[1]).swapaxes(1, 2)
        result[start : start + block] = _resample_rows(np.ascontiguousarray(across), size[0])  # (n, H, W)
    return result


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0..255 to float32 0..1: exactly value / 255 (which value * (1 / 255) is not), same shape."""
    # A true division, and yet several times faster than looking quotients up in a table of 256.
    return np.divide(images, np.float32(255), dtype=np.float32)


def _resample_rows(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resample axis 1 of uint8 (n, h, w) to uint8 (n, size, w)."""
    if images.shape[1] == size:
        return images
    taps = _taps(images.shape[1], size)
    kind = taps.weights.dtype
    wide = images.astype(kind)
    total = np.take(wide, taps.rows[0], axis=1, mode="clip")
    total *= taps.weights[0]
    total += kind.type(1 << (taps.bits - 1))  # so that the shift below rounds halves up
    term = np.empty_like(total)
    for rows, weights in zip(taps.rows[1:], taps.weights[1:], strict=True):
        np.take(wide, rows, axis=1, out=term, mode="clip")
        term *= weights
        total += term
    total >>= kind.type(taps.bits)
    # Thousands of rounded weights may add up to a little more than one.
    pixels: NDArray[np.uint8] = np.minimum(total, kind.type(255), out=total).astype(np.uint8)
    return pixels


@functools.lru_cache(maxsize=64)
def _taps(size_in: int, size_out: int) -> _Taps:
    """Pillow's fixed-point weights, shifted down as far as they share a power of two.

    28 -> 224 leaves sixteenths: then 255 times their sum fits 16 bits, which is twice as fast as 32.
    """
    rows, exact = _exact_weights(size_in, size_out)
    fixed = (0.5 + exact * (1 << _PRECISION_BITS)).astype(np.int64)  # bilinear weights are never negative
    fixed = fixed[fixed.any(axis=1)]
    rows = rows[: len(fixed)]
    common = int(np.bitwise_or.reduce(fixed, axis=None))
    shift = min((common & -common).bit_length() - 1, _PRECISION_BITS - 1)  # one bit is left to round by
    fixed >>= shift
    bits = _PRECISION_BITS - shift
    largest = 255 * int(fixed.sum(axis=0).max()) + (1 << (bits - 1))
    kind = np.uint16 if largest < 1 << 16 else np.int32
    return _Taps(rows, fixed.astype(kind)[:, :, np.newaxis], bits)


def _exact_weights(size_in: int, size_out: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Source rows and float64 weights, both (taps, out), in the very order of Pillow's operations."""
    scale = size_in / size_out
    filter_scale = max(scale, 1.0)
    support = 1.0 * filter_scale
    center = (np.arange(size_out) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.intp), 0)  # the cast truncates, as in C
    count = np.minimum((center + support + 0.5).astype(np.intp), size_in) - first
    tap = np.arange(count.max())[:, np.newaxis]
    distance = np.abs((tap + first - center + 0.5) * (1.0 / filter_scale))
    weights = np.where((tap < count) & (distance < 1.0), 1.0 - distance, 0.0)
    # One after the other: numpy's own sum adds in pairs, which may round differently.
    total = np.cumsum(weights, axis=0)[-1]
    return np.minimum(tap + first, size_in - 1), weights / total
