"""MindSpore as a backend: version, devices, the environment it needs; mindspore is imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

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
    from nin_mindspore.network import MindSporeNetwork


class MindSporeBackend:
    """MindSpore on the CPU."""

    name = "mindspore"
    precisions = ("fp32",)
    _started = False

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        self._import()
        return ("cpu",)

    def environment(self) -> Mapping[str, str]:
        # With AVX-512, the bundled oneDNN 3.10 runs convolutions with plain weights on its reference path, a hundred
        # times slower; below it, they are matrix products. GLOG_v=3: errors only, not a warning per import.
        return {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OMP_NUM_THREADS": str(cores()),
            "MALLOC_ARENA_MAX": "1",
            "GLOG_v": "3",
            **allocator_environment(),
        }

    def build(self, architecture: Architecture, params: Params, *, device: str, precision: str) -> MindSporeNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        self._start()
        from nin_mindspore.network import MindSporeNetwork

        return MindSporeNetwork(architecture, params)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        from nin_mindspore.bare import bare_loop

        return bare_loop(network, x, y)

    def _start(self) -> None:
        """Device and threads, once a process: MindSpore takes 25 threads by itself, and refuses a second setting."""
        if not MindSporeBackend._started:
            mindspore = self._import()
            mindspore.set_device("CPU")
            mindspore.device_context.cpu.op_tuning.threads_num(cores())
            mindspore.runtime.dispatch_threads_num(cores())
            MindSporeBackend._started = True

    def _import(self) -> Any:
        return import_framework("mindspore", extra="mindspore")
