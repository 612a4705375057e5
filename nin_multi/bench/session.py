"""One session: workers are started, asked in turn, round after round, and their answers become rows; no timing here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nin_multi import backend, machine
from nin_multi.bench import BOOK, DATA, figures
from nin_multi.bench.job import Job
from nin_multi.bench.workers import Worker
from nin_multi.oracle import matrix_product

Report = Callable[[str], None]

PRODUCTS = 3  # of a round
REPEATS = 5  # of a layer
# Matrices for the peak: large enough for it, and no pause for the others.
SIZE_CPU, SIZE_GPU = 2048, 8192


@dataclass(frozen=True)
class Plan:
    """How long to measure. `warm_up`: steps before the first round; None: as many as each framework needs."""

    steps: int = 3
    rounds: int = 5
    warm_up: int | None = None
    per_layer: bool = False
    product_size: int | None = None  # None: as the device needs


@dataclass
class _Series:
    """What one worker has answered for one thing in the rounds that count."""

    speeds: list[float] = field(default_factory=list)
    says: list[float] = field(default_factory=list)
    memory: int = 0
    images: int = 0


def measure(jobs: Sequence[Job], plan: Plan, report: Report) -> dict[str, Any]:
    """All jobs, alternating within each round; the first round is thrown away. JSON as documented.

    Raises the error of the first worker that fails; all others are ended then.
    """
    with ExitStack() as stack:
        workers = []
        for job in jobs:
            report(f"starting {job.backend} ({', '.join(job.whats)})")
            workers.append(stack.enter_context(Worker(job)))
        session = _Session(workers, plan, report)
        session.warm_up()
        for number in range(plan.rounds + 1):
            session.round(number)
        layers = session.layers() if plan.per_layer else []
    return session.found(layers)


class _Session:
    """Workers that are ready, and what they have answered so far."""

    def __init__(self, workers: Sequence[Worker], plan: Plan, report: Report) -> None:
        self.workers, self.plan, self.report = workers, plan, report
        self.series = {(index, what): _Series() for index, worker in enumerate(workers) for what in worker.job.whats}
        self.products: dict[tuple[int, str, str], list[float]] = {}  # by worker, who, precision: GFLOP/s of each round

    def warm_up(self) -> None:
        """Steps that do not count. The harness's are those of "step": it is the same network."""
        for worker in self.workers:
            if not set(worker.job.whats) & set(_WARM):
                continue
            steps = worker.facts["warm_up_steps"] if self.plan.warm_up is None else self.plan.warm_up
            self.report(f"warming up {worker.name}: {steps} steps")
            for what in dict.fromkeys(_WARM[what] for what in worker.job.whats if what in _WARM):
                if steps:
                    worker.ask({"ask": what, "steps": steps})
            if steps:
                worker.ask({"ask": "product", "size": self._size(worker), "times": steps})

    def round(self, number: int) -> None:
        """Everything once, one after another; round 0 does not count."""
        counts = number > 0
        self._numpy_product(counts)
        for index, worker in enumerate(self.workers):
            told = []
            # Another one begins each round: a process that has waited is slow at first.
            turn = number % len(worker.job.whats)
            for what in (*worker.job.whats[turn:], *worker.job.whats[:turn]):
                found = worker.ask({"ask": what, "steps": self.plan.steps})
                speed = found["images"] / found["seconds"]
                told.append(f"{what} {speed:.1f}")
                if counts:
                    self._keep(self.series[index, what], speed, found)
            if _trains(worker):
                self._product(index, worker, counts)
            self.report(f"round {number} of {self.plan.rounds}: {worker.name}: {', '.join(told)} images/s")

    def layers(self) -> list[dict[str, Any]]:
        """Every layer, by the first worker of each backend and precision that trains our networks."""
        peaks, found = self._peaks(), []
        first: dict[tuple[str, str], Worker] = {}
        for worker in filter(_trains, self.workers):
            first.setdefault((worker.job.backend, worker.job.precision), worker)
        for worker in first.values():
            self.report(f"{worker.name}: layer by layer")
            times = worker.ask({"ask": "layers", "repeats": REPEATS})["layers"]
            job = worker.job
            named = {key: getattr(job, key) for key in ("backend", "precision", "batch_size")}
            rows = figures.layer_rows(job.architecture, job.batch_size, times, peaks.get(job.precision))
            found += [{**named, "arch": job.architecture.name, **row} for row in rows]
        return found

    def found(self, layers: list[dict[str, Any]]) -> dict[str, Any]:
        """The session as JSON."""
        rows = [self._row(self.workers[index], what, series) for (index, what), series in self.series.items()]
        peaks, flop = self._peaks(), figures.training_flop(self.workers[0].job.architecture)
        figures.add_shares(rows, peaks, flop)
        versions = {name: text for worker in self.workers for name, text in worker.facts["versions"].items()}
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": {**machine.describe(), "threads": backend.cores(), "matmul_gflops": peaks},
            "products": [
                {"by": who, "precision": precision, "gflops": statistics.median(reached)}
                for (_, who, precision), reached in self.products.items()
            ],
            "versions": versions,
            "training_flop_per_image": flop,
            "steps": self.plan.steps,
            "rows": rows,
            "layers": layers,
        }

    def _keep(self, series: _Series, speed: float, found: dict[str, Any]) -> None:
        series.speeds.append(speed)
        series.memory, series.images = max(series.memory, found["peak_memory_bytes"]), found["images"]
        if found.get("book_says") is not None:
            series.says.append(found["book_says"])

    def _row(self, worker: Worker, what: str, series: _Series) -> dict[str, Any]:
        job, facts = worker.job, worker.facts
        said = {"book_says": statistics.median(series.says)} if series.says else {}
        return {
            "backend": job.backend,
            "framework_version": facts["framework_version"],
            "precision": job.precision,
            "device": facts["device"],
            "arch": job.architecture.name,
            "batch_size": min(job.batch_size, series.images),
            "images_per_round": series.images,
            "what": what,
            "examples_per_sec": statistics.median(series.speeds),
            "spread": figures.spread(series.speeds),
            "rounds": series.speeds,
            "tuning": facts["tuning"],
            "environment": facts["environment"],
            "framework_facts": facts["framework_facts"],
            "peak_memory_bytes": series.memory,
            **said,
        }

    def _size(self, worker: Worker) -> int:
        return self.plan.product_size or (SIZE_CPU if worker.facts["device"] == "cpu" else SIZE_GPU)

    def _product(self, index: int, worker: Worker, counts: bool) -> None:
        size = self._size(worker)
        seconds = worker.ask({"ask": "product", "size": size, "times": PRODUCTS})["seconds"]
        if counts:
            key = (index, worker.job.backend, worker.job.precision)
            self.products.setdefault(key, []).append(figures.gflops(size, seconds))

    def _numpy_product(self, counts: bool) -> None:
        """NumPy's own product in float32, in this process: what the machine can do without any framework."""
        size = self.plan.product_size or SIZE_CPU
        multiply = matrix_product(size, np.dtype(np.float32))
        seconds = [multiply() for _ in range(PRODUCTS)]
        if counts:
            self.products.setdefault((-1, "numpy", "fp32"), []).append(figures.gflops(size, seconds))

    def _peaks(self) -> dict[str, float]:
        """Of each precision the highest median."""
        peaks: dict[str, float] = {}
        for (_, _, precision), reached in self.products.items():
            peaks[precision] = max(peaks.get(precision, 0.0), statistics.median(reached))
        return peaks


# What has to be warm, and by what it becomes so.
_WARM = {"harness": "step", "step": "step", "bare": "bare"}


def _trains(worker: Worker) -> bool:
    """Whether the worker trains networks of ours: not the book's, and not only data."""
    return not {BOOK, DATA} & set(worker.job.whats)
