"""Resized pixels are Pillow's, bit for bit, at every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nin_multi.data.resize import _taps, resize, to_float

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


def test_sixteenths_are_worked_in_16_bits() -> None:
    taps = _taps(28, 224)
    assert (taps.bits, taps.weights.dtype, taps.rows.shape) == (4, np.uint16, (2, 224))
    assert _taps(28, 161).weights.dtype == np.int32


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
    with refused("resize takes"):
        resize(images, size)


def test_to_float_is_the_exact_quotient() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    result = to_float(every)
    exact = np.array([np.float32(value / 255) for value in range(256)], np.float32)  # double, then rounded
    assert result.dtype == np.float32
    assert result.shape == every.shape
    np.testing.assert_array_equal(result.ravel(), exact)
    np.testing.assert_array_equal(result, every.astype(np.float32) / np.float32(255))
