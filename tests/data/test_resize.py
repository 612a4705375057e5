"""Resized pixels are Pillow's, bit for bit, at every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nin_multi.data.resize import _BLOCK_PIXELS, _factor, _taps, resize, resize_to_float, to_float

Image = pytest.importorskip("PIL.Image")

SIZES = [
    ((28, 28), (224, 224)),
    ((28, 28), (32, 32)),
    ((28, 28), (161, 193)),
    ((224, 224), (28, 28)),
    ((1, 1), (1, 1)),
    ((1, 1), (7, 5)),
    ((5, 7), (1, 1)),
    ((28, 28), (28, 56)),
    ((28, 28), (56, 28)),
    ((28, 28), (29, 27)),
    ((3, 5000), (3, 2)),
]


def pictures(size: tuple[int, int], seed: int) -> np.ndarray:
    """Noise, black-and-white noise, white, black."""
    images = np.random.RandomState(seed).randint(0, 256, (4, *size)).astype(np.uint8)
    images[1] = (images[1] > 127) * np.uint8(255)
    images[2], images[3] = 255, 0
    return images


def by_pillow(images: np.ndarray, *sizes: tuple[int, int]) -> np.ndarray:
    results = []
    for image in map(Image.fromarray, images):
        for height, width in sizes:
            image = image.resize((width, height), Image.BILINEAR)
        results.append(np.asarray(image))
    return np.stack(results)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_equals_pillow(before: tuple[int, int], after: tuple[int, int]) -> None:
    images = pictures(before, 0)
    result = resize(images, after)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, by_pillow(images, after))


side = st.integers(1, 96)


@settings(max_examples=150, deadline=None)
@given(st.tuples(side, side), st.tuples(side, side), st.integers(0, 2**32 - 1))
def test_equals_pillow_at_any_size(before: tuple[int, int], after: tuple[int, int], seed: int) -> None:
    images = pictures(before, seed)
    result = resize(images, after)
    # One axis at a time: Pillow 13 changes their order where the height shrinks much more than the width.
    np.testing.assert_array_equal(result, by_pillow(images, (before[0], after[1]), after))
    if before[0] - after[0] <= 2 * max(0, before[1] - after[1]) or before[0] <= after[0]:
        np.testing.assert_array_equal(result, by_pillow(images, after))


@settings(max_examples=40, deadline=None)
@given(side, side, st.integers(0, 2**32 - 1))
def test_equals_pillow_square_to_square(before: int, after: int, seed: int) -> None:
    images = pictures((before, before), seed)
    np.testing.assert_array_equal(resize(images, (after, after)), by_pillow(images, (after, after)))


def by_definition(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same with all of Pillow's 22 bits, for growing axes, in whole numbers and one output at a time."""
    for axis in (2, 1):
        before, after = images.shape[axis], size[axis - 1]
        rows = np.moveaxis(images, axis, 0).astype(np.int64)
        grown = []
        for number in range(after if before < after else 0):
            center = (number + 0.5) * (before / after)
            taps = {row: 1.0 - abs(row + 0.5 - center) for row in range(before) if abs(row + 0.5 - center) < 1.0}
            fixed = {row: int(0.5 + weight / sum(taps.values()) * 2**22) for row, weight in taps.items()}
            grown.append(sum(rows[row] * weight for row, weight in fixed.items()) + 2**21 >> 22)
        images = np.moveaxis(np.stack(grown).astype(np.uint8), 0, axis) if grown else images
    return images


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
    st.integers(0, 2**32 - 1),
)
def test_growing_by_powers_of_two(before: tuple[int, int], powers: tuple[int, int], seed: int) -> None:
    after = before[0] << powers[0], before[1] << powers[1]
    images = pictures(before, seed)
    result = resize(images, after)
    np.testing.assert_array_equal(result, by_definition(images, after))
    np.testing.assert_array_equal(result, by_pillow(images, after))
    np.testing.assert_array_equal(resize_to_float(images, after), to_float(result))


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32, 64])
def test_every_pair_of_pixels_and_every_weight(factor: int) -> None:
    assert _factor(2, 2 * factor) == factor
    first, second = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    pairs = np.stack([first, second], axis=2).astype(np.uint8)  # (256, 256, 2)
    # Outputs before the first pixel and after the second are those pixels; between them the weight grows.
    weight = np.clip(2 * np.arange(2 * factor) + 1 - factor, 0, 2 * factor)
    expected = (first[..., np.newaxis] * (2 * factor - weight) + second[..., np.newaxis] * weight + factor) // (
        2 * factor
    )
    np.testing.assert_array_equal(resize(pairs, (256, 2 * factor)), expected)
    np.testing.assert_array_equal(resize(pairs.swapaxes(1, 2), (2 * factor, 256)), expected.swapaxes(1, 2))


