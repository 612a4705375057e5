"""What a sweep is made of, as Dask carries it from machine to machine; not who asks for it, nor how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nin_multi.sweep.wanted import Wanted

Status = Literal["done", "diverged", "interrupted", "failed"]


@dataclass(frozen=True)
class Resources:
    """What one run takes: cores (None: its share), bytes of memory (None: it is not asked)."""

    cores: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Planned:
    """One run of a sweep; its name is that of its directory, always the same."""

    name: str
    recipe: str
    wanted: Wanted


@dataclass(frozen=True)
class Task:
    """One run as a worker gets it: `train`'s arguments to begin it, and to go on with it."""

    name: str
    backend: str
    run: Path
    begin: tuple[str, ...]
    resume: tuple[str, ...]
    cores: int
    patience: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `result` as `train --json` has it, or the `reason` why there is none.

    `may_help` tells whether trying once more may help: not where the input is bad.
    """

    name: str
    status: Status
    result: dict[str, Any] | None = None
    reason: str = ""
    exit_status: int = 0
    may_help: bool = False
    attempts: int = 1
