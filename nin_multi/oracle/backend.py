"""The oracle as the backend `numpy`: what the command line and the checks ask of every framework's adapter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Images, Labels, Params, check_params, check_request
from nin_multi.book import BookRound
from nin_multi.errors import BackendUnavailable, UsageError
from nin_multi.knobs import Knob, Tuning, complete_tuning
from nin_multi.oracle.layers import apply_layer
from nin_multi.oracle.network import NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.workers.group import Group
from nin_multi.workers.launch import Adoption, Launch, Place, Role, Task


def matrix_product(size: int, kind: np.dtype[Any]) -> Callable[[], float]:
    """Seconds that NumPy's product of two matrices takes, each time it is called."""
    a, b, result = np.ones((size, size), kind), np.ones((size, size), kind), np.empty((size, size), kind)

    def run() -> float:
        began = time.perf_counter()
        np.matmul(a, b, out=result)
        return time.perf_counter() - began

    return run


ALONE = "numpy trains with one worker: it is there to check the frameworks, not to be fast"


class NumpyBackend:
    """The oracle as a backend: float64 on the CPU, no framework needed."""

    name = "numpy"
    precisions = ("fp64",)
    bf16_sets = ()
    weights_suffixes = ()
    relu_takes_an_index = True

    def version(self) -> str:
        return np.__version__

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def facts(self) -> Mapping[str, str]:
        return {}

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        return {}

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        return ()

    def build(
        self,
        architecture: Architecture,
        params: Params,
        *,
        device: str,
        precision: str,
        seed: int | None = None,
        tuning: Tuning | None = None,
    ) -> NumpyNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        return NumpyNetwork(architecture, params, seed)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)

        def run(steps: int) -> float:
            began = time.perf_counter()
            for _ in range(steps):
                network.train_step(x, y, {}, 0.01)
            return time.perf_counter() - began

        return run

    @property
    def warm_up_steps(self) -> int:
        return 1

    @property
    def bare_tuning(self) -> Tuning:
        return {}

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        check_request(self, device, precision)
        return matrix_product(size, np.dtype(np.float64))

    def layer_times(
        self,
        architecture: Architecture,
        params: Params,
        x: Images,
        *,
        device: str,
        precision: str,
        repeats: int,
        tuning: Tuning | None = None,
    ) -> Iterator[tuple[str, float, float]]:
        exact = {name: np.asarray(value, np.float64) for name, value in params.items()}
        value = np.asarray(x, np.float64)
        for traced in (row for row in architecture.walk(len(x)) if not row.inner):
            forward, backward = [], []
            for _ in range(repeats):
                began = time.perf_counter()
                y, back = apply_layer(traced, value, exact, {})
                half = time.perf_counter()
                back(np.ones_like(y), {})
                forward.append(half - began)
                backward.append(time.perf_counter() - half)
            yield traced.name, statistics.median(forward), statistics.median(backward)
            value = y

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        raise BackendUnavailable("numpy: the book has no code for it")

    def source(self, architecture: Architecture) -> str:
        from nin_multi.export import numpy_source

        return numpy_source.source(architecture)

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        raise UsageError(f"{path}: numpy has no weights files of its own; convert it to .safetensors")

    def write_weights(self, path: Path, named: Params) -> None:
        raise UsageError(f"{path}: numpy has no weights files of its own; write .safetensors")

    def place(self) -> Place | None:
        return None

    def launch(self, launch: Launch) -> Sequence[Role]:
        raise UsageError(ALONE)

    def adopt(self, task: Task) -> Adoption:
        raise UsageError(ALONE)

    def join(self, device: str, seconds: float) -> Group:
        raise UsageError(ALONE)
