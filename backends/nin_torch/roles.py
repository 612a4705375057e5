"""How several workers of PyTorch are started: torchrun's command, and its variables; torch is not imported for it."""

from __future__ import annotations

import os
import sys

from nin_multi.workers.launch import Launch, Place, Role


def place() -> Place | None:
    """By torchrun's variables, or by Slurm's for a task of `srun`."""
    names = ("WORLD_SIZE", "RANK") if "WORLD_SIZE" in os.environ else ("SLURM_NTASKS", "SLURM_PROCID")
    size, rank = (os.environ.get(name, "") for name in names)
    # Slurm sets its variables in the script of a job too, which is no task.
    is_task = names[0] == "WORLD_SIZE" or "SLURM_STEP_NODELIST" in os.environ
    if not (is_task and size.isdecimal() and rank.isdecimal() and int(size) > 1):
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
