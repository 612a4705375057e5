"""What a run writes down of itself: run.json, events, result.json; plain JSON values, no files."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from nin_multi import machine
from nin_multi.training.job import Job
from nin_multi.training.preparation import Prepared
from nin_multi.training.progress import Progress
from nin_multi.training.run_directory import RunDirectory
from nin_multi.tuning import Choice


def run_facts(job: Job, choice: Choice) -> dict[str, Any]:
    """run.json: everything needed to repeat the run."""
    environment = job.backend.environment(job.precision, choice.tuning)
    return {
        "format": 1,
        "backend": job.backend.name,
        "device": job.device,
        "precision": job.precision,
        "workers": job.group.size,
        "tuning": choice.tuning,
        "tuning_from": choice.origins,
        "recipe": job.recipe.as_dict(),
        "checkpoint_every": job.cadence.show(),
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


def resumed_facts(job: Job, choice: Choice, before: dict[str, Any], step: int) -> dict[str, Any]:
    """run.json of a run that goes on: as it began, with a line for each time it was taken up."""
    now = run_facts(job, choice)
    taken_up = {"step": step, **{key: now[key] for key in _CHANGING}}
    kept = {**before, **{key: now[key] for key in ("recipe", "checkpoint_every")}}
    return {**kept, "resumed": [*before.get("resumed", []), taken_up]}


_CHANGING = (
    *("backend", "device", "precision", "workers", "tuning", "tuning_from"),
    *("versions", "machine", "environment", "started"),
)


def step_event(progress: Progress) -> dict[str, Any]:
    """A point of the curve; its sums are over the training images since the epoch began."""
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
        "dead_classes": totals.counts().dead() if totals.nonzero else None,
        "never_predicted": totals.counts().never_predicted() if totals.predicted else None,
    }


def epoch_event(progress: Progress) -> dict[str, Any]:
    """The end of an epoch, with what was seen on the test images."""
    ended = {"event": "epoch", "epoch": progress.epoch}
    tested = {"test_loss": _number(progress.test_loss), "test_acc": _number(progress.test_acc)}
    counts = progress.test_counts
    lost = {
        "test_dead_classes": counts and counts.dead(),
        "test_never_predicted": counts and counts.never_predicted(),
    }
    return {**step_event(progress), **ended, **tested, **lost, "confusion": progress.test_confusion}


def layers_event(progress: Progress, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the layers gave for some test images, before the first epoch or after so many as are `evaluated`."""
    return {
        "event": "layers",
        "step": progress.step,
        "progress": progress.step / progress.steps_per_epoch,
        "evaluated": progress.evaluated,
        "layers": layers,
    }


def result_of(
    job: Job,
    prepared: Prepared,
    directory: RunDirectory,
    progress: Progress,
    peak_memory: int | None,
    status: Mapping[str, Any],
) -> dict[str, Any]:
    """result.json, and what `train --json` prints; what is said of classes was seen on the test images.

    Of the start and of memory it tells what this process needed, or of memory all workers together; it may have gone on
    with another's run.
    """
    run, counts = progress.run_totals, progress.test_counts
    return {
        "backend": job.backend.name,
        "framework_version": job.backend.version(),
        "device": job.device,
        "precision": job.precision,
        "workers": job.group.size,
        "tuning": prepared.choice.tuning,
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
        "dropout_rate": job.recipe.dropout_rate,
        "dropout": job.recipe.dropout,
        "seed": job.recipe.seed,
        "loss": _number(progress.epoch_totals.mean_loss()),
        "train_acc": _number(progress.epoch_totals.accuracy()),
        "test_loss": _number(progress.test_loss),
        "test_acc": _number(progress.test_acc),
        "dead_classes": counts and counts.dead(),
        "never_predicted": counts and counts.never_predicted(),
        "confusion": progress.test_confusion,
        "examples_per_sec": run.examples_per_sec(),
        "compute_examples_per_sec": run.compute_examples_per_sec(),
        "startup_seconds": prepared.startup_seconds,
        "first_step_seconds": prepared.pace.first_step_seconds,
        "peak_memory_bytes": peak_memory,
        "run_dir": str(directory.path),
        **status,
    }


def _number(value: float) -> float | None:
    """JSON has no nan and no infinity."""
    return value if math.isfinite(value) else None
