"""MXNet Gluon as a backend: version, devices, the environment it needs; mxnet is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import (
    Images,
    Knob,
    Labels,
    Params,
    Tuning,
    allocator_environment,
    check_params,
    check_request,
    complete_tuning,
    cores,
    import_framework,
    micro_batch_knob,
)
from nin_multi.book import BookRound
from nin_multi.spec import Architecture

if TYPE_CHECKING:
    from nin_mxnet.network import MXNetNetwork


class MXNetBackend:
    """MXNet Gluon on the CPU, or on an NVIDIA GPU where its build sees one."""

    name = "mxnet"
    precisions = ("fp32",)
    weights_suffixes = (".params",)
    relu_takes_an_index = False  # an activation is part of its convolution
    warm_up_steps = 3

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        gpus = self._import().context.num_gpus()
        return (*(f"gpu:{i}" for i in range(gpus)), "cpu")

    def facts(self) -> Mapping[str, str]:
        mxnet = self._import()
        features = mxnet.runtime.Features()
        return {
            # There is no way to ask MXNet itself; this is the OpenMP it computes with.
            "threads": str(mxnet.base._LIB.omp_get_max_threads()),
            "oneDNN": "yes" if features.is_enabled("MKLDNN") else "no",
            "CUDA": "yes" if features.is_enabled("CUDA") else "no",
        }

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        # Without OMP_NUM_THREADS, MXNet 1.9.1 halves the threads on x86 (src/engine/openmp.cc); its engine's worker
        # threads allocate, and only the main arena takes blocks over 64 MB from the heap.
        return {"OMP_NUM_THREADS": str(cores()), "MALLOC_ARENA_MAX": "1", **allocator_environment()}

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        return (micro_batch_knob("32"),)

    def build(
        self,
        architecture: Architecture,
        params: Params,
        *,
        device: str,
        precision: str,
        seed: int | None = None,
        tuning: Tuning | None = None,
    ) -> MXNetNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        chosen = complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        if seed is not None:
            self._import().random.seed(seed)
        from nin_mxnet.network import MXNetNetwork

        return MXNetNetwork(architecture, params, device, chosen)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        from nin_mxnet.bare import bare_loop

        return bare_loop(network, x, y)

    @property
    def bare_tuning(self) -> Tuning:
        return {}

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        check_request(self, device, precision)
        self._import()
        from nin_mxnet.bare import product

        return product(size, device, precision)

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
        network = self.build(architecture, params, device=device, precision=precision, tuning=tuning)
        from nin_mxnet.layer_times import layer_times

        return layer_times(network, x, self.warm_up_steps, repeats)

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        check_request(self, device, "fp32")
        from nin_mxnet.book import book_loop

        return book_loop(architecture, files, device, batch_size)

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        from nin_mxnet import weights_file

        return weights_file.read(path)

    def write_weights(self, path: Path, named: Params) -> None:
        from nin_mxnet import weights_file

        weights_file.write(path, named)

    def _import(self) -> Any:
        # MXNet 1.9.1 still says numpy.bool, which NumPy 1.24 took away.
        if "bool" not in np.__dict__:
            np.bool = bool  # type: ignore[attr-defined]
        return import_framework("mxnet", extra="mxnet")
