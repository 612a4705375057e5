"""The built-in synthetic set: ten drawn kinds of garment, the same for ever; not about real accuracies.

It lets every command run where the real files are out of reach. Classes, shapes and counts are
Fashion-MNIST's, and shirts, coats and pullovers are confusable on purpose, but an accuracy on it says nothing
about real images.

Everything is integer arithmetic on raw Philox words (their stream is fixed; that of numpy's distributions is
not, and sin, exp or a float sum may round differently elsewhere), so the bytes are equal on every machine.

Three steps: polygons make templates at four points per pixel, averaged over one pixel; each image samples one
template through its own small affine map; texture, brightness and grain follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.data.dataset import Dataset, Split
from nin_multi.data.fashion_mnist import CLASSES
from nin_multi.data.garments import POINTS, VARIANTS, template, textures
from nin_multi.errors import DataError

__all__ = ["SYNTHETIC_EXAMPLES", "synthetic_dataset"]

SYNTHETIC_EXAMPLES = (60_000, 10_000)  # for training and for test
SIDE = 28
_BLOCK = 500  # images drawn from one key: image i is the same however many are asked for
_TRAIN, _TEST = 1, 2
_KEY = 0x6E696E2D6D756C7469  # spells the project's name; any constant would do
_ONE = 1 << 16  # fixed point of the affine map
_WORDS_PER_IMAGE = 12
_NOISE_WORDS = SIDE * SIDE // 8

Integers = NDArray[np.int32]
Draw = Callable[[int, int], Integers]  # from low to high, both included, one for each image of a block


def synthetic_dataset(
    train_examples: int = SYNTHETIC_EXAMPLES[0], test_examples: int = SYNTHETIC_EXAMPLES[1]
) -> Dataset:
    """Draw the synthetic set: uint8 (N, 28, 28), ten balanced classes in mixed order, all in two seconds.

    Fewer examples are the first ones of more. Raises DataError for fewer than one example.
    """
    if min(train_examples, test_examples) < 1:
        raise DataError(f"the synthetic set needs at least 1 example each, got {train_examples} and {test_examples}.")
    return Dataset(
        name="synthetic",
        title="Synthetic garments (built in, synthetic: not Fashion-MNIST)",
        classes=CLASSES,
        train=_draw_split(_TRAIN, train_examples),
        test=_draw_split(_TEST, test_examples),
        source="drawn by the program",
        synthetic=True,
    )


def _draw_split(purpose: int, count: int) -> Split:
    images = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    labels = np.empty(count, dtype=np.uint8)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        images[start:stop], labels[start:stop] = _draw_block(purpose, start // _BLOCK, stop - start)
    return Split(images, labels)


def _draw_block(purpose: int, block: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first n = `count` images of a block (n, 28, 28), and their labels (n,)."""
    source = np.random.Philox(key=(_KEY << 48) + (purpose << 40) + block)
    labels = _mixed_labels(source.random_raw(_BLOCK))[:count]
    words = source.random_raw(_BLOCK * _WORDS_PER_IMAGE).reshape(_WORDS_PER_IMAGE, _BLOCK)[:, :count]
    draw = _uniform_draws(words)
    points = _source_points(draw)  # (n, 28, 28), into a template's flat points
    numbers, place = np.unique(labels.astype(np.int32) * VARIANTS + draw(0, VARIANTS - 1), return_inverse=True)
    shade = _look_up(np.stack([template(number) for number in numbers.tolist()]), place, points)
    cloth = _look_up(textures(), draw(0, len(textures()) - 1), points)
    noise = source.random_raw(count * _NOISE_WORDS).astype("<u8").view(np.uint8).reshape(shade.shape)
    return _finish(shade, cloth, noise, draw), labels


def _look_up(planes: NDArray[np.uint8], which: NDArray[np.integer[Any]], points: Integers) -> Integers:
    """Levels (n, 28, 28) at flat points of one of the planes (k, 128, 128) for each image."""
    start = which.astype(np.int32) * np.int32(POINTS * POINTS)
    levels: Integers = np.take(planes.ravel(), points + start[:, None, None]).astype(np.int32)
    return levels


def _mixed_labels(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Every run of ten images holds each class once, in an order of its own."""
    return np.argsort(words.reshape(-1, len(CLASSES)), axis=1, kind="stable").astype(np.uint8).ravel()


def _uniform_draws(words: NDArray[np.uint64]) -> Draw:
    """A function that turns the next row of words into integers from `low` to `high`, one per image."""
    rows = iter(words >> np.uint64(32))

    def draw(low: int, high: int) -> Integers:
        scaled = (next(rows) * np.uint64(high - low + 1)) >> np.uint64(32)
        integers: Integers = scaled.astype(np.int32) + np.int32(low)
        return integers

    return draw


def _source_points(draw: Draw) -> Integers:
    """Which template point each pixel shows: (n, 28, 28) indices into POINTS * POINTS.

    A rotation by s, with cos s = 1 - s*s/2, after scales of their own along both axes, plus a shift. Pixel
    centres are counted in half pixels from the middle (-27, -25, ... 27), a half pixel being two points.
    """
    sine = draw(-24, 24) << 8  # +-5.4 degrees
    cosine = _ONE - ((sine >> 1) * (sine >> 1) >> 15)
    wide, high = draw(218, 282), draw(218, 282)  # in 1/256; the larger, the smaller the garment
    middle = (POINTS // 2) * _ONE
    shift_x, shift_y = draw(-6, 6) << 16, draw(-6, 6) << 16  # in template points: up to 1.5 pixels
    centres = np.arange(-SIDE + 1, SIDE, 2, dtype=np.int32)
    x = _plane((cosine >> 7) * wide, (-sine >> 7) * wide, middle + shift_x, centres)
    y = _plane((sine >> 7) * high, (cosine >> 7) * high, middle + shift_y, centres)
    points: Integers = np.clip(y >> 16, 0, POINTS - 1) * POINTS + np.clip(x >> 16, 0, POINTS - 1)
    return points


def _plane(per_column: Integers, per_row: Integers, middle: Integers, centres: Integers) -> Integers:
    """(n, 28, 28) fixed-point coordinates that grow evenly along rows and columns."""
    along_rows = per_row[:, None] * centres + middle[:, None]  # (n, 28)
    coordinates: Integers = along_rows[:, :, None] + (per_column[:, None] * centres)[:, None, :]
    return coordinates


def _finish(shade: Integers, cloth: Integers, noise: NDArray[np.uint8], draw: Draw) -> NDArray[np.uint8]:
    """Texture, brightness, and grain in proportion to the brightness, so that the background stays black."""
    strength = draw(0, 200)[:, None, None]
    gain = draw(110, 280)[:, None, None]
    grain = draw(10, 90)[:, None, None]
    value = shade * (256 * 255 - strength * (255 - cloth)) >> 16
    value = value * gain >> 8
    value += (noise.astype(np.int32) - 128) * grain * value >> 16
    return np.clip(value, 0, 255).astype(np.uint8)
