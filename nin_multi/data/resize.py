"""Bilinear resize of grey images, bit for bit as Pillow does it, and pixels to floats; not about batches.

Shape letters: N images, (h, w) in, (H, W) out, all uint8. Resampling one axis is a weighted sum of a few
rows; the horizontal axis comes first, with rounding to uint8 between the two. Pillow up to 12 always does it
so, and so does torch; Pillow 13 begins with the vertical axis where h shrinks by more than twice what w does,
which can differ by a grey level from its own earlier versions (never for square to square). This module stays
with the one order, so that pixels do not depend on a version.

An axis that grows by a power of two has weights that are odd multiples of 1 / (2 * factor), the same ones around
every input row, and Pillow's fixed-point numbers hold them exactly. Such an axis is interpolated in steps, in 16 bits
(`_grow_across`, `_grow_down`); any other by its table of weights (`_resample_rows`).

Source: Pillow, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc, ImagingResample).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Resampling
from nin_multi.errors import DataError

__all__ = ["resampling", "resize", "resize_to_float", "to_float"]

_PRECISION_BITS = 32 - 8 - 2  # Pillow's: 8 bits of pixel and two spare in an int32
_BLOCK_PIXELS = 1 << 19  # output pixels worked on at a time, so that the intermediate sums stay in cache
_LARGEST_FACTOR = 64  # 255 * 2 * 64 + 64 is the largest sum that fits an int16


class _Taps(NamedTuple):
    """Which source rows make up each output row, and with what weights in units of 2**-bits."""

    rows: NDArray[np.intp]  # (taps, out)
    weights: NDArray[Any]  # (taps, out, 1), uint16 or int32
    bits: int


class _Lanes(NamedTuple):
    """Numbers of 16 bits side by side in one unsigned integer, one for each of some neighbouring output pixels."""

    kind: np.dtype[Any]
    ones: int  # 1 in each lane
    weights: NDArray[Any]  # (integers,): the far pixel's weights of all outputs of one input pixel, times 2 * factor


def resize(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 (N, h, w) to uint8 (N, H, W), size = (H, W), bit for bit Pillow's `resize(..., BILINEAR)`.

    Down-scaling widens the filter, as Pillow does. The same size returns the input itself. Raises DataError
    for another type or number of axes, and for an empty size.
    """
    _check(images, size)
    if images.shape[1:] == tuple(size):
        return images
    result = np.empty((len(images), *size), dtype=np.uint8)
    for part in _parts(len(images), size):
        _resample(images[part], result[part])
    return result


