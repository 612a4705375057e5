"""How several workers of MindSpore are started: msrun's command, and its variables; mindspore is not imported."""

from __future__ import annotations

import math
import os
import socket
import sys
from pathlib import Path

from nin_multi.workers.launch import Adoption, Launch, Place, Role, Task, refuse_restarts


def place() -> Place | None:
    """By msrun's variables. It runs the command once more than there are workers: as the scheduler, where they meet."""
    role, size = (os.environ.get(name, "") for name in ("MS_ROLE", "MS_WORKER_NUM"))
    if role not in ("MS_WORKER", "MS_SCHED") or not size.isdecimal() or int(size) < 2:
        return None
    # RANK_ID is no help: where msrun leaves the ranks to MindSpore, workers inherit that of the scheduler.
    rank = os.environ.get("MS_NODE_ID", "") if role == "MS_WORKER" else ""
    return Place(int(size), int(rank) if rank.isdecimal() else None, is_worker=role == "MS_WORKER")


def launch(launch: Launch) -> list[Role]:
    """msrun, which starts a scheduler and the workers, and ends all of them where one has died."""
    refuse_restarts("mindspore", launch)
    count = str(launch.workers)
    command = (
        *(sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num", count, "--local_worker_num", count),
        *("--master_addr", "127.0.0.1", "--master_port", str(launch.port)),
        *("--cluster_time_out", str(math.ceil(launch.seconds)), "--join", "True", "--log_dir", str(launch.logs)),
        # A worker that there is not: each `tail -f` would outlive an msrun that is killed, and miss the last lines.
        *("--tail_worker_log", count, "python"),
    )
    # msrun knows its Python by that name alone.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return [Role("msrun", (*command, *launch.command), {"PATH": path})]


def adopt(task: Task) -> Adoption:
    """The variables that msrun would have set; worker 0 has the scheduler started."""
    meeting = {
        "MS_WORKER_NUM": str(task.size),
        "MS_SCHED_PORT": str(task.port),
        "MS_SCHED_HOST": socket.gethostbyname(task.host),  # it takes no names
    }
    serve = f"from nin_mindspore.backend import MindSporeBackend; MindSporeBackend().join('cpu', {task.seconds})"
    scheduler = Role("scheduler", (sys.executable, "-c", serve), {**meeting, "MS_ROLE": "MS_SCHED"})
    return Adoption({**meeting, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(task.rank)}, [scheduler])
