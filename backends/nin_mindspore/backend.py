"""MindSpore as a backend: version, devices, the environment it needs; mindspore is imported only when asked for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
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
from nin_multi.book import BookRound
from nin_multi.errors import BackendUnavailable
from nin_multi.spec import Architecture

if TYPE_CHECKING:
    from nin_mindspore.network import MindSporeNetwork


class MindSporeBackend:
    """MindSpore on the CPU."""

    name = "mindspore"
    precisions = ("fp32", "bf16")
    weights_suffixes = (".ckpt",)
    relu_takes_an_index = True
    warm_up_steps = 26  # each primitive tries numbers of threads in its first 25 runs
    _started = ""  # the device, once there is one

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        hal = self._import().hal
        # Asked without a driver, it tries to load what it has for every kind of device, and logs how that fails.
        gpus = hal.device_count("GPU") if _has_driver() and hal.is_available("GPU") else 0
        return (*(f"gpu:{i}" for i in range(gpus)), "cpu")

    def facts(self) -> Mapping[str, str]:
        self._import()
        # It does not tell its threads: they are what `_start` has set. oneDNN's products have OpenMP's.
        return {
            "threads": str(cores()),
            "OpenMP threads": os.environ.get("OMP_NUM_THREADS", "its own choice"),
            "oneDNN up to": os.environ.get("ONEDNN_MAX_CPU_ISA", "all instruction sets"),
        }

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        # GLOG_v=3: errors only, not a warning per import.
        found = {"OMP_NUM_THREADS": str(cores()), "MALLOC_ARENA_MAX": "1", "GLOG_v": "3", **allocator_environment()}
        if (tuning or {}).get("convolution") == "conv2d":
            # With AVX-512, the bundled oneDNN 3.10 runs convolutions with plain weights on its reference path, a
            # hundred times slower; below it, they are matrix products (docs/performance.md).
            found["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        if precision == "bf16":
            found["ONEDNN_DEFAULT_FPMATH_MODE"] = "BF16"  # float32 in memory, bfloat16 inside the products
        return found

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        # Not measured against each other: they want other environments.
        return (Knob("convolution", ("products", "conv2d"), measured=False), micro_batch_knob("16"))

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
        self._start(device)
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

    @property
    def bare_tuning(self) -> Tuning:
        return {"convolution": "conv2d"}

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        check_request(self, device, precision)
        self._start(device)
        from nin_mindspore.bare import product

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
        from nin_mindspore.layer_times import layer_times

        return layer_times(network, x, self.warm_up_steps, repeats)

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        check_request(self, device, "fp32")
        from nin_mindspore.book import book_loop

        return book_loop(architecture, files, device, batch_size)

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        self._import()
        from nin_mindspore import weights_file

        return weights_file.read(path)

    def write_weights(self, path: Path, named: Params) -> None:
        self._import()
        from nin_mindspore import weights_file

        weights_file.write(path, named)

    def _start(self, device: str) -> None:
        """Device and threads, once a process: MindSpore takes 25 threads by itself, and refuses a second setting."""
        if MindSporeBackend._started not in ("", device):
            raise BackendUnavailable(
                f"mindspore: this process computes on {MindSporeBackend._started}, and has no other device; "
                f"start another one for {device!r}"
            )
        if not MindSporeBackend._started:
            mindspore = self._import()
            kind, _, number = device.partition(":")
            mindspore.set_device(kind.upper(), int(number or 0))
            mindspore.device_context.cpu.op_tuning.threads_num(cores())
            mindspore.runtime.dispatch_threads_num(1)
            MindSporeBackend._started = device

    def _import(self) -> Any:
        return import_framework("mindspore", extra="mindspore")


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
