"""The process that measures one job when it is asked to: a job on the first line of stdin, then a question a line.

Every line is a JSON object, and so is each answer on stdout; what frameworks print goes to stderr. The first answer
tells what was built. At the end of stdin the process ends. Between questions it waits and uses no processor.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from types import FrameType
from typing import Any, NoReturn

import numpy as np

from nin_multi import machine, randomness, registry
from nin_multi.backend import Network, Resident, check_request
from nin_multi.bench import BOOK, DATA
from nin_multi.bench.job import Job
from nin_multi.data.batches import Ahead, Batch, batch_order, prepare, training_batches
from nin_multi.data.dataset import Split
from nin_multi.errors import NinMultiError
from nin_multi.training.residents import hold

LR = 0.01
Answer = dict[str, Any]


class Measurer:
    """The networks and loops of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.backend = registry.load(job.backend)
        self.version = self.backend.version()
        self.device = job.device or self.backend.devices()[0]
        self._where: dict[str, Any] = {"device": self.device, "precision": job.precision}
        self._products: dict[int, Callable[[], float]] = {}
        self.tuning: dict[str, str] = {}
        if not {BOOK, DATA} & set(job.whats):
            check_request(self.backend, self.device, job.precision)
            self.tuning = self._choose_tuning()
        self._book = self._load_book() if BOOK in job.whats else None

    def facts(self) -> Answer:
        """What was built, for the rows."""
        ours = self._book is None
        return {
            "framework_version": self.version,
            "device": self.device,
            "tuning": self.tuning,
            "environment": machine.chosen_environment(self._environment()) if ours else {},
            "framework_facts": dict(self.backend.facts()) if ours else {},
            "versions": machine.versions(self.job.backend, self.version),
            "warm_up_steps": self.backend.warm_up_steps,
        }

    def measure(self, what: str, steps: int) -> Answer:
        """Images and seconds of so many steps; the book's rounds are as long as its files are."""
        if what == BOOK and self._book is not None:
            found = self._book()
            return {"images": found.images, "seconds": found.seconds, "book_says": found.says}
        ways: dict[str, Callable[[int], tuple[int, float]]]
        ways = {"harness": self._harness, "step": self._step, "bare": self._bare, DATA: self._data}
        images, seconds = ways[what](steps)
        return {"images": images, "seconds": seconds}

    def product(self, size: int, times: int) -> list[float]:
        """Seconds of each of so many matrix products."""
        if size not in self._products:
            self._products[size] = self.backend.matrix_product(size, **self._where)
        return [self._products[size]() for _ in range(times)]

    def layers(self, repeats: int) -> list[tuple[str, float, float]]:
        """Name, seconds forward and backward of every layer."""
        params = randomness.initial_parameters(self.job.architecture, 0)
        measured = self.backend.layer_times(
            self.job.architecture, params, self._batch.x, **self._where, repeats=repeats, tuning=self.tuning
        )
        return list(measured)

    @cached_property
    def _network(self) -> Network:
        params = randomness.initial_parameters(self.job.architecture, 0)
        return self.backend.build(self.job.architecture, params, **self._where, tuning=self.tuning)

    @cached_property
    def _batch(self) -> Batch:
        split, architecture = self.job.split(self.job.batch_size), self.job.architecture
        masks = randomness.dropout_masks(architecture, len(split), 0, 0)
        return Batch(prepare(split.images, architecture), split.labels.astype(np.int32), masks)

    @cached_property
    def _bare_loop(self) -> Callable[[int], float]:
        params = randomness.initial_parameters(self.job.architecture, 0)
        return self.backend.bare_loop(self.job.architecture, params, self._batch.x, self._batch.y, **self._where)

    def _harness(self, steps: int) -> tuple[int, float]:
        network, job = self._network, self.job
        if self._resident is not None:
            order = batch_order(len(self._whole), job.batch_size, seed=0, epoch=0)[:steps]
            # As in training: where the images stay on a GPU, dropout is the framework's own.
            shared = self._batch.masks or {}
            masks = ({name: mask[: len(numbers)] for name, mask in shared.items()} for numbers in order)
            began = time.perf_counter()
            result = self._resident.train(order, masks if self.device == "cpu" else None, LR)
            return result.count, time.perf_counter() - began
        split = job.split(steps * job.batch_size)
        began = time.perf_counter()
        for batch in Ahead(training_batches(split, job.architecture, job.batch_size, seed=0, epoch=0)):
            network.train_step(batch.x, batch.y, batch.masks, LR)
        return len(split), time.perf_counter() - began

    @cached_property
    def _whole(self) -> Split:
        return self.job.split(self.job.counts[0])

    @cached_property
    def _resident(self) -> Resident | None:
        """The images on the device, where the network wants them there."""
        return hold(self._network, self.job.architecture, self._whole)

    def _step(self, steps: int) -> tuple[int, float]:
        network, batch = self._network, self._batch
        began = time.perf_counter()
        for _ in range(steps):
            network.train_step(batch.x, batch.y, batch.masks, LR)
        return steps * len(batch.y), time.perf_counter() - began

    def _bare(self, steps: int) -> tuple[int, float]:
        return steps * len(self._batch.y), self._bare_loop(steps)

    def _data(self, steps: int) -> tuple[int, float]:
        split = self.job.split(steps * self.job.batch_size)
        began = time.perf_counter()
        for _ in training_batches(split, self.job.architecture, self.job.batch_size, seed=0, epoch=0):
            pass
        return len(split), time.perf_counter() - began

    def _environment(self) -> Mapping[str, str]:
        return self.backend.environment(self.job.precision, self.tuning)

    def _choose_tuning(self) -> dict[str, str]:
        """What is set by hand, then what is stored for this machine, then the defaults."""
        from nin_multi.tuning import Case, chosen

        job = self.job
        case = Case(self.backend, job.architecture, self.device, job.precision, job.batch_size, dict(job.tuning))
        return chosen(case, job.tune).tuning

    def _load_book(self) -> Any:
        job = self.job
        warnings.simplefilter("ignore")  # the book's plots and loaders give many
        return self.backend.book_loop(job.architecture, job.files, device=self.device, batch_size=job.batch_size)


