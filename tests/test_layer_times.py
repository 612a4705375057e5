"""Which passes count when layers are timed, and of what; the layers here take as long as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nin_multi.layer_times import layer_times


class Chain:
    """Three layers that add 1, 2 and 3. Each pass takes the seconds that come next, and half as many back."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.came: list[tuple[int, float, int, bool]] = []  # layer, value, images, is_first

    def enter(self, network: Any, images: Any) -> Any:
        return images.copy()

    def layers(self, network: Any) -> Iterator[tuple[str, int]]:
        yield from (("a", 1), ("b.c", 2), ("b.d", 3))

    def timed_pass(self, network: Any, layer: int, x: Any, *, is_first: bool) -> Callable[[], tuple[float, float]]:
        self.came.append((layer, float(x[0]), len(x), is_first))
        times = iter(self.seconds)

        def once() -> tuple[float, float]:
            there = next(times)
            return there, there / 2

        return once

    def output(self, network: Any, layer: int, x: Any) -> Any:
        return x + layer


def times_of(chain: Chain, tuning: dict[str, str], *, warm_up: int, repeats: int) -> list[tuple[str, float, float]]:
    network: Any = None
    return list(layer_times(chain, network, np.zeros(8, np.float32), tuning, warm_up=warm_up, repeats=repeats))


def test_medians_of_what_comes_after_warming_up() -> None:
    found = times_of(Chain([100.0, 50.0, 4.0, 2.0, 30.0]), {}, warm_up=2, repeats=3)
    assert found == [("a", 4.0, 2.0), ("b.c", 4.0, 2.0), ("b.d", 4.0, 2.0)]


def test_each_layer_gets_what_the_one_before_it_gives() -> None:
    chain = Chain([1.0])
    times_of(chain, {}, warm_up=0, repeats=1)
    assert chain.came == [(1, 0.0, 8, True), (2, 1.0, 8, False), (3, 3.0, 8, False)]


@pytest.mark.parametrize(
    ("size", "images", "seconds"), [("all", 8, 1.0), ("2", 2, 4.0), ("3", 3, 8 / 3), ("64", 8, 1.0)]
)
def test_one_piece_goes_through_and_the_seconds_are_of_all(size: str, images: int, seconds: float) -> None:
    chain = Chain([1.0])
    found = times_of(chain, {"micro_batch": size, "layout": "tall"}, warm_up=0, repeats=1)
    assert {count for _, _, count, _ in chain.came} == {images}
    assert found[0] == ("a", seconds, seconds / 2)
