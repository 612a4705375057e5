"""Class maps: the strongest tenth, exactly enlarged, over the picture; the true class framed, the words right."""

from __future__ import annotations

import numpy as np
import pytest

from nin_multi.drawing.class_maps import GAP, Example, draw_class_maps, enlarge, strongest

NAMES = ("shirt", "shoe", "bag")
CELL = 28 + GAP


def _example(maps: np.ndarray, label: int = 1, shares: tuple[float, ...] = (0.2, 0.795, 0.005)) -> Example:
    image = np.zeros((28, 28), np.uint8)
    image[8:20, 8:20] = 240
    return Example(image, label, shares, maps)


@pytest.fixture
def maps() -> np.ndarray:
    """Of the shoe the middle, of the shirt a corner, weaker, of the bag nothing."""
    found = np.zeros((3, 5, 5))
    found[1, 1:4, 1:4] = 9.0
    found[0, 0, 0] = 1.0
    return found


def _cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    return sheet[row * CELL : row * CELL + 28, column * CELL : column * CELL + 28]


def _is_coloured(cell: np.ndarray) -> np.ndarray:
    return (cell[..., 0] != cell[..., 2]) & (cell[..., 3] == 255)


class TestCells:
    def test_the_picture_first_then_each_class(self, maps: np.ndarray, pixels) -> None:
        example = _example(maps)
        (sheet,) = pixels(draw_class_maps([example, example], NAMES, "title"))
        assert sheet.shape == (2 * CELL - GAP, 4 * CELL - GAP, 4)
        np.testing.assert_array_equal(_cell(sheet, 0, 0)[..., 0], example.image)
        np.testing.assert_array_equal(_cell(sheet, 0, 2), _cell(sheet, 1, 2))
        shoe = _is_coloured(_cell(sheet, 0, 2))
        assert shoe[14, 14]
        assert not shoe[0, 0]
        assert 0.15 < shoe.mean() < 0.4
        assert not _is_coloured(_cell(sheet, 0, 3)).any()
        assert not sheet[:, 28 : 28 + GAP].any()  # between cells nothing

    def test_the_strongest_tenth_of_all_maps_together(self) -> None:
        values = np.random.default_rng(0).normal(size=(10, 6, 6))
        least, most = strongest(values)
        assert (values >= least).mean() == 0.1
        assert most == values.max()

    def test_weak_maps_are_not_shown(self, maps: np.ndarray, pixels) -> None:
        maps[2] = 0.5  # everywhere, and nowhere among the strongest 8 of 75
        (sheet,) = pixels(draw_class_maps([_example(maps)], NAMES, "title"))
        assert not _is_coloured(_cell(sheet, 0, 3)).any()
        assert _is_coloured(_cell(sheet, 0, 2)).any()

    def test_a_net_that_gives_nothing(self, pixels) -> None:
        (sheet,) = pixels(draw_class_maps([_example(np.zeros((3, 5, 5)))], NAMES, "title"))
        assert not _is_coloured(sheet).any()

    def test_logits_below_0(self, pixels) -> None:
        """Without a ReLU the strongest may all be negative."""
        maps = np.full((3, 5, 5), -5.0)
        maps[1, 2, 2] = -1.0
        (sheet,) = pixels(draw_class_maps([_example(maps)], NAMES, "title"))
        assert _is_coloured(_cell(sheet, 0, 2))[14, 14]

    def test_stronger_is_darker(self, pixels) -> None:
        maps = np.zeros((3, 7, 7))
        maps[1, 3], maps[1, 3, 6] = 5.0, 10.0
        (sheet,) = pixels(draw_class_maps([_example(maps)], NAMES, "title"))
        cell = _cell(sheet, 0, 2).astype(int)
        assert cell[14, 26, :3].sum() < cell[14, 4, :3].sum()


class TestEnlarged:
    def test_centres_keep_their_values_and_edges_go_on(self) -> None:
        small = np.arange(12.0).reshape(3, 4)
        large = enlarge(small, (15, 20))
        np.testing.assert_allclose(large[2::5, 2::5], small)
        np.testing.assert_allclose(large[:2, :2], small[0, 0])
        np.testing.assert_allclose(np.diff(large[7, 2:18]), 0.2)

    @pytest.mark.parametrize("shape", [(1, 1), (7, 7), (28, 28), (5, 3)])
    def test_the_mean_of_an_even_map_stays(self, shape: tuple[int, int]) -> None:
        np.testing.assert_allclose(enlarge(np.full(shape, 2.5), (28, 28)), 2.5)


class TestWords:
    def test_who_is_who(self, maps: np.ndarray, words) -> None:
        wrong = _example(maps, 0, (0.3, 0.7, 0.0))
        said = words(draw_class_maps([_example(maps), wrong], NAMES, "$a title$"))
        assert said[:3] == list(NAMES)
        assert said[3:7] == ["shoe", "recognised", "20 %", "80 %"]
        assert said[7:11] == ["shirt", "taken for shoe", "30 %", "70 %"]
        assert "$a title$" in said

    def test_more_outputs_than_names(self, maps: np.ndarray, words) -> None:
        example = _example(np.concatenate([maps, maps]), 0, (0.1, 0.1, 0.1, 0.1, 0.6, 0.0))
        assert "taken for class 4" in words(draw_class_maps([example], NAMES, "title"))

    def test_the_frame_is_around_the_true_class(self, maps: np.ndarray) -> None:
        """It alone differs."""
        first, second = (
            draw_class_maps([_example(maps, label, (0.0, 0.0, 1.0))], ("a", "a", "a"), "title") for label in (0, 1)
        )
        changed = [(a, b) for a, b in zip(first.splitlines(), second.splitlines(), strict=True) if a != b]
        assert 0 < len(changed) <= 6
        assert all(line.strip().startswith((b"M", b"L", b'<path d="M')) for pair in changed for line in pair)


def test_equal_numbers_give_equal_bytes(maps: np.ndarray) -> None:
    first, second = (draw_class_maps([_example(maps)], NAMES, "title") for _ in range(2))
    assert first == second
