"""A compiled PyTorch net at work: activations, loss, gradients, SGD; NumPy arrays at the border."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)
from torch.nn.parallel import DistributedDataParallel
from torch.optim.sgd import sgd

from nin_multi.backend import Images, Labels, Masks, Params, Resampling, StepResult
from nin_multi.knobs import Tuning
from nin_multi.spec import Architecture
from nin_multi.workers.group import Alone, Group, pieces, whole
from nin_torch.group import losses
from nin_torch.layers import compile_architecture
from nin_torch.resident import ResidentSplit, put_on_device


class TorchNetwork:
    """A net on one device. "bf16": autocast over fp32 parameters."""

    def __init__(self, architecture: Architecture, params: Params, device: str, precision: str, tuning: Tuning) -> None:
        self.architecture = architecture
        self.tuning = tuning
        self.device = torch.device(device)
        self.is_bf16 = precision == "bf16"
        # fp32 means fp32: no TF32 products on a GPU, and the same result every time.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self._layout = torch.contiguous_format if tuning["layout"] == "contiguous" else torch.channels_last
        net: Any = compile_architecture(architecture, first_conv=tuning["first_conv"], layout=tuning["layout"])
        self.module: Any = net.to(device=self.device, memory_format=self._layout)
        self._training: Any = _Training(
            self.module, {name: self._for_training(layer) for name, layer in self.module.named_children()}
        )
        self.group: Group = Alone()
        self.velocity_tensors: dict[str, Tensor] = {}  # by the names of their parameters
        self._residents: list[tuple[NDArray[np.uint8], ResidentSplit]] = []
        self.restore(params, {})

    def activations(self, x: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        self.module.eval()
        value = self.batch_tensor(x)
        for name, layer in self.module.named_children():
            is_block = isinstance(layer, nn.Sequential)
            for part_name, part in layer.named_children() if is_block else ():
                value = self._evaluate(part, value)
                yield f"{name}.{part_name}", _array(value)
            value = value if is_block else self._evaluate(layer, value)
            yield name, _array(value)

    def logits(self, x: Images) -> NDArray[Any]:
        self.module.eval()
        own = pieces(self.group, len(x), self.tuning)
        found = [_array(self._evaluate(self.module, self.batch_tensor(x[piece]))) for piece in own]
        return whole(self.group, 0.0, found, len(x), self.architecture.classes)[1]

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        loss, _ = self._differentiate(x, y, masks)
        return loss, {name: _array(p.grad) for name, p in self.module.named_parameters()}

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        loss, logits = self._differentiate(x, y, masks)
        if math.isfinite(loss) and self.architecture.parameter_shapes():
            self._descend(lr, momentum)
        return StepResult(loss * len(y), int((logits.argmax(1) == y).sum()), len(y), logits)

    @torch.no_grad()
    def _descend(self, lr: float, momentum: float) -> None:
        """By what `torch.optim.SGD` calls; the class would import torch.compile first, which takes a second."""
        parameters = dict(self.module.named_parameters())
        gradients: Any = [parameter.grad for parameter in parameters.values()]
        velocities = [self.velocity_tensors.get(name) for name in parameters]
        sgd(
            list(parameters.values()),
            gradients,
            velocities,
            lr=lr,
            momentum=momentum,
            dampening=0.0,
            weight_decay=0.0,
            nesterov=False,
            maximize=False,
        )
        self.velocity_tensors = {name: v for name, v in zip(parameters, velocities, strict=True) if v is not None}

    def params(self) -> Params:
        return {name: _array(p) for name, p in self.module.named_parameters()}

    def velocities(self) -> Params:
        return {name: _array(velocity) for name, velocity in self.velocity_tensors.items()}

    def restore(self, params: Params, velocities: Params) -> None:
        self.velocity_tensors = {}
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(torch.from_numpy(np.array(params[name], np.float32)))
                if name in velocities:
                    velocity = torch.from_numpy(np.array(velocities[name], np.float32))
                    self.velocity_tensors[name] = torch.empty_like(parameter).copy_(velocity)

    def resident(
        self, images: NDArray[np.uint8], labels: Labels, resampling: tuple[Resampling | None, Resampling | None]
    ) -> ResidentSplit | None:
        if self.tuning.get("data") != "resident" or not self.architecture.parameter_shapes() or self.group.size > 1:
            return None
        for known, resident in self._residents:
            if known is images:
                return resident
        self._residents.append((images, put_on_device(self, images, labels, resampling)))
        return self._residents[-1][1]

    def share(self, group: Group) -> None:
        self.group = group
        with losses(group):
            self._training = DistributedDataParallel(self._training)
        # It would take the mean of the workers' gradients, and these are shares of a sum.
        self._training.register_comm_hook(None, lambda _, bucket: _sum_of_gradients(bucket.buffer()))

    def _differentiate(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, NDArray[Any]]:
        """Mean loss and logits (N, classes); the gradients are added up in the parameters' `grad`."""
        self.module.train()
        self.module.zero_grad(set_to_none=True)
        total, logits = 0.0, []
        own = pieces(self.group, len(y), self.tuning)
        # Whoever has no rows takes part with a share of nothing: the others wait for its gradients.
        for number, piece in enumerate(own or [slice(0, 1)], start=1):
            given = None if masks is None else {name: self.batch_tensor(mask[piece]) for name, mask in masks.items()}
            with self._summing(number >= len(own)), losses(self.group):
                with self.autocast():
                    found = self._training(self.batch_tensor(x[piece]), given)
                labels = torch.from_numpy(y[piece]).to(self.device, torch.int64)
                share = (piece.stop - piece.start) / len(y) if own else 0.0
                loss = share * F.cross_entropy(found.float(), labels, reduction="mean", label_smoothing=0.0)
                if loss.requires_grad:  # a net without parameters has a loss, and nothing to differentiate by
                    loss.backward()
            total += float(loss.detach())
            logits.append(found.detach().float().cpu().numpy())
        return whole(self.group, total, logits[: len(own)], len(y), self.architecture.classes)

    def _summing(self, is_last: bool) -> AbstractContextManager[None]:
        """Gradients travel once a step, when the last micro-batch has added its own."""
        held_back: AbstractContextManager[None] = (
            nullcontext() if self.group.size == 1 or is_last else self._training.no_sync()
        )
        return held_back

    def _for_training(self, layer: nn.Module) -> Any:
        """torch.compile fuses what stands around the products; a dropout's own draw stays torch's."""
        compiles = self.tuning.get("compile") == "on" and not isinstance(layer, nn.Dropout)
        return torch.compile(layer, dynamic=False) if compiles else layer

    def _evaluate(self, layer: nn.Module, x: Tensor) -> Tensor:
        with torch.inference_mode(), self.autocast():
            result: Tensor = layer(x)
        return result

    def batch_tensor(self, array: NDArray[np.float32]) -> Tensor:
        """On the device, and in the layout in memory that the net works in."""
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor.to(memory_format=self._layout) if tensor.dim() == 4 else tensor

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bf16)


def _array(tensor: Tensor | None) -> NDArray[np.float32]:
    """A copy in NumPy, (N, C, H, W) whatever the tensor's layout in memory."""
    assert tensor is not None, "a parameter that takes no part in the loss"
    copy: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()
    return copy


class _Training(nn.Module):
    """Training mode, with the harness's dropout masks in place of the framework's own draw, if there are any."""

    def __init__(self, net: nn.Module, layers: Mapping[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.layers = layers  # of that net, perhaps compiled

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None) -> Tensor:
        for name, layer in self.layers.items():
            mask = masks[name] if masks is not None and isinstance(layer, nn.Dropout) else None
            x = layer(x) if mask is None else x * mask
        return x


def _sum_of_gradients(bucket: Tensor) -> torch.futures.Future[Tensor]:
    summed: torch.futures.Future[Any] = distributed.all_reduce(bucket, async_op=True).get_future()
    return summed.then(lambda future: future.value()[0])
