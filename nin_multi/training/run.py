"""One training run from beginning to end: net, run directory, loop, result; the pieces are defined elsewhere."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from nin_multi import machine, randomness, tuning
from nin_multi.backend import Backend, Network, Params, check_request, cores
from nin_multi.data.dataset import Dataset
from nin_multi.errors import CheckpointError, RunError, SpecError
from nin_multi.files import write_bytes
from nin_multi.spec import Architecture
from nin_multi.training import loop
from nin_multi.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nin_multi.training.curve import draw_curve
from nin_multi.training.display import Display
from nin_multi.training.estimate import duration, faster_choices, seconds_needed
from nin_multi.training.loop import NotFinite, Progress, Watcher
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import CURVE, WEIGHTS, RunDirectory
from nin_multi.tuning import Case, Choice
from nin_multi.weights import save_weights


@dataclass(frozen=True)
class Job:
    """Everything one run is made of.

    `fixed` are knobs set by hand. How the others are set says `tune`: "off" (as the backend has them by default),
    "auto" (as stored for this machine, else measured where that pays) or "now" (measured first). `recorded` are the
    values that a run began with, and goes on with whatever `tune` says.
    """

    backend: Backend
    device: str
    precision: str
    architecture: Architecture
    dataset: Dataset
    recipe: Recipe
    fixed: Mapping[str, str] = field(default_factory=dict)
    tune: str = "off"
    recorded: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.recipe.final_relu:
            object.__setattr__(self, "architecture", self.architecture.without_last_relu())

    def title(self) -> str:
        """What is trained on what, for headers and pictures."""
        return f"{self.architecture.name} on {self.dataset.title}, {self.backend.name}"

    def check(self) -> None:
        """What can be known before a directory is made. Raises DataError, SpecError, BackendUnavailable."""
        loop.check_classes(self.architecture, self.dataset)
        if not self.architecture.parameters:
            raise SpecError(f"architecture {self.architecture.name!r} has no parameters: there is nothing to train")
        check_request(self.backend, self.device, self.precision)
        self.case.complete()

    def with_default_dropout(self) -> Job:
        """Where the images stay on a GPU, drawing masks on the host would take longer than the steps: then "native"."""
        stays = self.device != "cpu" and self.case.complete().get("data") == "resident"
        return replace(self, recipe=replace(self.recipe, dropout="native" if stays else "shared"))

    @property
    def case(self) -> Case:
        """What the choice of how to compute the net is made for."""
        place = self.device, self.precision
        return Case(self.backend, self.architecture, *place, self.recipe.batch_size, self.fixed)

    def choice(self, report: Callable[[str], None]) -> Choice:
        """How the net is computed, as far as that is known before anything is measured."""
        if self.recorded is None:
            return tuning.chosen(self.case, self.tune, report)
        known = tuning.offered(self.case, self.recorded)
        if gone := sorted(self.recorded.keys() - known.keys()):
            report(f"tuning: {self.backend.name} has no {', '.join(gone)} of that kind any more; roundings may differ")
        return tuning.choice_of(self.case, known, "run")

    def build(self, params: Params, step: int, choice: Choice | None = None) -> Network:
        """The net; a framework's own draws begin by the seed and the step, so that equal runs are equal."""
        seed = (self.recipe.seed + step) % 2**31 if self.recipe.dropout == "native" else None
        place = {"device": self.device, "precision": self.precision}
        return self.backend.build(
            self.architecture, params, **place, seed=seed, tuning=choice.tuning if choice else None
        )

    def stored_facts(self, step: int) -> dict[str, Any]:
        """What weights and checkpoints say of themselves. Nothing in it may depend on time or place."""
        return {
            "backend": self.backend.name,
            "dataset": self.dataset.name,
            "data_sha256": self.data_sha256,
            "recipe": self.recipe.as_dict(),
            "seed": self.recipe.seed,
            "step": step,
        }

    @cached_property
    def data_sha256(self) -> dict[str, str]:
        """The identity of the images and labels."""
        return self.dataset.identity()