def resize_to_float(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """`to_float(resize(images, size))`, faster: uint8 (N, h, w) to a new float32 (N, H, W) in [0, 1]."""
    _check(images, size)
    if images.shape[1:] == tuple(size):
        return to_float(images)
    result = np.empty((len(images), *size), dtype=np.float32)
    whole: NDArray[np.float32] | None = None
    for part in _parts(len(images), size):
        # Only the division goes through memory, once and in order: the pixels before it stay in cache.
        whole = np.empty_like(result[part]) if whole is None else whole[: len(result[part])]
        _resample(images[part], whole)
        np.divide(whole, np.float32(255), out=result[part])
    return result


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0..255 to float32 0..1: exactly value / 255 (which value * (1 / 255) is not), same shape."""
    # A true division, and yet several times faster than looking quotients up in a table of 256.
    return np.divide(images, np.float32(255), dtype=np.float32)


def resampling(size_in: int, size_out: int) -> Resampling | None:
    """How an axis is resized, for those who do it elsewhere; None where it stays as it is. Raises DataError."""
    if min(size_in, size_out) < 1:
        raise DataError(f"resize takes sizes of at least 1, got {size_in} to {size_out}.")
    if size_in == size_out:
        return None
    taps = _taps(size_in, size_out)
    return Resampling(taps.rows, taps.weights[:, :, 0], taps.bits)


def _check(images: NDArray[np.uint8], size: tuple[int, int]) -> None:
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(f"resize takes images uint8 (N, h, w), got {images.dtype} {images.shape}.")
    if min(*size, *images.shape[1:]) < 1:
        raise DataError(f"resize takes sizes of at least 1 x 1, got {images.shape[1:]} to {tuple(size)}.")


def _parts(count: int, size: tuple[int, int]) -> list[slice]:
    """What of `count` images to work on at a time: equal parts, but for the last, which may be smaller."""
    block = max(1, _BLOCK_PIXELS // (size[0] * size[1]))
    return [slice(start, start + block) for start in range(0, count, block)]


def _resample(images: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Resample uint8 (n, h, w) into `out` (n, H, W), contiguous and of any type, as whole numbers 0..255."""
    height, width = out.shape[1:]
    if factor := _factor(images.shape[2], width):
        across: NDArray[Any] = _grow_across(images, factor)
    else:
        # (n, h, w) -> (n, w, h) -> (n, W, h) -> (n, h, W): rows are contiguous, so columns are made rows.
        across = np.empty((*images.shape[:2], width), np.uint8)
        _resample_rows(np.ascontiguousarray(images.swapaxes(1, 2)), across.swapaxes(1, 2))
    if factor := _factor(images.shape[1], height):
        _grow_down(across.astype(np.int16, copy=False), factor, out)
    else:
        _resample_rows(across, out)


def _factor(size_in: int, size_out: int) -> int:
    """By what power of two an axis grows, or 0 where it does not, or by too much for 16 bits."""
    factor, rest = divmod(size_out, size_in)
    grows = rest == 0 and 2 <= factor <= _LARGEST_FACTOR and factor & (factor - 1) == 0
    return factor if grows else 0


def _grow_across(images: NDArray[np.uint8], factor: int) -> NDArray[np.int16]:
    """Interpolate uint8 (n, h, w) to (n, h, w * factor) along its rows.

    Output j of an input pixel p lies between p and its left neighbour (j < factor / 2) or its right one, whose weight
    is the j-th of 7, 5, 3, 1, 1, 3, 5, 7 sixteenths (factor 8): p + weight * (neighbour - p), halves rounded up. At
    the edges a pixel is its own neighbour. Several outputs are lanes of one integer and computed at once. A difference
    below zero borrows from the next lane, and the sum gives it back: the sums themselves are all from 0 to 32767.
    """
    lanes = _lanes(factor)
    near = images.astype(lanes.kind, order="C").ravel()
    steps = np.zeros((2, near.size), lanes.kind)  # to the left neighbour, to the right one
    np.subtract(near[1:], near[:-1], out=steps[1, :-1])
    steps[1].reshape(images.shape)[:, :, -1] = 0
    np.negative(steps[1, :-1], out=steps[0, 1:])
    near *= lanes.kind.type(lanes.ones * 2 * factor)
    near += lanes.kind.type(lanes.ones * factor)  # so that the division below rounds halves up
    sums = np.empty((near.size, len(lanes.weights)), lanes.kind)
    for number, weight in enumerate(lanes.weights):
        np.add(near, steps[2 * number // len(lanes.weights)] * weight, out=sums[:, number])
    sums >>= lanes.kind.type(factor.bit_length())  # divides by 2 * factor; the mask takes away the next lane's bits
    sums &= lanes.kind.type(lanes.ones * 255)
    return sums.view(np.int16).reshape(*images.shape[:2], images.shape[2] * factor)


def _grow_down(rows: NDArray[np.int16], factor: int, out: NDArray[Any]) -> None:
    """Interpolate (n, h, w) from row to row into `out` (n, h * factor, w), as `_grow_across` does within a row."""
    count, height, width = rows.shape
    half = factor // 2
    steps = np.zeros((2, *rows.shape), np.int16)  # to the row above, to the row below
    np.subtract(rows[:, 1:], rows[:, :-1], out=steps[1, :, :-1])
    np.negative(steps[1, :, :-1], out=steps[0, :, 1:])
    near = rows * np.int16(2 * factor)
    near += np.int16(factor)
    sums = np.empty((half, *steps.shape), np.int16)  # the outputs nearest to their row first
    np.add(near, steps, out=sums[0])
    known = 1
    while known < half:  # with weights 1, then 1 + 2, then 1 + 4 and 3 + 4, ...
        steps += steps
        np.add(sums[:known], steps, out=sums[known : 2 * known])
        known *= 2
    pixels = sums.view(np.uint16)
    np.floor_divide(pixels, np.uint16(2 * factor), out=pixels)  # old NumPys have no vector code for shifts
    spread = out.reshape(count, height, factor, width)
    np.copyto(spread[:, :, half:], pixels[:, 1].transpose(1, 2, 0, 3), casting="unsafe")
    np.copyto(spread[:, :, :half], pixels[::-1, 0].transpose(1, 2, 0, 3), casting="unsafe")


@functools.lru_cache(maxsize=8)
def _lanes(factor: int) -> _Lanes:
    """As many lanes as there are, up to four, on one side of an input pixel."""
    count = min(factor // 2, 4)
    kind = np.dtype(f"u{2 * count}")
    weights = np.abs(2 * np.arange(factor) + 1 - factor).astype(np.uint16)
    return _Lanes(kind, int(np.ones(count, np.uint16).view(kind)[0]), weights.view(kind))


def _resample_rows(images: NDArray[Any], out: NDArray[Any]) -> None:
    """Resample axis 1 of whole numbers 0..255 (n, h, w) into `out` (n, size, w), by the table of weights."""
    if images.shape[1] == out.shape[1]:
        np.copyto(out, images, casting="unsafe")
        return
    taps = _taps(images.shape[1], out.shape[1])
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
    np.copyto(out, np.minimum(total, kind.type(255), out=total), casting="unsafe")


@functools.lru_cache(maxsize=64)
def _taps(size_in: int, size_out: int) -> _Taps:
    """Pillow's fixed-point weights, shifted down as far as they share a power of two.

    28 -> 32 leaves sixteenths: then 255 times their sum fits 16 bits, which is twice as fast as 32.
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
