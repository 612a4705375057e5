"""MXNet Gluon as a backend: version, devices, the environment it needs; mxnet is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nin_multi.adapter import Adapter, allocator_environment
from nin_multi.backend import Params, cores
from nin_multi.knobs import Knob, Tuning, micro_batch_knob
from nin_multi.spec import Architecture

if TYPE_CHECKING:
    from nin_mxnet.network import MXNetNetwork


class MXNetBackend(Adapter):
    """MXNet Gluon on the CPU, or on an NVIDIA GPU where its build sees one."""

    name = "mxnet"
    precisions = ("fp32",)
    weights_suffixes = (".params",)
    weights_need_framework = False  # they are read and written byte by byte
    relu_takes_an_index = False  # an activation is part of its convolution
    warm_up_steps = 3
    memory_words = ("Failed to allocate", "bad_alloc", "out of memory", "_ALLOC_FAILED")

    def devices(self) -> tuple[str, ...]:
        gpus = self.framework().context.num_gpus()
        return (*(f"gpu:{i}" for i in range(gpus)), "cpu")

    def facts(self) -> Mapping[str, str]:
        mxnet = self.framework()
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

    def seed(self, seed: int) -> None:
        self.framework().random.seed(seed)

    def network(
        self, architecture: Architecture, params: Params, device: str, precision: str, tuning: Tuning
    ) -> MXNetNetwork:
        from nin_mxnet.network import MXNetNetwork

        return MXNetNetwork(architecture, params, device, tuning)

    def framework(self) -> Any:
        # MXNet 1.9.1 still says numpy.bool, which NumPy 1.24 took away.
        if "bool" not in np.__dict__:
            np.bool = bool  # type: ignore[attr-defined]
        return super().framework()
