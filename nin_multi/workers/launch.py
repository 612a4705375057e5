"""What an adapter is asked for so that workers are started or taken in, and its answers; not who does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nin_multi.errors import UsageError


@dataclass(frozen=True)
class Launch:
    """Workers to be started on this machine.

    `command`: what each of them is to run, as arguments of Python: ("-m", "nin_multi", "train", ...). `port`: one that
    is free here, to meet at. `seconds`: how long they may wait for one another. `restarts`: how often all of them may
    be started again after one has died. `logs`: a folder for a launcher's own logs.
    """

    command: tuple[str, ...]
    workers: int
    port: int
    seconds: float
    restarts: int
    logs: Path


def refuse_restarts(backend: str, launch: Launch) -> None:
    """Raises UsageError: for a framework whose launcher starts nobody again."""
    if launch.restarts:
        raise UsageError(
            f"{backend}: expected no restarts, got {launch.restarts}; only torch's launcher starts workers again"
        )


def port_in_use(backend: str, port: int) -> UsageError:
    """What to raise where the workers were to meet at a port of this machine that another program has."""
    return UsageError(
        f"{backend}: port {port} is in use here, and the workers were to meet at it; choose another by --port, or by "
        "what started them"
    )


@dataclass(frozen=True)
class Role:
    """A process to be started: a framework's own launcher, or one of the roles that a framework divides work into."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside that of the backend


@dataclass(frozen=True)
class Task:
    """A process that a launcher of no framework has started, one of `size`, and where they are to meet.

    `local`: which it is on its machine. `host`, `port`: on the machine of rank 0; 127.0.0.1 where all are on one.
    `seconds`: how long they may wait for one another.
    """

    size: int
    rank: int
    local: int
    host: str
    port: int
    seconds: float


@dataclass(frozen=True)
class Adoption:
    """What makes a task a worker: variables, and processes that the one of rank 0 has to start beside itself."""

    environment: Mapping[str, str]
    serving: Sequence[Role] = ()


@dataclass(frozen=True)
class Place:
    """What a launcher's variables say of this process: how many workers there are, and which it is, if that is known.

    `local`: which it is on its machine. `restart`: how often a launcher has started all of them again. `is_worker`:
    false for a process that only serves the others, such as a scheduler.
    """

    size: int
    rank: int | None = None
    local: int = 0
    restart: int = 0
    is_worker: bool = True
