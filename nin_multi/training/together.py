"""What the workers of a run settle among themselves while they train; one worker alone settles it without a word."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from nin_multi import machine
from nin_multi.backend import Params
from nin_multi.errors import RunError, UsageError
from nin_multi.training.job import Job
from nin_multi.workers.group import Group, agree, gather


@dataclass(frozen=True)
class Decision:
    """What all of them do after a step: end for a signal (0: none) that one of them got, write a checkpoint."""

    signal: int
    saves: bool


def decide(group: Group, signal: int, saves: bool) -> Decision:
    """Any worker's signal counts; when a checkpoint is due says worker 0, whose clock it is."""
    if group.size == 1:
        return Decision(signal, saves)
    rows = gather(group, np.array([signal, saves], np.float64))
    return Decision(int(rows[:, 0].max()), bool(rows[0, 1]))


def check_alike(job: Job, step: int) -> None:
    """Raises UsageError where the workers are not about to compute the same."""
    if job.group.size == 1:
        return
    versions = machine.versions(job.backend.name, job.backend.version())
    facts = {
        **{f"version of {name}": version for name, version in versions.items()},
        "architecture": job.architecture.model_dump(mode="json"),
        "recipe": job.recipe.as_dict(),
        "images": job.data_sha256,
        "precision": job.precision,
        "knobs": {**(job.recorded or {}), **job.fixed},
        "step to begin at": step,
    }
    if (difference := agree(job.group, facts)) is not None:
        raise UsageError(f"the workers differ in {difference}\nAll of them need the same; nothing was trained.")


def check_weights(group: Group, params: Params, step: int) -> None:
    """Raises RunError where the workers' nets are not the same any more, bit for bit."""
    if group.size == 1:
        return
    found = hashlib.sha256(b"".join(params[name].tobytes() for name in sorted(params))).digest()
    rows = gather(group, np.frombuffer(found, np.uint8).astype(np.float64))
    if others := [rank for rank in range(group.size) if not np.array_equal(rows[rank], rows[0])]:
        raise RunError(f"after step {step:,} worker {others[0]} has other parameters than worker 0")


def peak_memory_bytes(group: Group) -> int:
    """Of all workers together."""
    return int(gather(group, np.array([machine.peak_memory_bytes()], np.float64)).sum())
