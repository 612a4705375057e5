"""Connections beside a framework's own, in threads: all are there, or one is gone, and that is known at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nin_multi.workers.group import Sums, WorkerLost
from nin_multi.workers.roll import RollCall

SIZE = 3
MEETING = ("127.0.0.1", 9)  # an address; nothing is sent there


class Summing:
    """A sum over threads."""

    def __init__(self) -> None:
        self._there = threading.Barrier(SIZE)
        self._values: list[Sums] = []

    def __call__(self, values: Sums) -> Sums:
        self._values.append(values)
        self._there.wait(30)
        summed: Sums = np.sum(self._values, axis=0)
        return summed


@pytest.fixture
def rolls() -> Iterator[list[RollCall]]:
    tell = Summing()
    with ThreadPoolExecutor(SIZE) as pool:
        made = list(pool.map(lambda rank: RollCall("toy", rank, SIZE, MEETING, tell, 30.0), range(SIZE)))
    yield made
    for roll in made:
        roll.close()


def test_all_are_there(rolls: list[RollCall]) -> None:
    for _ in range(3):
        with ThreadPoolExecutor(SIZE) as pool:
            list(pool.map(RollCall.call, rolls))
    for roll in rolls:
        roll.check()


def test_nobody_returns_before_all_have_called(rolls: list[RollCall]) -> None:
    with ThreadPoolExecutor(SIZE) as pool:
        early = [pool.submit(rolls[rank].call) for rank in (0, 1)]
        assert not any(one.done() for one in early)
        pool.submit(rolls[2].call).result(30)
        for one in early:
            one.result(30)


def test_who_is_gone_is_named_without_waiting(rolls: list[RollCall]) -> None:
    rolls[2].close()
    with pytest.raises(WorkerLost, match="toy: worker 0 of 3 has lost worker 2"):
        rolls[0].check()
    rolls[1].check()  # it has no connection but that to worker 0
    rolls[0].close()
    with pytest.raises(WorkerLost, match="toy: worker 1 of 3 has lost worker 0"):
        rolls[1].check()


def test_a_roll_without_one_of_them_waits_for_nobody(rolls: list[RollCall]) -> None:
    rolls[1].close()
    with pytest.raises(WorkerLost, match="worker 0 of 3 has lost worker 1"):
        rolls[0].call()


def test_who_does_not_connect_is_named() -> None:
    tell = Summing()
    with ThreadPoolExecutor(SIZE) as pool:
        first = pool.submit(RollCall, "toy", 0, SIZE, MEETING, tell, 1.0)
        second = pool.submit(RollCall, "toy", 1, SIZE, MEETING, tell, 1.0)
        pool.submit(tell, np.zeros(6))  # worker 2 hears where they meet, and stays away
        with pytest.raises(WorkerLost, match="worker 0 of 3 has lost worker 2"):
            first.result(30)
        second.result(30).close()


def test_a_stranger_is_not_counted() -> None:
    tell, heard = Summing(), np.zeros(6)

    def come_first(rank: int) -> RollCall:
        return RollCall("toy", rank, SIZE, MEETING, strange if rank == 1 else tell, 30.0)

    def strange(values: Sums) -> Sums:
        summed = tell(values)
        *octets, port, _ = (int(value) for value in summed)
        with socket.create_connection((socket.inet_ntoa(bytes(octets)), port), 30.0) as other:
            other.sendall(b"\0" * 8)
            assert other.recv(1) == b"", "it is sent away"
        heard[:] = summed
        return summed

    with ThreadPoolExecutor(SIZE) as pool:
        rolls = list(pool.map(come_first, range(SIZE)))
    assert heard[4] > 0
    with ThreadPoolExecutor(SIZE) as pool:
        list(pool.map(RollCall.call, rolls))
    for roll in rolls:
        roll.close()