def answer(measurer: Measurer, question: Mapping[str, Any]) -> Answer:
    """One question's answer."""
    match question["ask"]:
        case "product":
            return {"seconds": measurer.product(question["size"], question["times"])}
        case "layers":
            return {"layers": measurer.layers(question["repeats"])}
        case what:
            return {
                **measurer.measure(what, question["steps"]),
                "peak_memory_bytes": machine.peak_memory_bytes(),
            }


def serve(lines: Any, say: Callable[[Answer], None]) -> None:
    """Build what the first line asks for, then answer the others."""
    measurer = Measurer(Job.from_json(next(lines)))
    say({"ready": measurer.facts()})
    for line in lines:
        say(answer(measurer, json.loads(line)))


def main() -> int:
    """`python -m nin_multi.bench.worker`."""
    signal.signal(signal.SIGTERM, _leave)
    # The processes of a loader end as they always do.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a framework prints may stand between the answers

    def say(value: Answer) -> None:
        print(json.dumps(value), file=channel, flush=True)

    try:
        serve(iter(sys.stdin.readline, ""), say)
    except NinMultiError as error:
        say({"error": {"type": type(error).__name__, "message": str(error)}})
        return error.exit_status
    except Exception as error:  # frameworks raise anything
        traceback.print_exc()
        reason = (str(error).strip().splitlines() or [""])[0]
        say({"error": {"type": "BackendUnavailable", "message": f"{type(error).__name__}: {reason}"}})
        return 3
    gc.collect()  # loaders with processes of their own end them now, while Python is still whole
    return 0


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """Python's own way out ends the loaders' processes too."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