def train(job: Job, directory: RunDirectory, display: Display) -> dict[str, Any]:
    """Train from the beginning, write the run directory, and return the result: the fields of `train --json`.

    `status` is "done", "interrupted" (then also `signal`) or "diverged" (then also `reason`).

    Raises DataError where labels and classes do not fit, BackendUnavailable, UnsupportedLayer, RunError.
    """
    job.check()
    try:
        params = randomness.initial_parameters(job.architecture, job.recipe.seed, job.recipe.init)
        progress = loop.start(job.dataset, job.recipe)
        network, choice = _prepare(job, params, {}, progress, directory, display)
        directory.begin(_facts(job, choice))
    except BaseException:
        directory.abandon()  # an empty directory would only puzzle
        raise
    return _run(job, network, choice, directory, progress, display)


def resume(job: Job, directory: RunDirectory, display: Display) -> dict[str, Any]:
    """Go on from a run's last checkpoint, with whatever backend the job has; else as `train`.

    Raises CheckpointError where it is not this run's, RunError where there is none, or nothing left to do.
    """
    job.check()
    checkpoint = _last_checkpoint(job, directory)
    progress = loop.start(job.dataset, job.recipe)
    checkpoint.put_into(progress)
    if progress.evaluated >= job.recipe.epochs:
        raise RunError(f"{directory.path}: all of its {progress.evaluated} epochs are done; --epochs N trains on")
    before = directory.facts()
    network, choice = _prepare(job, checkpoint.params, checkpoint.velocities, progress, directory, display)
    facts = _resumed_facts(job, choice, before, progress.step)
    # Only now, when nothing is left that could go wrong, is anything of the old run changed.
    directory.forget_events_after(progress.step, progress.evaluated)
    directory.begin(facts)
    return _run(job, network, choice, directory, progress, display)


def _last_checkpoint(job: Job, directory: RunDirectory) -> Checkpoint:
    found = directory.checkpoints()
    if not found:
        raise RunError(f"{directory.path}: it has no checkpoint to go on from; train again from the beginning")
    try:
        return _load(job, found[-1])
    except CheckpointError as error:
        if len(found) > 1 and len(str(error).splitlines()) == 1 and _is_good(job, found[-2]):
            raise CheckpointError(f"{error}\nRemove it to go on from the one before it, {found[-2].name}.") from None
        raise


def _load(job: Job, path: Path) -> Checkpoint:
    return load_checkpoint(path, job.architecture, job.recipe, job.data_sha256)


def _is_good(job: Job, path: Path) -> bool:
    try:
        _load(job, path)
    except CheckpointError:
        return False
    return True


def _prepare(
    job: Job, params: Params, velocities: Params, progress: Progress, directory: RunDirectory, display: Display
) -> tuple[Network, Choice]:
    """The net in its starting state and how it is computed, after it was measured and the header shown."""
    network, choice, speed = _choose(job, params, progress, display)
    for line in _header(job, choice, speed, progress, directory):
        display.note(line)
    # Measuring has used up some of its draws; on resident images it gives them back.
    if job.recipe.dropout == "native" and loop.settle(network, job.architecture, job.dataset) is None:
        network = job.build(params, progress.step, choice)
    network.restore(params, velocities)
    return network, choice


def _choose(job: Job, params: Params, progress: Progress, display: Display) -> tuple[Network, Choice, float]:
    """The net, how it is computed (measured first where that was asked for, or pays), its images per second."""
    choice = job.choice(display.note)
    is_open = job.recorded is None and tuning.is_there_a_choice(job.case)
    if is_open and job.tune == "now":
        choice = tuning.find(job.case, tuning.AT_LEISURE, display.note, told=display.note)
    network, speed = _measured(job, params, progress, choice)
    if is_open and job.tune == "auto" and "stored" not in choice.origins.values():
        seconds = tuning.time_to_measure(_seconds_left(job, speed, progress))
        if seconds:
            del network  # measuring holds two
            display.note(f"tuning: trying how this net is computed fastest here, for at most {seconds:.0f} s")
            choice = tuning.find(job.case, seconds, display.note)
            network, speed = _measured(job, params, progress, choice)
    return network, choice, speed


def _measured(job: Job, params: Params, progress: Progress, choice: Choice) -> tuple[Network, float]:
    """The net, and how many images per second it trains on."""
    network = job.build(params, progress.step, choice)
    if residents := loop.settle(network, job.architecture, job.dataset):
        return network, loop.rehearse(residents, job.architecture, job.dataset, job.recipe)
    batches = loop.batches_of(job.dataset, job.architecture, job.recipe, epoch=0)
    return network, loop.measure(network, batches, job.recipe.momentum)


