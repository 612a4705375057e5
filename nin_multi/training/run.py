"""One training run from beginning to end: net, run directory, loop, result; the pieces are defined elsewhere."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from nin_multi import machine, randomness
from nin_multi.backend import Backend, Network, check_request, cores
from nin_multi.data.batches import training_batches
from nin_multi.data.dataset import Dataset
from nin_multi.errors import DataError, SpecError
from nin_multi.files import write_bytes
from nin_multi.spec import Architecture
from nin_multi.training import loop
from nin_multi.training.curve import draw_curve
from nin_multi.training.display import Display
from nin_multi.training.estimate import duration, faster_choices, seconds_needed
from nin_multi.training.loop import NotFinite, Progress, Watcher
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import CURVE, WEIGHTS, RunDirectory
from nin_multi.weights import save_weights


@dataclass(frozen=True)
class Job:
    """Everything one run is made of."""

    backend: Backend
    device: str
    precision: str
    architecture: Architecture
    dataset: Dataset
    recipe: Recipe

    def title(self) -> str:
        """What is trained on what, for headers and pictures."""
        return f"{self.architecture.name} on {self.dataset.title}, {self.backend.name}"

    def check(self) -> None:
        """What can be known before a directory is made. Raises DataError, SpecError, BackendUnavailable."""
        classes, labels = self.architecture.classes, len(self.dataset.classes)
        if classes < labels:
            raise DataError(
                f"{self.dataset.title} has {labels} classes, architecture {self.architecture.name!r} ends with "
                f"{classes}; expected at least {labels}"
            )
        if not self.architecture.parameters:
            raise SpecError(f"architecture {self.architecture.name!r} has no parameters: there is nothing to train")
        check_request(self.backend, self.device, self.precision)


def train(job: Job, directory: RunDirectory, display: Display) -> dict[str, Any]:
    """Train, write the run directory, and return the result: the fields of `train --json`.

    `status` is "done", "interrupted" (then also `signal`) or "diverged" (then also `reason`).

    Raises DataError where labels and classes do not fit, BackendUnavailable, UnsupportedLayer, RunError.
    """
    job.check()
    try:
        params = randomness.initial_parameters(job.architecture, job.recipe.seed)
        network = job.backend.build(job.architecture, params, device=job.device, precision=job.precision)
        for line in _header(job, network, directory):
            display.note(line)
        directory.begin(_facts(job))
    except BaseException:
        directory.abandon()  # an empty directory would only puzzle
        raise
    status: dict[str, Any] = {"status": "done"}
    progress = loop.start(job.dataset, job.recipe)
    with display, _signals() as caught:
        try:
            watcher = _watcher(directory, display, caught)
            loop.fit(network, job.architecture, job.dataset, job.recipe, progress, watcher)
        except NotFinite as error:
            status = {"status": "diverged", "reason": f"{error}; a smaller --lr may help"}
        if caught:
            status = {"status": "interrupted", "signal": caught[0]}
    return _finish(job, network, directory, progress, status)


def _facts(job: Job) -> dict[str, Any]:
    """run.json: everything needed to repeat the run."""
    environment = job.backend.environment()
    return {
        "format": 1,
        "backend": job.backend.name,
        "device": job.device,
        "precision": job.precision,
        "recipe": job.recipe.as_dict(),
        "architecture": job.architecture.model_dump(mode="json"),
        "dataset": {
            "name": job.dataset.name,
            "title": job.dataset.title,
            "synthetic": job.dataset.synthetic,
            "train_examples": len(job.dataset.train.labels),
            "test_examples": len(job.dataset.test.labels),
            "sha256": job.dataset.identity(),
        },
        "versions": machine.versions(job.backend.name, job.backend.version()),
        "machine": machine.describe(),
        "environment": machine.chosen_environment(environment),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _header(job: Job, network: Network, directory: RunDirectory) -> list[str]:
    """What the run will do, and how long it will take, by a few measured steps."""
    architecture, recipe, data = job.architecture, job.recipe, job.dataset
    train, test = len(data.train.labels), len(data.test.labels)
    _, height, width = architecture.input
    progress = loop.start(data, recipe)
    batches = training_batches(data.train, architecture, recipe.batch_size, seed=recipe.seed, epoch=0)
    speed = loop.measure(network, batches)
    seconds = seconds_needed(speed, train, test, recipe)
    has_bf16 = job.device != "cpu" or machine.has_bf16_products()
    choices = faster_choices(architecture, recipe, seconds, train)
    if choices and job.precision == "fp32" and "bf16" in job.backend.precisions and has_bf16:
        choices.append("--precision bf16")
    if job.precision == "bf16" and not has_bf16:
        choices.append("--precision fp32: this processor has no bf16 products and emulates them")
    return [
        f"{architecture.name} on {job.backend.name} {job.backend.version()} ({job.device}, {job.precision}, "
        f"{cores()} cores): {architecture.parameters:,} parameters, "
        f"{architecture.multiply_adds:,} multiply-adds",
        f"{data.title}: {train:,} training and {test:,} test images at {height} x {width} ({data.source})",
        f"{_count(recipe.epochs, 'epoch')} of {_count(progress.steps_per_epoch, 'step')}, batch {recipe.batch_size}, "
        f"learning rate {recipe.lr:g}, seed {recipe.seed}; run directory {directory.path}",
        f"measured {speed:.1f} images/s: this will take about {duration(seconds)}"
        + ("".join(f"\n  faster: {choice}" for choice in choices)),
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _watcher(directory: RunDirectory, display: Display, caught: list[int]) -> Watcher:
    def step(progress: Progress) -> None:
        display.step(progress)
        if progress.is_point():
            directory.append(_step_event(progress))

    def epoch(progress: Progress) -> None:
        display.epoch(progress)
        directory.append(_epoch_event(progress))

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
    job: Job, network: Network, directory: RunDirectory, progress: Progress, status: dict[str, Any]
) -> dict[str, Any]:
    """Weights, curve and result.json; the result."""
    run = progress.run_totals
    # Nothing here may depend on time or place: equal runs give equal files.
    facts = {
        "backend": job.backend.name,
        "dataset": job.dataset.name,
        "step": progress.step,
        "seed": job.recipe.seed,
    }
    save_weights(directory.path / WEIGHTS, network.params(), job.architecture, **facts)
    write_bytes(directory.path / CURVE, draw_curve(directory.events(), job.recipe.epochs, job.title()))
    result = {
        "backend": job.backend.name,
        "framework_version": job.backend.version(),
        "device": job.device,
        "precision": job.precision,
        "arch": job.architecture.name,
        "dataset": job.dataset.name,
        "synthetic": job.dataset.synthetic,
        "train_examples": len(job.dataset.train.labels),
        "test_examples": len(job.dataset.test.labels),
        "epochs": job.recipe.epochs,
        "steps": progress.step,
        "batch_size": job.recipe.batch_size,
        "lr": job.recipe.lr,
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
