"""A worker that is not the first: it trains like it, and leaves the run directory, the screen and the clock to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nin_multi.memory import Room
from nin_multi.training.checkpoint import first_state
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.nonfinite import first_broken
from nin_multi.training.preparation import prepare
from nin_multi.training.progress import NotFinite, start
from nin_multi.training.run import Run, last_checkpoint
from nin_multi.training.run_directory import RunDirectory
from nin_multi.training.together import check_alike, peak_memory_bytes


def follow(job: Job, resumed: RunDirectory | None) -> dict[str, Any]:
    """Take part in a run that begins, or in one that goes on; returns how it ended. Raises what `train` raises."""
    job.check()
    room, display = Room.before_a_run(job.device), Silent()
    state = last_checkpoint(job, resumed, display) if resumed else first_state(job.architecture, job.recipe)
    progress = start(job.dataset, job.recipe)
    state.put_into(progress)
    check_alike(job, progress.step)
    directory = resumed or RunDirectory(Path())
    prepared = prepare(job, state.params, state.velocities, progress, directory, display, room)
    return Follower(job, prepared, directory, progress, display, room).go()


class Follower(Run):
    """Makes every step, and writes nothing."""

    def _record(self, event: Mapping[str, Any]) -> None:
        pass

    def _layers(self) -> None:
        pass

    def _save(self) -> None:
        if (layer := first_broken(self.network.params())) is not None:
            raise NotFinite(f"the parameters of layer {layer!r} are no numbers", layer)

    def _kept(self, text: str) -> str:
        return text.strip()

    def _finish(self, status: dict[str, Any]) -> dict[str, Any]:
        peak_memory_bytes(self.job.group)
        return status