def _seconds_left(job: Job, speed: float, progress: Progress) -> float:
    train, test = len(job.dataset.train.labels), len(job.dataset.test.labels)
    return seconds_needed(speed, train, test, job.recipe) * (1 - progress.step / progress.steps)


def _run(
    job: Job, network: Network, choice: Choice, directory: RunDirectory, progress: Progress, display: Display
) -> dict[str, Any]:
    """From where `progress` stands to the end, or to a signal."""
    status: dict[str, Any] = {"status": "done"}

    def save() -> None:
        save_checkpoint(directory, network, job.architecture, progress, job.stored_facts(progress.step))

    with display, _signals() as caught:
        try:
            watcher = _watcher(directory, display, caught, save)
            loop.fit(network, job.architecture, job.dataset, job.recipe, progress, watcher)
        except NotFinite as error:
            status = {"status": "diverged", "reason": f"{error}; a smaller --lr may help"}
        # A state that is no number is nothing to go on from, and a run that has come to its end was not interrupted.
        if caught and status["status"] == "done" and progress.evaluated < job.recipe.epochs:
            status = {"status": "interrupted", "signal": caught[0]}
            save()
    return _finish(job, network, choice, directory, progress, status)


def _facts(job: Job, choice: Choice) -> dict[str, Any]:
    """run.json: everything needed to repeat the run."""
    environment = job.backend.environment(job.precision, choice.tuning)
    return {
        "format": 1,
        "backend": job.backend.name,
        "device": job.device,
        "precision": job.precision,
        "tuning": choice.tuning,
        "tuning_from": choice.origins,
        "recipe": job.recipe.as_dict(),
        "architecture": job.architecture.model_dump(mode="json"),
        "dataset": {
            "name": job.dataset.name,
            "title": job.dataset.title,
            "synthetic": job.dataset.synthetic,
            "train_examples": len(job.dataset.train.labels),
            "test_examples": len(job.dataset.test.labels),
            "sha256": job.data_sha256,
        },
        "versions": machine.versions(job.backend.name, job.backend.version()),
        "machine": machine.describe(),
        "environment": machine.chosen_environment(environment),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _resumed_facts(job: Job, choice: Choice, before: dict[str, Any], step: int) -> dict[str, Any]:
    """run.json of a run that goes on: as it began, with a line for each time it was taken up."""
    now = _facts(job, choice)
    taken_up = {"step": step, **{key: now[key] for key in _CHANGING}}
    return {**before, "recipe": now["recipe"], "resumed": [*before.get("resumed", []), taken_up]}


_CHANGING = (
    *("backend", "device", "precision", "tuning", "tuning_from"),
    *("versions", "machine", "environment", "started"),
)


def _header(job: Job, choice: Choice, speed: float, progress: Progress, directory: RunDirectory) -> list[str]:
    """What the run will do, and how long it will take by the speed that was measured."""
    architecture, recipe, data = job.architecture, job.recipe, job.dataset
    train, test = len(data.train.labels), len(data.test.labels)
    _, height, width = architecture.input
    seconds = _seconds_left(job, speed, progress)
    has_bf16 = job.device != "cpu" or machine.has_bf16_products()
    choices = faster_choices(architecture, recipe, seconds, train)
    if choices and job.precision == "fp32" and "bf16" in job.backend.precisions and has_bf16:
        choices.append("--precision bf16")
    if job.precision == "bf16" and not has_bf16:
        choices.append("--precision fp32: this processor has no bf16 products and emulates them")
    begun = f", from step {progress.step:,}" if progress.step else ""
    return [
        f"{architecture.name} on {job.backend.name} {job.backend.version()} ({job.device}, {job.precision}, "
        f"{cores()} cores): {architecture.parameters:,} parameters, "
        f"{architecture.multiply_adds:,} multiply-adds",
        f"{data.title}: {train:,} training and {test:,} test images at {height} x {width} ({data.source})",
        f"{_count(recipe.epochs, 'epoch')} of {_count(progress.steps_per_epoch, 'step')}, batch {recipe.batch_size}, "
        f"{_choices(recipe)}, seed {recipe.seed}{begun}; run directory {directory.path}",
        *([f"tuning: {told}"] if (told := choice.show()) else []),
        f"measured {speed:.1f} images/s: this will take about {duration(seconds)}"
        + ("".join(f"\n  faster: {choice}" for choice in choices)),
    ]


def _choices(recipe: Recipe) -> str:
    """The learning rate, and what is not the chapter's."""
    words = [f"learning rate {recipe.lr:g}"]
    words += [f"momentum {recipe.momentum:g}"] if recipe.momentum else []
    words += ["He initialisation"] if recipe.init == "he" else []
    words += [f"warm-up over {_count(recipe.warm_up, 'step')}"] if recipe.warm_up else []
    words += [f"{recipe.decay} decay"] if recipe.decay != "none" else []
    words += ["no ReLU before the logits"] if not recipe.final_relu else []
    words += ["the framework's own dropout"] if recipe.dropout == "native" else []
    return ", ".join(words)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _watcher(directory: RunDirectory, display: Display, caught: list[int], save: Callable[[], None]) -> Watcher:
    def step(progress: Progress) -> None:
        display.step(progress)
        if progress.is_point():
            directory.append(_step_event(progress))

    def epoch(progress: Progress) -> None:
        display.epoch(progress)
        directory.append(_epoch_event(progress))
        save()

    return Watcher(step, epoch, lambda: bool(caught))


def _step_event(progress: Progress) -> dict[str, Any]:
    totals = progress.epoch_totals
    return {
        "event": "step",
        "step": progress.step,
        "progress": progress.step / progress.steps_per_epoch,
        "loss": _number(totals.mean_loss()),
        "train_acc": _number(totals.accuracy()),
        "examples_per_sec": totals.examples_per_sec(),
        "compute_examples_per_sec": totals.compute_examples_per_sec(),
        "seconds": progress.run_totals.seconds,
    }


def _epoch_event(progress: Progress) -> dict[str, Any]:
    ended = {"event": "epoch", "epoch": progress.epoch}
    tested = {"test_loss": _number(progress.test_loss), "test_acc": _number(progress.test_acc)}
    return {**_step_event(progress), **ended, **tested}


def _finish(
    job: Job,
    network: Network,
    choice: Choice,
    directory: RunDirectory,
    progress: Progress,
    status: dict[str, Any],
) -> dict[str, Any]:
    """Weights, curve and result.json; the result."""
    run = progress.run_totals
    save_weights(directory.path / WEIGHTS, network.params(), job.architecture, **job.stored_facts(progress.step))
    write_bytes(directory.path / CURVE, draw_curve(directory.events(), job.recipe.epochs, job.title()))
    result = {
        "backend": job.backend.name,
        "framework_version": job.backend.version(),
        "device": job.device,
        "precision": job.precision,
        "tuning": choice.tuning,
        "arch": job.architecture.name,
        "dataset": job.dataset.name,
        "synthetic": job.dataset.synthetic,
        "train_examples": len(job.dataset.train.labels),
        "test_examples": len(job.dataset.test.labels),
        "epochs": job.recipe.epochs,
        "steps": progress.step,
        "batch_size": job.recipe.batch_size,
        "lr": job.recipe.lr,
        "momentum": job.recipe.momentum,
        "init": job.recipe.init,
        "warm_up": job.recipe.warm_up,
        "decay": job.recipe.decay,
        "final_relu": job.recipe.final_relu,
        "dropout": job.recipe.dropout,
        "seed": job.recipe.seed,
        "loss": _number(progress.epoch_totals.mean_loss()),
        "train_acc": _number(progress.epoch_totals.accuracy()),
        "test_loss": _number(progress.test_loss),
        "test_acc": _number(progress.test_acc),
        "examples_per_sec": run.examples_per_sec(),
        "compute_examples_per_sec": run.compute_examples_per_sec(),
        "peak_memory_bytes": machine.peak_memory_bytes(),
        "run_dir": str(directory.path),
        **status,
    }
    directory.finish(result)
    return result


def _number(value: float) -> float | None:
    """JSON has no nan and no infinity."""
    return value if math.isfinite(value) else None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM, so that the step can end; the second one leaves at once."""
    caught: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        caught.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before: dict[int, Any] = {}
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, handle)
    except ValueError:  # not the main thread, a notebook's or a server's: signals are the owner's business
        before = {}
    try:
        yield caught
    finally:
        restore()
