"""PyTorch as a backend: version, devices, the environment it needs; torch is imported only when it is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from nin_multi.spec import Architecture
from nin_torch.resident_knobs import resident_knobs

if TYPE_CHECKING:
    from nin_torch.network import TorchNetwork


def _has_compiler() -> bool:
    """Whether torch.compile would find the C++ compiler that it needs for a CPU."""
    return shutil.which(os.environ.get("CXX") or "g++") is not None


class TorchBackend:
    """PyTorch on the CPU, or on an NVIDIA GPU where it sees one."""

    name = "torch"
    precisions = ("fp32", "bf16")
    weights_suffixes = (".pt", ".pth")
    relu_takes_an_index = True
    warm_up_steps = 3

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        cuda = self._import().cuda
        gpus = cuda.device_count() if cuda.is_available() else 0
        return (*(f"cuda:{i}" for i in range(gpus)), "cpu")

    def facts(self) -> Mapping[str, str]:
        torch = self._import()
        gpus = {name: torch.cuda.get_device_name(name) for name in self.devices() if name != "cpu"}
        return {
            "threads": str(torch.get_num_threads()),
            "instruction set": str(torch.backends.cpu.get_cpu_capability()),
            "oneDNN": "yes" if torch.backends.mkldnn.is_available() else "no",
            **gpus,
        }

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        return {"OMP_NUM_THREADS": str(cores()), **allocator_environment()}

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

    def build(
        self,
        architecture: Architecture,
        params: Params,
        *,
        device: str,
        precision: str,
        seed: int | None = None,
        tuning: Tuning | None = None,
    ) -> TorchNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        chosen = complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        if seed is not None:
            self._import().manual_seed(seed)
        from nin_torch.network import TorchNetwork

        return TorchNetwork(architecture, params, device, precision, chosen)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        from nin_torch.bare import bare_loop

        return bare_loop(network, x, y)

    @property
    def bare_tuning(self) -> Tuning:
        return {}

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        check_request(self, device, precision)
        self._import()
        from nin_torch.bare import product

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
        from nin_torch.layer_times import layer_times

        return layer_times(network, x, self.warm_up_steps, repeats)

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        check_request(self, device, "fp32")
        from nin_torch.book import book_loop

        return book_loop(architecture, files, device, batch_size)

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        self._import()
        from nin_torch import weights_file

        return weights_file.read(path)

    def write_weights(self, path: Path, named: Params) -> None:
        self._import()
        from nin_torch import weights_file

        weights_file.write(path, named)

    def _import(self) -> Any:
        return import_framework("torch", extra="torch")
