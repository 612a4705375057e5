"""How several workers of PyTorch are started: torchrun's command, and its variables; torch is not imported for it."""

from __future__ import annotations

import os
import sys

from nin_multi.workers.launch import Adoption, Launch, Place, Role, Task


def place() -> Place | None:
    """By torchrun's variables."""
    size, rank = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK"))
    if not (size.isdecimal() and rank.isdecimal() and int(size) > 1):
        return None
    local, restart = (os.environ.get(name, "0") for name in ("LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"))
    return Place(int(size), int(rank), int(local), int(restart))


def launch(launch: Launch) -> list[Role]:
    """torchrun, which starts the workers, watches them, and starts all of them anew where one has died."""
    command = (
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1"),
        *("--nproc-per-node", str(launch.workers)),
        *("--master-addr", "127.0.0.1", "--master-port", str(launch.port)),
        *("--max-restarts", str(launch.restarts), "--monitor-interval", "0.2"),
    )
    return [Role("torchrun", (*command, *launch.command))]


def adopt(task: Task) -> Adoption:
    """The variables that torchrun would have set; the workers meet in worker 0 itself."""
    return Adoption(
        {
            "WORLD_SIZE": str(task.size),
            "RANK": str(task.rank),
            "LOCAL_RANK": str(task.local),
            "MASTER_ADDR": task.host,
            "MASTER_PORT": str(task.port),
        }
    )
