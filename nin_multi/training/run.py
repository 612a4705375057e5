"""One training run from beginning to end: net, run directory, loop, result; the pieces are defined elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nin_multi import heartbeat, randomness
from nin_multi.drawing.curve import draw_curve
from nin_multi.errors import CheckpointError, OutOfMemory, RunError
from nin_multi.files import write_bytes
from nin_multi.memory import Room, explained
from nin_multi.training import loop, tensorboard
from nin_multi.training.activity import describe_layers
from nin_multi.training.checkpoint import Checkpoint, first_state, load_checkpoint, save_checkpoint
from nin_multi.training.classes import ClassWatch
from nin_multi.training.display import Display
from nin_multi.training.interrupt import signals
from nin_multi.training.job import Job
from nin_multi.training.preparation import Prepared, prepare
from nin_multi.training.progress import NotFinite, Progress, Stopped, Watcher, start
from nin_multi.training.record import epoch_event, layers_event, result_of, resumed_facts, run_facts, step_event
from nin_multi.training.run_directory import CURVE, WEIGHTS, RunDirectory
from nin_multi.training.together import Decision, check_alike, check_weights, decide, peak_memory_bytes
from nin_multi.weights import save_weights
from nin_multi.workers.group import WorkerLost


def train(job: Job, directory: RunDirectory, display: Display) -> dict[str, Any]:
    """Train from the beginning, write the run directory, and return the result: the fields of `train --json`.

    `status` is "done", "interrupted" (then also `signal`) or "diverged" (then also `reason`).

    Raises DataError where labels and classes do not fit, BackendUnavailable, UnsupportedLayer, RunError.
    """
    job.check()
    with directory.writing():
        room = Room.before_a_run(job.device)
        try:
            directory.require_space(job.checkpoint_bytes)
            params = randomness.initial_parameters(job.architecture, job.recipe.seed, job.recipe.init)
            progress = start(job.dataset, job.recipe)
            check_alike(job, progress.step)
            prepared = prepare(job, params, {}, progress, directory, display, room)
            directory.begin(run_facts(job, prepared.choice))
        except BaseException:
            directory.abandon()  # an empty directory would only puzzle
            raise
        with tensorboard.following(directory, job.tensorboard, display.note):
            return Run(job, prepared, directory, progress, display, room).go()


def resume(job: Job, directory: RunDirectory, display: Display) -> dict[str, Any]:
    """Go on from a run's last whole checkpoint, with whatever backend the job has; else as `train`.

    A run that was killed before its first checkpoint begins again; one that was killed after its last is brought to its
    end. Raises CheckpointError where a checkpoint is not this run's, RunError where nothing is left to do.
    """
    job.check()
    with directory.writing():
        directory.require_space(job.checkpoint_bytes)
        room = Room.before_a_run(job.device)
        checkpoint = last_checkpoint(job, directory, display)
        progress = start(job.dataset, job.recipe)
        checkpoint.put_into(progress)
        if progress.evaluated >= job.recipe.epochs and not _lacks_its_end(job, directory):
            raise RunError(f"{directory.path}: all of its {progress.evaluated} epochs are done; --epochs N trains on")
        before = directory.facts()
        check_alike(job, progress.step)
        prepared = prepare(job, checkpoint.params, checkpoint.velocities, progress, directory, display, room)
        facts = resumed_facts(job, prepared.choice, before, progress.step)
        # Only now, when nothing is left that could go wrong, is anything of the old run changed.
        directory.forget_events_after(progress.step, progress.evaluated)
        directory.remove_leftovers()
        directory.reopen()
        directory.begin(facts)
        with tensorboard.following(directory, job.tensorboard, display.note):
            return Run(job, prepared, directory, progress, display, room).go()


def _lacks_its_end(job: Job, directory: RunDirectory) -> bool:
    """Whether a run that has done all its epochs was killed before it had written its weights and its result."""
    return not directory.is_finished() and directory.recipe().epochs == job.recipe.epochs


def last_checkpoint(job: Job, directory: RunDirectory, display: Display) -> Checkpoint:
    """The latest that is whole. Raises CheckpointError where none is, or where one belongs to something else."""
    found = directory.checkpoints()
    if not found and (directory.path / WEIGHTS).exists():
        raise RunError(f"{directory.path}: it has no checkpoint to go on from; train again from the beginning")
    damaged: CheckpointError | None = None
    for path in reversed(found):
        try:
            checkpoint = load_checkpoint(path, job.architecture, job.recipe, job.data_sha256)
        except CheckpointError as error:
            if not error.is_damage:
                raise
            damaged = damaged or error
            display.note(f"passed over: {error}")
            continue
        return checkpoint
    if damaged is not None:
        raise CheckpointError(f"{damaged}\nNo other is whole; without its checkpoints the run begins again.")
    display.note("this run has no checkpoint yet: it begins again at its first step")
    return first_state(job.architecture, job.recipe)


class Run:
    """A run under way: from where `progress` stands to the end, or to a signal."""

    def __init__(
        self,
        job: Job,
        prepared: Prepared,
        directory: RunDirectory,
        progress: Progress,
        display: Display,
        room: Room,
    ) -> None:
        self.job, self.prepared, self.network, self.room = job, prepared, prepared.network, room
        self.directory, self.progress, self.display = directory, progress, display
        self.caught: list[int] = []
        self.signal = 0  # one that was caught, here or by another worker
        self.classes = ClassWatch(job.dataset.classes)
        self._saved_step, self._saved_at = progress.step, time.monotonic()

    def go(self) -> dict[str, Any]:
        heartbeat.beat(heartbeat.TRAINING, self.progress.step, self.progress.steps, self.directory.path)
        status: dict[str, Any] = {"status": "done"}
        try:
            with self.display, signals() as self.caught:
                try:
                    self._fit()
                    # A run that has come to its end was not interrupted.
                    if self.signal and self.progress.evaluated < self.job.recipe.epochs:
                        self._save()
                        status = {"status": "interrupted", "signal": self.signal}
                except NotFinite as error:
                    status = {"status": "diverged", "reason": self._reason(error), "layer": error.layer}
                return self._finish(status)  # a first signal lets it be written
        except RunError as error:  # a full disk, a folder that is gone
            raise RunError(self._kept(f"{error}\n")) from None
        except OutOfMemory as error:
            raise OutOfMemory(self._kept(f"{error} ")) from None
        except WorkerLost as error:
            raise WorkerLost(self._kept(f"{error}\n")) from None

    def _fit(self) -> None:
        job = self.job
        watcher = Watcher(self._step, self._epoch, self._is_to_stop, self._evaluation)
        with explained(job.backend, job.demand(self.prepared.choice), self.room, self._where):
            if self.progress.step == 0:
                self._layers()
            loop.fit(self.network, job.architecture, job.dataset, job.recipe, self.progress, watcher)

    def _where(self) -> str:
        """Where it stood, in words."""
        progress = self.progress
        if progress.step == (progress.evaluated + 1) * progress.steps_per_epoch:
            return f"in the evaluation after epoch {progress.epoch}"
        return f"in step {progress.step + 1:,}"

    def _step(self, progress: Progress) -> None:
        heartbeat.beat(heartbeat.TRAINING, progress.step, progress.steps, figures=progress.epoch_totals.figures())
        self.display.step(progress)
        if progress.is_point():
            self._record(step_event(progress))
            self._tell(self.classes.at_point(progress))
        is_due = self.job.cadence.is_due(progress.step - self._saved_step, time.monotonic() - self._saved_at)
        if self._decide(is_due).saves:
            self._save()

    def _decide(self, is_due: bool = False) -> Decision:
        decision = decide(self.job.group, self.caught[0] if self.caught else 0, is_due)
        self.signal = decision.signal
        return decision

    def _is_to_stop(self) -> bool:
        if self.job.group.size == 1:  # several have agreed on it in the step
            self._decide()
        return bool(self.signal)

    def _record(self, event: Mapping[str, Any]) -> None:
        self.directory.append(event)

    def _epoch(self, progress: Progress) -> None:
        self.display.epoch(progress)
        self._layers()
        self._record(epoch_event(progress))  # an epoch's last
        check_weights(self.job.group, self.network.params(), progress.step)
        self._tell(self.classes.at_epoch(progress))
        self._save()

    def _layers(self) -> None:
        """What the layers give for the first test images, into the events; no clock of the training runs."""
        images = self.job.dataset.test.images
        found = describe_layers(
            self.network, self.job.architecture, images, lambda: heartbeat.beat(heartbeat.EVALUATING)
        )
        self._record(layers_event(self.progress, found))

    def _evaluation(self, images: int) -> None:
        heartbeat.beat(heartbeat.EVALUATING)
        if self._decide().signal:
            raise Stopped

    def _tell(self, text: str | None) -> None:
        if text is not None:
            self.display.note(text)

    def _save(self) -> None:
        """Raises NotFinite, and leaves the last good checkpoint, where a parameter is no number."""
        facts = self.job.stored_facts(self.progress.step)
        save_checkpoint(self.directory, self.network, self.job.architecture, self.progress, facts)
        self._saved_step, self._saved_at = self.progress.step, time.monotonic()

    def _reason(self, error: NotFinite) -> str:
        return self._kept(f"{error}; a smaller --lr may help.\n")

    def _kept(self, text: str) -> str:
        """With what is left to go on from."""
        return text + self.directory.survivor()

    def _finish(self, status: dict[str, Any]) -> dict[str, Any]:
        """Weights, curve and result.json; the result."""
        job, directory, progress = self.job, self.directory, self.progress
        heartbeat.beat(heartbeat.FINISHING, progress.step)
        if status["status"] != "diverged":
            facts = job.stored_facts(progress.step)
            save_weights(directory.path / WEIGHTS, self.network.params(), job.architecture, **facts)
        write_bytes(directory.path / CURVE, draw_curve(directory.events(), job.recipe.epochs, job.title()))
        result = result_of(job, self.prepared, directory, progress, peak_memory_bytes(job.group), status)
        directory.finish(result)
        return result
