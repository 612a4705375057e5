"""PyTorch as a backend: version, devices, the environment it needs; torch is imported only when it is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nin_multi.adapter import Adapter, allocator_environment
from nin_multi.backend import Params, cores
from nin_multi.knobs import Knob, Tuning, micro_batch_knob
from nin_multi.spec import Architecture
from nin_torch.resident_knobs import resident_knobs

if TYPE_CHECKING:
    from nin_torch.network import TorchNetwork


class TorchBackend(Adapter):
    """PyTorch on the CPU, or on an NVIDIA GPU where it sees one."""

    name = "torch"
    precisions = ("fp32", "bf16")
    bf16_sets = ("avx512_bf16", "amx_bf16")  # without, it emulates them, far slower than float32
    weights_suffixes = (".pt", ".pth")
    relu_takes_an_index = True
    warm_up_steps = 3
    memory_words = ("DefaultCPUAllocator", "bad_alloc", "out of memory", "_ALLOC_FAILED")

    def devices(self) -> tuple[str, ...]:
        cuda = self.framework().cuda
        gpus = cuda.device_count() if cuda.is_available() else 0
        return (*(f"cuda:{i}" for i in range(gpus)), "cpu")

    def facts(self) -> Mapping[str, str]:
        torch = self.framework()
        gpus = {name: torch.cuda.get_device_name(name) for name in self.devices() if name != "cpu"}
        return {
            "threads": str(torch.get_num_threads()),
            "instruction set": str(torch.backends.cpu.get_cpu_capability()),
            "oneDNN": "yes" if torch.backends.mkldnn.is_available() else "no",
            **gpus,
        }

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        found = {"OMP_NUM_THREADS": str(cores()), **allocator_environment()}
        if self.place() is not None:
            found["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # what befalls the workers, we say in a line instead of a stack
        return found

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        on_cpu = device == "cpu"
        # Pooling with the channels last is ten times as fast on a CPU. On a GPU it is bf16 that wants them there.
        layouts = ("channels_last", "contiguous") if on_cpu or precision == "bf16" else ("contiguous", "channels_last")
        # With space to depth, one channel fills the units that work in bf16.
        knobs = (
            micro_batch_knob("32" if on_cpu else "all"),
            Knob("layout", (*layouts, "mixed") if on_cpu else layouts),
            Knob("first_conv", ("direct", "space_to_depth")),
            *((Knob("compile", ("off", "on")),) if on_cpu and _has_compiler() else ()),
        )
        # On a GPU, single steps on a batch from the host say nothing of its speed: there nothing is tried by itself.
        return (*(replace(knob, measured=on_cpu) for knob in knobs), *resident_knobs(device))

    def seed(self, seed: int) -> None:
        self.framework().manual_seed(seed)

    def network(
        self, architecture: Architecture, params: Params, device: str, precision: str, tuning: Tuning
    ) -> TorchNetwork:
        from nin_torch.network import TorchNetwork

        return TorchNetwork(architecture, params, device, precision, tuning)


def _has_compiler() -> bool:
    """Whether torch.compile would find the C++ compiler that it needs for a CPU."""
    return shutil.which(os.environ.get("CXX") or "g++") is not None
