"""Tasks of Slurm's `srun` as workers of one run; not what makes workers of them, which the backend says (`adopt`).

`srun` starts processes for many reasons, runs of their own among them: its tasks are workers where `--workers` says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence

from nin_multi import registry
from nin_multi.errors import UsageError
from nin_multi.launcher import environment_for
from nin_multi.workers.conductor import free_port
from nin_multi.workers.launch import Role, Task, port_in_use
from nin_multi.workers.processes import start

ADOPTED = "NIN_MULTI_ADOPTED"  # the variables beside it are ours, not those of a framework's launcher
FIRST, PORTS = 20_000, 10_000  # ports that Linux does not give out by itself, one for each step of each job
FOLLOW = 10.0  # seconds for what stands beside worker 0 to end after it


def task(port: int | None, seconds: float) -> Task | None:
    """What Slurm's variables say of this process; None where it is no task of several. See `Task` for `seconds`."""
    size, rank = (os.environ.get(name, "") for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))
    if not (size.isdecimal() and rank.isdecimal() and int(size) > 1):
        return None
    host = "127.0.0.1"
    if os.environ.get("SLURM_STEP_NUM_NODES", "1") != "1":
        host = _first(os.environ.get("SLURM_STEP_NODELIST", ""))
    job, step, local = (int(os.environ.get(f"SLURM_{name}", "0")) for name in ("JOB_ID", "STEP_ID", "LOCALID"))
    return Task(int(size), int(rank), local, host, port or FIRST + (16 * job + step) % PORTS, seconds)


def _first(machines: str) -> str:
    """gpu01 of gpu[01-03,7],cpu1: where task 0 runs."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^\[,]*))?", machines)
    if found is None:
        raise UsageError(f"SLURM_STEP_NODELIST: expected names of machines, got {machines!r}")
    return "".join(part or "" for part in found.groups())


def take_in(backend: str, workers: int | None, port: int | None, seconds: float) -> Beside:
    """Make this task a worker, if it is one of `workers` tasks; what is to stand beside it. Raises UsageError."""
    adapter = registry.load(backend)
    found = task(port, seconds) if (workers or 1) > 1 else None
    if found is None or (adapter.place() is not None and ADOPTED not in os.environ):
        return Beside(backend, ())
    if workers != found.size:
        raise UsageError(f"--workers {workers}: this process is one of {found.size} tasks of Slurm's")
    adoption = adapter.adopt(found)
    serving = adoption.serving if found.rank == 0 else ()
    if serving:
        _check_port(backend, found.port)
    os.environ.update({**adoption.environment, ADOPTED: backend})
    return Beside(backend, serving)


def _check_port(backend: str, port: int) -> None:
    """Raises UsageError for one in use: what stands beside us and wants it could not tell anybody."""
    try:
        free_port(port)
    except UsageError:
        raise port_in_use(backend, port) from None


class Beside:
    """Processes at which the workers meet, where it is worker 0 that has them started."""

    def __init__(self, backend: str, roles: Sequence[Role]) -> None:
        self._backend, self._roles = backend, roles
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        environment = environment_for(self._backend) if self._roles else {}
        self._processes = [start(role, environment, subprocess.DEVNULL) for role in self._roles]

    def end(self) -> None:
        """They end when the workers have left; those that do not go with this process."""
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(FOLLOW)