@settings(max_examples=100, deadline=None)
@given(st.tuples(side, side), st.tuples(side, side), st.integers(0, 2**32 - 1))
def test_floats_are_the_exact_quotients_of_pixels(before: tuple[int, int], after: tuple[int, int], seed: int) -> None:
    images = pictures(before, seed)
    result = resize_to_float(images, after)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, resize(images, after).astype(np.float32) / np.float32(255))


def test_powers_of_two_are_recognised_as_far_as_16_bits_go() -> None:
    assert [_factor(28, size) for size in (56, 112, 224, 28 * 64)] == [2, 4, 8, 64]
    assert [_factor(28, size) for size in (28, 14, 32, 84, 225, 28 * 128)] == [0] * 6


def test_small_fractions_are_worked_in_16_bits() -> None:
    taps = _taps(28, 32)
    assert (taps.bits, taps.weights.dtype, taps.rows.shape) == (4, np.uint16, (2, 32))
    assert _taps(28, 161).weights.dtype == np.int32


@pytest.mark.parametrize("size", [(224, 224), (200, 224), (224, 200), (28, 28)])
def test_floats_of_many_images_are_as_one_by_one_and_stay(size: tuple[int, int]) -> None:
    count = 2 * _BLOCK_PIXELS // (224 * 224) + 3  # more than two parts, the last one smaller
    images = np.random.RandomState(2).randint(0, 256, (count, 28, 28)).astype(np.uint8)
    first = resize_to_float(images, size)
    kept = first.copy()
    backwards = resize_to_float(images[::-1], size)
    np.testing.assert_array_equal(first, kept)  # a later call must not work in what an earlier one gave away
    np.testing.assert_array_equal(backwards[::-1], first)
    np.testing.assert_array_equal(first, to_float(by_pillow(images, size)))
    turned = images.swapaxes(1, 2)[::2]  # a view that is not contiguous
    np.testing.assert_array_equal(resize_to_float(turned, size), resize_to_float(turned.copy(), size))
    assert resize_to_float(images[:0], size).shape == (0, *size)


def test_many_images_are_as_one_by_one() -> None:
    images = np.random.RandomState(1).randint(0, 256, (23, 28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(resize(images, (224, 224)), by_pillow(images, (224, 224)))
    np.testing.assert_array_equal(resize(images[::2, ::-1], (30, 31)), by_pillow(images[::2, ::-1], (30, 31)))
    assert resize(images[:0], (32, 32)).shape == (0, 32, 32)


def test_same_size_is_the_input() -> None:
    images = pictures((28, 28), 0)
    assert resize(images, (28, 28)) is images


@pytest.mark.parametrize(
    ("images", "size"),
    [
        (np.zeros((2, 28, 28), np.float32), (32, 32)),
        (np.zeros((28, 28), np.uint8), (32, 32)),
        (np.zeros((2, 28, 28), np.uint8), (0, 32)),
        (np.zeros((2, 0, 28), np.uint8), (32, 32)),
    ],
)
def test_refuses(images: np.ndarray, size: tuple[int, int], refused) -> None:
    for function in (resize, resize_to_float):
        with refused("resize takes"):
            function(images, size)


def test_to_float_is_the_exact_quotient() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    result = to_float(every)
    exact = np.array([np.float32(value / 255) for value in range(256)], np.float32)  # double, then rounded
    assert result.dtype == np.float32
    assert result.shape == every.shape
    np.testing.assert_array_equal(result.ravel(), exact)
    np.testing.assert_array_equal(result, every.astype(np.float32) / np.float32(255))
