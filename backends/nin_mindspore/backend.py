"""MindSpore as a backend: version, devices, the environment it needs; mindspore is imported only when asked for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nin_multi.adapter import Adapter, allocator_environment
from nin_multi.backend import Params, cores
from nin_multi.errors import BackendUnavailable
from nin_multi.knobs import Knob, Tuning, micro_batch_knob
from nin_multi.spec import Architecture

if TYPE_CHECKING:
    from nin_mindspore.network import MindSporeNetwork


class MindSporeBackend(Adapter):
    """MindSpore on the CPU."""

    name = "mindspore"
    precisions = ("fp32", "bf16")
    bf16_sets = ("amx_bf16",)  # with avx512_bf16 alone, oneDNN multiplies in float32 whatever it may
    weights_suffixes = (".ckpt",)
    relu_takes_an_index = True
    memory_words = (
        *("bad_alloc", "memory isn't enough", "Memory not enough", "out of memory"),
        *("Allocate memory failed", "workspace memory failed", "memory alloc fail"),
    )
    warm_up_steps = 26  # each primitive tries numbers of threads in its first 25 runs
    _started = ""  # the device, once there is one

    def devices(self) -> tuple[str, ...]:
        hal = self.framework().hal
        # Asked without a driver, it tries to load what it has for every kind of device, and logs how that fails.
        gpus = hal.device_count("GPU") if _has_driver() and hal.is_available("GPU") else 0
        return (*(f"gpu:{i}" for i in range(gpus)), "cpu")

    def facts(self) -> Mapping[str, str]:
        self.framework()
        # It does not tell its threads: they are what `start` has set. oneDNN's products have OpenMP's.
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

    @property
    def bare_tuning(self) -> Tuning:
        return {"convolution": "conv2d"}

    def seed(self, seed: int) -> None:
        self.framework().set_seed(seed)

    def network(
        self, architecture: Architecture, params: Params, device: str, precision: str, tuning: Tuning
    ) -> MindSporeNetwork:
        from nin_mindspore.network import MindSporeNetwork

        return MindSporeNetwork(architecture, params, tuning)

    def start(self, device: str) -> None:
        """Device and threads, once a process: MindSpore takes 25 threads by itself, and refuses a second setting."""
        if MindSporeBackend._started not in ("", device):
            raise BackendUnavailable(
                f"mindspore: this process computes on {MindSporeBackend._started}, and has no other device; "
                f"start another one for {device!r}"
            )
        if not MindSporeBackend._started:
            mindspore = self.framework()
            kind, _, number = device.partition(":")
            mindspore.set_device(kind.upper(), int(number or 0))
            mindspore.device_context.cpu.op_tuning.threads_num(cores())
            mindspore.runtime.dispatch_threads_num(1)
            MindSporeBackend._started = device


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
