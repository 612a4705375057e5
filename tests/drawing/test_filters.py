"""The first convolution's weights: each filter in its place, one scale for all, 0 is white."""

from __future__ import annotations

import numpy as np
import pytest

from nin_multi.drawing.filters import GAP, MOST, SIDE, draw_filters


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(32, 1, 5, 5)).astype(np.float32)


def test_each_filter_in_order(weights: np.ndarray, pixels) -> None:
    weights[:] = 0
    weights[9, 0, 1, 3] = 1.0  # the tenth of 32: 8 in a row
    weights[:, 0, 4, 0] = -1.0
    sheet, _ = pixels(draw_filters(weights, "conv1", "title"))
    cell = SIDE + GAP
    assert sheet.shape == (4 * cell - GAP, 8 * cell - GAP, 4)
    place = sheet[cell : cell + SIDE, cell : cell + SIDE, :3].astype(int)
    grid = place[4::8, 4::8]  # the middles of 5 x 5 weights
    assert grid[1, 3, 0] > grid[1, 3, 2]  # red
    assert grid[4, 0, 0] < grid[4, 0, 2]  # blue
    grid[1, 3] = grid[4, 0] = grid[0, 0]
    assert (grid == grid[0, 0]).all()
    assert grid[0, 0].min() > 240  # white


def test_one_scale_and_its_ends(weights: np.ndarray, words, pixels) -> None:
    weights[3] *= 100
    limit = np.quantile(np.abs(weights), 0.995)
    svg = draw_filters(weights, "block1.conv", "title")
    assert {"title", "block1.conv: 32 filters of 5 x 5", f"≤ -{limit:.2g}", f"≥ {limit:.2g}"} <= set(words(svg))
    sheet, _ = pixels(svg)
    assert (sheet[:SIDE, :SIDE, :3] > 200).all()  # all others are pale beside it


def test_three_channels_are_colours(pixels, words) -> None:
    weights = np.zeros((2, 3, 4, 4))
    weights[0, 0], weights[1, 2] = 1.0, -1.0
    svg = draw_filters(weights, "conv1", "title")
    (sheet,) = pixels(svg)
    assert sheet[0, 0, :3].tolist() == [255, 128, 128]
    assert sheet[0, -1, :3].tolist() == [128, 128, 0]
    assert not any("≥" in word for word in words(svg))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((5, 2, 3, 4), "conv1: 5 filters of 3 x 4, the mean of 2 channels"),
        ((600, 1, 1, 1), f"conv1: 600 filters of 1 x 1, the first {MOST}"),
        ((1, 1, 11, 11), "conv1: 1 filters of 11 x 11"),
        ((7, 3, 64, 64), "conv1: 7 filters of 64 x 64"),
    ],
)
def test_any_shape(shape: tuple[int, ...], said: str, words) -> None:
    assert said in words(draw_filters(np.random.default_rng(1).normal(size=shape), "conv1", "title"))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 3.0])
def test_weights_that_say_nothing(value: float, words) -> None:
    assert "title" in words(draw_filters(np.full((4, 1, 3, 3), value), "conv1", "title"))


def test_equal_numbers_give_equal_bytes(weights: np.ndarray) -> None:
    assert draw_filters(weights, "conv1", "title") == draw_filters(weights, "conv1", "title")
