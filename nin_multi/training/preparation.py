"""From a job to a net that is ready to train: how it is computed, how fast it is, what the user is told of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from nin_multi import heartbeat, machine, tuning
from nin_multi.backend import Network, Params, cores
from nin_multi.memory import Room, check, explained
from nin_multi.training import loop
from nin_multi.training.display import Display
from nin_multi.training.estimate import duration, faster_choices, seconds_needed
from nin_multi.training.job import Job
from nin_multi.training.progress import Pace, Progress
from nin_multi.training.recipe import Recipe
from nin_multi.training.residents import rehearse, settle
from nin_multi.training.run_directory import RunDirectory
from nin_multi.tuning import Choice


@dataclass(frozen=True)
class Prepared:
    """The net in its starting state, how it is computed, and what this process needed to come so far.

    `startup_seconds`: from the process's start to when its first step could begin, None where the system does not say.
    """

    network: Network
    choice: Choice
    pace: Pace
    startup_seconds: float | None


def prepare(
    job: Job,
    params: Params,
    velocities: Params,
    progress: Progress,
    directory: RunDirectory,
    display: Display,
    room: Room,
) -> Prepared:
    """All that a run begins with, after it was measured and the header shown."""
    heartbeat.beat(heartbeat.MEASURING, run_dir=directory.path)
    demand = job.demand()
    if warning := check(demand, room, allow_large=job.allow_large):
        display.note(warning)
    with explained(job.backend, demand, room, lambda: "before its first step"):
        found = _choose(job, params, progress, display)
        for line in header(job, found.choice, found.pace.examples_per_sec, progress, directory):
            display.note(line)
        # Measuring has used up some of its draws; on resident images it gives them back.
        if job.recipe.dropout == "native" and settle(found.network, job.architecture, job.dataset) is None:
            found = replace(found, network=job.build(params, progress.step, found.choice))
        found.network.restore(params, velocities)
    return found


def _choose(job: Job, params: Params, progress: Progress, display: Display) -> Prepared:
    """The net, and how it is computed: measured first where that was asked for, or pays.

    Of its start is told what its first net needed; trying out how to compute it is no part of that.
    """
    age = machine.process_age_seconds()
    choice = job.choice(display.note)
    is_open = job.recorded is None and tuning.is_there_a_choice(job.case)
    if is_open and job.tune == "now":
        choice = tuning.find(job.case, tuning.AT_LEISURE, display.note, told=display.note)
    network, pace, building = _measured(job, params, progress, choice)
    first = pace.first_step_seconds
    if is_open and job.tune == "auto" and "stored" not in choice.origins.values():
        seconds = tuning.time_to_measure(seconds_left(job, pace.examples_per_sec, progress))
        if seconds:
            del network  # measuring holds two
            display.note(f"tuning: trying how this net is computed fastest here, for at most {seconds:.0f} s")
            choice = tuning.find(job.case, seconds, display.note)
            network, pace, _ = _measured(job, params, progress, choice)
    return Prepared(network, choice, replace(pace, first_step_seconds=first), None if age is None else age + building)


def _measured(job: Job, params: Params, progress: Progress, choice: Choice) -> tuple[Network, Pace, float]:
    """The net, its pace, and how many seconds it took to be built and to get its images."""
    began = time.perf_counter()
    network = job.build(params, progress.step, choice)
    residents = settle(network, job.architecture, job.dataset)
    building = time.perf_counter() - began
    if residents:
        return network, rehearse(residents, job.architecture, job.dataset, job.recipe), building
    batches = loop.batches_of(job.dataset, job.architecture, job.recipe, epoch=0)
    if job.group.size > 1:  # all of them make as many steps, whatever their clocks say
        return network, loop.measure(network, batches, job.recipe.momentum, math.inf, most=2), building
    return network, loop.measure(network, batches, job.recipe.momentum), building


def seconds_left(job: Job, speed: float, progress: Progress) -> float:
    """How long the rest will take at so many images per second."""
    train, test = len(job.dataset.train.labels), len(job.dataset.test.labels)
    return seconds_needed(speed, train, test, job.recipe) * (1 - progress.step / progress.steps)


def header(job: Job, choice: Choice, speed: float, progress: Progress, directory: RunDirectory) -> list[str]:
    """What the run will do, and how long it will take by the speed that was measured."""
    architecture, recipe, data = job.architecture, job.recipe, job.dataset
    train, test = len(data.train.labels), len(data.test.labels)
    _, height, width = architecture.input
    seconds = seconds_left(job, speed, progress)
    has_bf16 = job.device != "cpu" or machine.has_any(job.backend.bf16_sets)
    choices = faster_choices(architecture, recipe, seconds, train)
    if choices and job.precision == "fp32" and "bf16" in job.backend.precisions and has_bf16:
        choices.append("--precision bf16")
    remarks = [f"  faster: {choice}" for choice in choices]
    if job.precision == "bf16" and not has_bf16:
        remarks.append(f"  {machine.slow_bf16(job.backend.bf16_sets)}")
    workers = f" for each of {job.group.size} workers" if job.group.size > 1 else ""
    begun = f", from step {progress.step:,}" if progress.step else ""
    return [
        f"{architecture.name} on {job.backend.name} {job.backend.version()} ({job.device}, {job.precision}, "
        f"{cores()} cores{workers}): {architecture.parameters:,} parameters, "
        f"{architecture.multiply_adds:,} multiply-adds",
        f"{data.title}: {train:,} training and {test:,} test images at {height} x {width} ({data.source})",
        f"{_count(recipe.epochs, 'epoch')} of {_count(progress.steps_per_epoch, 'step')}, batch {recipe.batch_size}, "
        f"{_choices(recipe)}, seed {recipe.seed}{begun}; run directory {directory.path}",
        *([f"tuning: {told}"] if (told := choice.show()) else []),
        f"measured {speed:.1f} images/s: this will take about {duration(seconds)}",
        *remarks,
    ]


def _choices(recipe: Recipe) -> str:
    """The learning rate, and what is not the chapter's."""
    words = [f"learning rate {recipe.lr:g}"]
    words += [f"momentum {recipe.momentum:g}"] if recipe.momentum else []
    words += ["He initialisation"] if recipe.init == "he" else []
    words += [f"warm-up over {_count(recipe.warm_up, 'step')}"] if recipe.warm_up else []
    words += [f"{recipe.decay} decay"] if recipe.decay != "none" else []
    words += ["no ReLU before the logits"] if not recipe.final_relu else []
    words += [f"dropout {recipe.dropout_rate:g}"] if recipe.dropout_rate is not None else []
    words += ["the framework's own dropout"] if recipe.dropout == "native" else []
    return ", ".join(words)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
