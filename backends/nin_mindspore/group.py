"""Workers that meet through MindSpore's own communication on CPUs; not what they compute."""

from __future__ import annotations

import errno
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mindspore import Tensor, communication, ops

from nin_mindspore.backend import MindSporeBackend
from nin_multi.errors import UsageError
from nin_multi.workers.group import Group, Sums, WorkerLost, lost
from nin_multi.workers.launch import Place, port_in_use
from nin_multi.workers.roll import RollCall


class MindSporeGroup:
    """MindSpore's group of all workers. Its collectives wait 30 s for the others: the roll is called before each."""

    def __init__(self, rank: int, size: int, seconds: float) -> None:
        self.rank, self.size = rank, size
        self._gather = ops.AllGather()
        meeting = os.environ["MS_SCHED_HOST"], int(os.environ["MS_SCHED_PORT"])
        with _losses(self):
            self._roll = RollCall("mindspore", rank, size, meeting, self._sum, seconds)

    def sum(self, values: Sums) -> Sums:
        with self.together():
            return self._sum(values)

    def close(self) -> None:
        self._roll.close()
        communication.release()

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block with a collective of MindSpore's, which begins when all are there. Raises WorkerLost."""
        self._roll.call()
        with _losses(self):
            yield

    def _sum(self, values: Sums) -> Sums:
        # No collective on CPUs takes float64: its bits travel as int32, and everybody adds them in the same order.
        bits = self._gather(Tensor(np.ascontiguousarray(values).view(np.int32))).asnumpy()
        rows = np.ascontiguousarray(bits).view(np.float64).reshape(self.size, len(values))
        summed: Sums = rows.sum(0)
        return summed


def join(place: Place, device: str, seconds: float) -> Group:
    """Meet the others at msrun's scheduler, or be it, which ends this process. Raises WorkerLost, UsageError."""
    MindSporeBackend().start(device)  # it takes no device once the workers have met
    os.environ["MS_TOPO_TIMEOUT"] = str(math.ceil(seconds))
    if not place.is_worker:
        _check_port()
    began = time.monotonic()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        communication.init()
    except RuntimeError:
        waited = time.monotonic() - began
        who = ("a worker" if place.rank is None else f"worker {place.rank}") if place.is_worker else "the scheduler"
        missing = f"not all of the {place.size} workers came within {waited:.0f} s"
        raise WorkerLost(f"mindspore: {missing}; this is {who}") from None
    finally:
        for number, handler in handlers.items():  # in place of MindSpore's own, which end the process at once
            if handler is not None:
                signal.signal(number, handler)
    if not place.is_worker:
        raise SystemExit(0)
    return MindSporeGroup(communication.get_rank(), communication.get_group_size(), seconds)


@contextmanager
def _losses(group: Group) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if MindSporeBackend().is_out_of_memory(error):
            raise
        raise lost("mindspore", group.rank, group.size) from error


def _check_port() -> None:
    """Raises UsageError where the scheduler's port is taken: MindSpore does not say so, and all would wait in vain."""
    host, port = (os.environ.get(name, "") for name in ("MS_SCHED_HOST", "MS_SCHED_PORT"))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise port_in_use("mindspore", int(port)) from None
            raise UsageError(f"mindspore: the workers cannot meet at {host}:{port} ({error})") from None
