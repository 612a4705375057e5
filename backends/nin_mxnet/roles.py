"""The processes of MXNet's key-value store on this machine: a scheduler, a server, the workers; it imports no mxnet."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from nin_multi.workers.launch import Adoption, Launch, Place, Role, Task, refuse_restarts

# At import, MXNet runs the loop of a scheduler or a server, and ends the process after it; the adapter can import it.
SERVES = ("-c", "from nin_mxnet.backend import MXNetBackend; MXNetBackend().framework()")

MEETING = ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_SERVER")  # what a worker needs beside its place


def place() -> Place | None:
    """What ps-lite's variables say; ranks come by arrival, and it does not heed a wish for one."""
    role, size = os.environ.get("DMLC_ROLE"), os.environ.get("DMLC_NUM_WORKER", "")
    if role not in ("worker", "server", "scheduler") or not size.isdecimal() or int(size) < 2:
        return None
    return Place(int(size), is_worker=role == "worker")


def launch(launch: Launch) -> list[Role]:
    """Every process by itself: the wheel has no launcher that works."""
    refuse_restarts("mxnet", launch)
    meeting = _meeting("127.0.0.1", launch.port, launch.workers)
    return _serving(meeting) + [
        Role(f"worker {number}", (sys.executable, *launch.command), {**meeting, "DMLC_ROLE": "worker"})
        for number in range(launch.workers)
    ]


def adopt(task: Task) -> Adoption:
    """What a worker needs to find the others; worker 0 has scheduler and server started."""
    meeting = _meeting(task.host, task.port, task.size)
    return Adoption({**meeting, "DMLC_ROLE": "worker"}, _serving(meeting))


def _meeting(host: str, port: int, workers: int) -> dict[str, str]:
    """Variables that all processes have alike."""
    found = {**dict(zip(MEETING, (host, str(port), "1"), strict=True)), "DMLC_NUM_WORKER": str(workers)}
    if host == "127.0.0.1":  # or ps-lite listens to other machines, and needs a network card to begin
        found["DMLC_NODE_HOST"] = host
    return found


def _serving(meeting: Mapping[str, str]) -> list[Role]:
    return [Role(name, (sys.executable, *SERVES), {**meeting, "DMLC_ROLE": name}) for name in ("scheduler", "server")]
