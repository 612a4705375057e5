"""Workers that meet through torch.distributed: gloo on CPUs, NCCL between GPUs; not what they compute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from nin_multi.errors import UsageError
from nin_multi.workers.group import Group, Sums, WorkerLost, lost
from nin_multi.workers.launch import Place, port_in_use

SILENCE = timedelta(minutes=10)  # for which one waits for the others in the middle of a step


class TorchGroup:
    """The default process group. Sums are float64 and made on the CPU, wherever the net is."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def sum(self, values: Sums) -> Sums:
        tensor = torch.from_numpy(values.copy())
        with losses(self):
            dist.all_reduce(tensor)
        summed: Sums = tensor.numpy()
        return summed

    def close(self) -> None:
        dist.destroy_process_group()


def join(place: Place, device: str, seconds: float) -> Group:
    """Meet the others at the launcher's address, or at worker 0's. Raises WorkerLost, UsageError."""
    rank, size = place.rank or 0, place.size
    host, port = _address()
    is_hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    limit = timedelta(seconds=seconds)
    try:
        meeting: Any = TCPStore(
            host, port, size, is_master=rank == 0 and not is_hosted, timeout=limit, wait_for_workers=False
        )
    except RuntimeError as error:
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            raise port_in_use("torch", port) from None
        raise WorkerLost(f"torch: worker 0 of {size} was not at {host}:{port} within {seconds:.0f} s") from None
    meeting = PrefixStore(f"nin_multi/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", meeting)
    _meet(meeting, rank, size, seconds)
    with losses(TorchGroup(rank, size)):
        kinds = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(kinds, store=meeting, rank=rank, world_size=size, timeout=SILENCE)
    return TorchGroup(rank, size)


@contextmanager
def losses(group: Group) -> Iterator[None]:
    """A block in which the others take part. Raises WorkerLost where one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if group.size == 1 or not any(word in said for word in ("gloo", "NCCL", "onnection", "store")):
            raise
        raise lost("torch", group.rank, group.size) from error


def _meet(meeting: Any, rank: int, size: int, seconds: float) -> None:
    """Say that we are here, and wait for all the others. Raises WorkerLost, and names those who are missing."""
    keys = [f"here/{other}" for other in range(size)]
    try:
        meeting.set(keys[rank], "yes")
        meeting.wait(keys, timedelta(seconds=seconds))
    except RuntimeError:
        try:
            missing = [str(other) for other, key in enumerate(keys) if not meeting.check([key])]
        except RuntimeError:  # it is at worker 0 that they meet
            raise WorkerLost(f"torch: worker 0 of {size} waits no longer for those who have not come") from None
        names = f"worker {missing[0]}" if len(missing) == 1 else f"workers {', '.join(missing)}"
        raise WorkerLost(f"torch: {names} of {size} did not come within {seconds:.0f} s") from None


def _address() -> tuple[str, int]:
    """As torchrun says it."""
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not host or not port.isdecimal():
        raise UsageError("torch: expected the address to meet at in MASTER_ADDR and MASTER_PORT")
    return host, int(port)
