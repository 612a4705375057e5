"""How long a run will take, in words for people, and what would take less time."""

from __future__ import annotations

import pytest

from nin_multi.architecture_file import load_architecture
from nin_multi.training.estimate import duration, faster_choices, seconds_needed
from nin_multi.training.recipe import Recipe

HOUR = 3600.0
# Multiply-adds by hand: nin-mnist's 1 x 1 and 5 x 5 convolutions on 28 x 28, 14 x 14 and 7 x 7, and nin's own.
BY_HAND = (
    28 * 28 * (1 * 96 * 25 + 96 * 64 + 64 * 48)
    + 14 * 14 * (48 * 128 * 25 + 128 * 96 + 96 * 48)
    + 7 * 7 * (48 * 128 * 25 + 128 * 96 + 96 * 10)
)
SHARE = BY_HAND / 762_297_352


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.2, "1 s"),
        (24.6, "25 s"),
        (89.0, "89 s"),
        (90.1, "2 min"),
        (720, "12 min"),
        (5399, "90 min"),
        (5401, "1.5 h"),
        (3.4 * HOUR, "3.4 h"),
        (47.9 * HOUR, "47.9 h"),
        (48.1 * HOUR, "2.0 days"),
        (2.1 * 24 * HOUR, "2.1 days"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_seconds_needed() -> None:
    # 10 epochs of 60,000 images at 100 a second, and the 10,000 test images at 300.
    assert seconds_needed(100.0, 60_000, 10_000, Recipe()) == pytest.approx(10 * (600 + 100 / 3))
    assert seconds_needed(50.0, 100, 0, Recipe(epochs=1)) == pytest.approx(2.0)


def test_no_choices_for_a_short_run() -> None:
    assert faster_choices(load_architecture("nin"), Recipe(), 599.0, 60_000) == []


def test_choices_for_a_long_run() -> None:
    smaller, fewer = faster_choices(load_architecture("nin"), Recipe(), 10 * HOUR, 60_000)
    assert smaller == f"--arch nin-mnist (about {10 * 60 * SHARE:.0f} min)"
    assert fewer == "--train-examples 2560 --epochs 1 (about 3 min)"  # 10 h x 2,560 / 60,000 / 10 = 154 s


def test_only_choices_that_are_some() -> None:
    def choices(arch: str = "nin", recipe: Recipe | None = None, train: int = 60_000) -> str:
        return " ".join(faster_choices(load_architecture(arch), recipe or Recipe(), HOUR, train))

    assert "--arch" not in choices("nin-mnist")
    assert "--arch" in choices("nin")
    assert "--train-examples" not in choices(recipe=Recipe(train_examples=5000))
    assert "--train-examples" not in choices(train=2560)
    assert "--train-examples" in choices(train=2561)
