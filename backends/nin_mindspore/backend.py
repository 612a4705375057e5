"""MindSpore as a backend: version, devices, the environment it needs; mindspore is imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from nin_multi.spec import Architecture

if TYPE_CHECKING:
    from nin_mindspore.network import MindSporeNetwork


class MindSporeBackend:
    """MindSpore on the CPU."""

    name = "mindspore"
    precisions = ("fp32",)
    weights_suffixes = (".ckpt",)
    relu_takes_an_index = True
    _started = False

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        self._import()
        return ("cpu",)

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        # With AVX-512, the bundled oneDNN 3.10 runs convolutions with plain weights on its reference path, a hundred
        # times slower; below it, they are matrix products. GLOG_v=3: errors only, not a warning per import.
        return {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OMP_NUM_THREADS": str(cores()),
            "MALLOC_ARENA_MAX": "1",
            "GLOG_v": "3",
            **allocator_environment(),
        }

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        return (micro_batch_knob(),)

    def build(
        self,
        architecture: Architecture,
        params: Params,
        *,
        device: str,
        precision: str,
        seed: int | None = None,
        tuning: Tuning | None = None,
    ) -> MindSporeNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        chosen = complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        self._start()
        if seed is not None:
            self._import().set_seed(seed)
        from nin_mindspore.network import MindSporeNetwork

        return MindSporeNetwork(architecture, params, chosen)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        from nin_mindspore.bare import bare_loop

        return bare_loop(network, x, y)

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        self._import()
        from nin_mindspore import weights_file

        return weights_file.read(path)

    def write_weights(self, path: Path, named: Params) -> None:
        self._import()
        from nin_mindspore import weights_file

        weights_file.write(path, named)

    def _start(self) -> None:
        """Device and threads, once a process: MindSpore takes 25 threads by itself, and refuses a second setting."""
        if not MindSporeBackend._started:
            mindspore = self._import()
            mindspore.set_device("CPU")
            mindspore.device_context.cpu.op_tuning.threads_num(cores())
            mindspore.runtime.dispatch_threads_num(1)
            MindSporeBackend._started = True

    def _import(self) -> Any:
        return import_framework("mindspore", extra="mindspore")
