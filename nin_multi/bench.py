"""Training throughput by one definition: the harness against the framework's own loop, alternating; no training here.

"harness": steps as `train` does them, with batches, resize and masks prepared ahead. "bare": the framework's own loop
on one batch that is in memory already, with its own dropout. Both count images over wall-clock time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nin_multi import machine, randomness
from nin_multi.backend import Backend
from nin_multi.data.batches import Ahead, prepare, training_batches
from nin_multi.data.dataset import Dataset, Split
from nin_multi.spec import Architecture

TRAINING_FLOP = 6  # per multiply-add of the forward pass: forward, and two products of its size backward
MATRIX = 2048


def bench(
    backend: Backend,
    architecture: Architecture,
    dataset: Dataset,
    *,
    device: str,
    precision: str,
    batch_size: int,
    steps: int,
    rounds: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """`rounds` rounds of `steps` steps each, the first round thrown away; medians and spread. JSON as documented."""
    params = randomness.initial_parameters(architecture, 0)
    network = backend.build(architecture, params, device=device, precision=precision)
    x = prepare(dataset.train.images[:batch_size], architecture)
    y = dataset.train.labels[:batch_size].astype(np.int32)
    bare = backend.bare_loop(architecture, params, x, y, device=device, precision=precision)
    images = dataset.train.images[: batch_size * steps]
    split = Split(images, dataset.train.labels[: len(images)])

    def harness() -> float:
        # The first batch is made before the clock starts, as every later one is made during the step before it.
        batches = iter(Ahead(training_batches(split, architecture, batch_size, seed=0, epoch=0)))
        batch = next(batches, None)
        began = time.perf_counter()
        while batch is not None:
            network.train_step(batch.x, batch.y, batch.masks, 0.01)
            batch = next(batches, None)
        return time.perf_counter() - began

    speeds: dict[str, list[float]] = {"harness": [], "bare": []}
    peaks: list[float] = []
    for number in range(rounds + 1):
        times = {"harness": harness(), "bare": bare(steps)}
        report(", ".join(f"{what} {batch_size * steps / took:.1f} images/s" for what, took in times.items()))
        if number > 0:  # frameworks compile, plan and tune in the first round
            peaks.append(matmul_gflops())
            for what, took in times.items():
                speeds[what].append(batch_size * steps / took)
    peak = statistics.median(peaks)
    gflop = TRAINING_FLOP * architecture.multiply_adds / 1e9
    rows = [
        {
            "backend": backend.name,
            "framework_version": backend.version(),
            "precision": precision,
            "arch": architecture.name,
            "batch_size": batch_size,
            "what": what,
            "examples_per_sec": statistics.median(found),
            "peak_share": statistics.median(found) * gflop / peak,
            "spread": (max(found) - min(found)) / statistics.median(found),
        }
        for what, found in speeds.items()
    ]
    return {"machine": {**machine.describe(), "matmul_gflops": {"fp32": peak}}, "rows": rows}


def matmul_gflops() -> float:
    """What NumPy's matrix product reaches here, in GFLOP/s: float32, 2048 x 2048, the best of five."""
    a = np.ones((MATRIX, MATRIX), np.float32)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * MATRIX**3 / min(times) / 1e9
