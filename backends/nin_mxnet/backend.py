"""MXNet Gluon as a backend: version, devices, the environment it needs; mxnet is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nin_multi.backend import (
    Images,
    Labels,
    Params,
    allocator_environment,
    check_params,
    check_request,
    cores,
    import_framework,
)
from nin_multi.spec import Architecture

if TYPE_CHECKING:
    from nin_mxnet.network import MXNetNetwork


class MXNetBackend:
    """MXNet Gluon on the CPU, or on an NVIDIA GPU where its build sees one."""

    name = "mxnet"
    precisions = ("fp32",)

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        gpus = self._import().context.num_gpus()
        return (*(f"gpu:{i}" for i in range(gpus)), "cpu")

    def environment(self) -> Mapping[str, str]:
        # Without OMP_NUM_THREADS, MXNet 1.9.1 halves the threads on x86 (src/engine/openmp.cc); its engine's worker
        # threads allocate, and only the main arena takes blocks over 64 MB from the heap.
        return {"OMP_NUM_THREADS": str(cores()), "MALLOC_ARENA_MAX": "1", **allocator_environment()}

    def build(self, architecture: Architecture, params: Params, *, device: str, precision: str) -> MXNetNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        from nin_mxnet.network import MXNetNetwork

        return MXNetNetwork(architecture, params, device)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        from nin_mxnet.bare import bare_loop

        return bare_loop(network, x, y)

    def _import(self) -> Any:
        # MXNet 1.9.1 still says numpy.bool, which NumPy 1.24 took away.
        if "bool" not in np.__dict__:
            np.bool = bool  # type: ignore[attr-defined]
        return import_framework("mxnet", extra="mxnet")
