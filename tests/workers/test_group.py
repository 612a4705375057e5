"""What workers do together, by threads that really wait for one another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from nin_multi.training.together import Decision, decide
from nin_multi.workers.group import Alone, Group, Sums, agree, gather, part, pieces, whole


class Threads:
    """A worker that is a thread; the others' values lie in a list they share."""

    def __init__(self, rank: int, size: int, table: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self._table, self._barrier = rank, size, table, barrier

    def sum(self, values: Sums) -> Sums:
        self._table[self.rank] = values
        self._barrier.wait(10)
        total: Sums = np.sum(self._table, axis=0)
        self._barrier.wait(10)
        return total

    def close(self) -> None:
        pass


def together(size: int, do: Callable[[Group], Any]) -> list[Any]:
    table: list[Any] = [None] * size
    barrier = threading.Barrier(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: do(Threads(rank, size, table, barrier)), range(size)))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 128])
def test_parts_are_a_batch_and_none_is_larger_by_more_than_one(size: int, count: int) -> None:
    parts = together(size, lambda group: part(group, count))
    rows = [row for mine in parts for row in range(mine.start, mine.stop)]
    assert rows == list(range(count))
    sizes = [mine.stop - mine.start for mine in parts]
    assert max(sizes) - min(sizes) <= 1


def test_pieces_are_the_part_in_micro_batches() -> None:
    found = together(2, lambda group: pieces(group, 7, {"micro_batch": "2"}))
    assert found == [[slice(0, 2), slice(2, 3)], [slice(3, 5), slice(5, 7)]]
    assert together(3, lambda group: pieces(group, 1, {"micro_batch": "all"})) == [[], [], [slice(0, 1)]]
    assert pieces(Alone(), 0, {"micro_batch": "all"}) == [slice(0, 0)]


@pytest.mark.parametrize("count", [1, 5, 8])
def test_the_whole_is_what_one_worker_has(count: int) -> None:
    logits = np.random.default_rng(0).standard_normal((count, 10), np.float32)
    losses = np.arange(count, dtype=np.float64)

    def share(group: Group) -> tuple[float, Any]:
        mine = part(group, count)
        return whole(group, float(losses[mine].sum()), [logits[mine]] if mine.start < mine.stop else [], count, 10)

    for loss, found in together(3, share):
        assert loss == losses.sum()
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, logits)


def test_gathering() -> None:
    for rows in together(3, lambda group: gather(group, np.array([group.rank, 0.1]))):
        np.testing.assert_array_equal(rows, [[0, 0.1], [1, 0.1], [2, 0.1]])


def test_agreement_and_what_there_is_instead() -> None:
    assert together(2, lambda group: agree(group, {"a": 1, "b": "ü"})) == [None, None]
    told = together(3, lambda group: agree(group, {"a": 1, "version": "2" if group.rank == 2 else "13"}))
    assert told == ["version: worker 0 has 13, worker 2 has 2"] * 3
    told = together(2, lambda group: agree(group, {"a": 1} if group.rank else {}))
    assert told == ["a: worker 0 has null, worker 1 has 1"] * 2


def test_a_signal_to_one_is_heard_by_all_and_the_first_keeps_the_clock() -> None:
    found = together(3, lambda group: decide(group, 15 if group.rank == 1 else 0, group.rank > 0))
    assert found == [Decision(15, False)] * 3
    assert together(2, lambda group: decide(group, 0, group.rank == 0)) == [Decision(0, True)] * 2
    assert decide(Alone(), 2, True) == Decision(2, True)
