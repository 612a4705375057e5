"""The workers of one run over MXNet's `dist_sync` key-value store; not its optimizers: nothing but sums go through it.

Its server adds what comes in, in float32, in the order in which it comes. So that every run has the same bits, each
worker puts its numbers into a row of its own, with zeros in the others, and the rows are added up here, by rank.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mxnet as mx
import numpy as np
from numpy.typing import NDArray

from nin_multi.errors import UsageError
from nin_multi.workers.group import Group, Sums, WorkerLost, lost
from nin_multi.workers.launch import Place
from nin_multi.workers.roll import RollCall
from nin_mxnet.roles import MEETING

LOOK = 0.5  # seconds between two looks for the others, while one waits for them
MOST = 2**24  # numbers in one message, whose bytes ps-lite counts in an int


class MXNetGroup:
    """A store that is open until `close`. MXNet waits for ever for a worker that is gone, so it waits on a thread."""

    def __init__(self, store: Any, seconds: float) -> None:
        self._store = store
        self._keys: dict[int, int] = {}  # of arrays, by their length
        self.rank, self.size = int(store.rank), int(store.num_workers)
        self._roll: RollCall | None = None
        self._seconds = seconds
        atexit.register(self._leave)
        host, port = (os.environ[name] for name in MEETING[:2])
        self._roll = RollCall("mxnet", self.rank, self.size, (host, int(port)), self.sum, seconds)

    def sum(self, values: Sums) -> Sums:
        # The server loses digits of float64, and knows no whole numbers; float32 holds those of 16 bits.
        halves = np.ascontiguousarray(values, np.float64).view(np.uint16).astype(np.float32)
        found: Sums = self._rows(halves).astype(np.uint16).view(np.float64).sum(axis=0)
        return found

    def sum_float32(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """`sum` for gradients, in their own precision and with less to send."""
        if self.size == 2:  # a + b is b + a
            return self._exchange(values)
        found: NDArray[np.float32] = self._rows(values).sum(axis=0)
        return found

    def close(self) -> None:
        """Waits until all of them do so."""
        atexit.unregister(self._leave)
        self._store = None
        if self._roll is not None:
            self._roll.close()

    def _rows(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each worker has, (size, n), of values (n,)."""
        rows = np.zeros((self.size, len(values)), np.float32)
        rows[self.rank] = values
        return self._exchange(rows.ravel()).reshape(rows.shape)

    def _exchange(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The server's sum. Raises WorkerLost."""
        done = _Thread(partial(self._sum_on_server, values))
        ends = time.monotonic() + self._seconds
        while not done.wait(LOOK):
            if self._roll is not None:
                self._roll.check()
            elif time.monotonic() > ends:
                raise lost("mxnet", self.rank, self.size)
        summed: NDArray[np.float32] = done.result()
        return summed

    def _sum_on_server(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        summed = np.empty_like(values)
        for first in range(0, len(values), MOST):
            array = mx.nd.array(values[first : first + MOST], dtype=np.float32)
            key = self._key(len(array))
            self._store.push(key, array)
            self._store.pull(key, out=array)
            summed[first : first + MOST] = array.asnumpy()
        return summed

    def _key(self, length: int) -> int:
        if length not in self._keys:
            self._keys[length] = len(self._keys)
            self._store.init(self._keys[length], mx.nd.zeros(length))
        return self._keys[length]

    def _leave(self) -> None:
        self._store.handle = None  # freeing it would wait for the others, who wait for us
        atexit.unregister(mx.base._notify_shutdown)  # and this for what is still to come from them
        _end_at_once()


def join(place: Place | None, device: str, seconds: float) -> Group:
    """Meet the others at the scheduler. Raises WorkerLost, UsageError."""
    if place is None:
        raise UsageError(
            "mxnet: not one of several workers here: expected DMLC_ROLE=worker and DMLC_NUM_WORKER from 2 on"
        )
    if missing := [name for name in MEETING if name not in os.environ]:
        raise UsageError(f"mxnet: {missing[0]} is not set: it says how the workers meet")  # MXNet would abort
    made = _Thread(partial(mx.kv.create, "dist_sync"))
    is_there = False
    try:
        is_there = made.wait(seconds)
    finally:
        if not is_there:
            _end_at_once()
    if not is_there:
        raise WorkerLost(f"mxnet: not all of the {place.size} workers came within {seconds:.0f} s")
    try:
        store = made.result()
    except Exception as error:
        raise UsageError(f"mxnet: {str(error).strip().splitlines()[-1]}") from error
    return MXNetGroup(store, seconds)


class _Thread:
    """A call of MXNet's that may never come back, and then stays behind when the process ends."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._found: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has come back."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._found

    def _run(self) -> None:
        try:
            self._found = self._call()
        except Exception as error:
            self._error = error


def _end_at_once() -> None:
    """Let this process end with its status, whenever it does so: ps-lite aborts it where its threads still run."""
    c = ctypes.CDLL(None)
    if hasattr(c, "on_exit"):  # glibc; it calls _exit(status, None) before the destructors
        c.on_exit(c._exit, None)
