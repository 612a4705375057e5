"""PyTorch as a backend: version, devices, the environment it needs; torch is imported only when it is asked for."""

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
    from nin_torch.network import TorchNetwork


class TorchBackend:
    """PyTorch on the CPU, or on an NVIDIA GPU where it sees one."""

    name = "torch"
    precisions = ("fp32", "bf16")
    weights_suffixes = (".pt", ".pth")
    relu_takes_an_index = True

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        cuda = self._import().cuda
        gpus = cuda.device_count() if cuda.is_available() else 0
        return (*(f"cuda:{i}" for i in range(gpus)), "cpu")

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        return {"OMP_NUM_THREADS": str(cores()), **allocator_environment()}

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
