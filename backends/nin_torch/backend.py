"""PyTorch as a backend: version, devices, the environment it needs; torch is imported only when it is asked for."""

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
    from nin_torch.network import TorchNetwork


class TorchBackend:
    """PyTorch on the CPU, or on an NVIDIA GPU where it sees one."""

    name = "torch"
    precisions = ("fp32", "bf16")

    def version(self) -> str:
        return str(self._import().__version__)

    def devices(self) -> tuple[str, ...]:
        cuda = self._import().cuda
        gpus = cuda.device_count() if cuda.is_available() else 0
        return (*(f"cuda:{i}" for i in range(gpus)), "cpu")

    def environment(self) -> Mapping[str, str]:
        return {"OMP_NUM_THREADS": str(cores()), **allocator_environment()}

    def build(self, architecture: Architecture, params: Params, *, device: str, precision: str) -> TorchNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        from nin_torch.network import TorchNetwork

        return TorchNetwork(architecture, params, device, precision)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        from nin_torch.bare import bare_loop

        return bare_loop(network, x, y)

    def _import(self) -> Any:
        return import_framework("torch", extra="torch")
