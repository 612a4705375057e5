"""Training and evaluation on images that stay on the device, with nothing for the host to wait for in between.

On a GPU a step of some hundred kernels takes longer to ask for than to compute. So a whole step (batch, resize,
forward, loss, backward, SGD, sums) is captured once as a CUDA graph and then replayed; where it stands in the order of
images is a number on the device, which the step itself moves on. The same step runs without a graph on a CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from nin_multi.backend import Labels, Masks, Resampling, StepResult
from nin_multi.knobs import micro_batches
from nin_torch.pictures import Pictures, output_bytes

if TYPE_CHECKING:
    from nin_torch.network import TorchNetwork

_WARM_UPS = 3  # steps before a capture, in which cuDNN chooses, the compiler compiles and workspaces are made
_MOST_INDICES = 1 << 16  # of images loaded at a time, where a stretch has more than the set has images


class _Kind(NamedTuple):
    """What a captured step is fixed to."""

    size: int
    momentum: float
    masked: bool


class _State(NamedTuple):
    """Copies of all that a step changes."""

    values: list[Tensor]
    cpu_draws: Tensor
    cuda_draws: Tensor | None


def put_on_device(
    network: TorchNetwork,
    images: NDArray[np.uint8],
    labels: Labels,
    resampling: tuple[Resampling | None, Resampling | None],
) -> ResidentSplit:
    """A split where the network computes, resized once if that is chosen and there is room for it."""
    channels = network.architecture.input[0]
    probe = network.batch_tensor(np.zeros((1, 2, 2, 2), np.float32))
    once = network.tuning["resize"] == "once" and _has_room(
        network.device, output_bytes(len(images), network.architecture.input)
    )
    is_channels_last = probe.stride(1) == 1
    pictures = Pictures(images, channels, resampling, network.device, channels_last=is_channels_last, once=once)
    return ResidentSplit(network, pictures, labels)


def _has_room(device: torch.device, wanted: int) -> bool:
    """Whether so many bytes leave a GPU half of what is free, for the steps themselves."""
    return device.type != "cuda" or wanted <= torch.cuda.mem_get_info(device)[0] // 2


class ResidentSplit:
    """One split on the network's device; see `nin_multi.backend.Resident`."""

    def __init__(self, network: TorchNetwork, pictures: Pictures, labels: Labels) -> None:
        self._network, self._pictures = network, pictures
        self._device: torch.device = network.device
        self._on_gpu = self._device.type == "cuda"
        self._graphed = network.tuning.get("graph") == "on"
        if self._on_gpu and network.is_bf16:
            # Fastest instead of always the same kernel: in bf16, equal runs on a GPU are equal but for roundings.
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
        self._labels = torch.tensor(labels.astype(np.int64), device=self._device)  # (N,)
        capacity = max(len(labels), _MOST_INDICES)
        self._order = torch.zeros(capacity, dtype=torch.int64, device=self._device)
        self._numbers = torch.arange(capacity, device=self._device)
        self._position = torch.zeros((), dtype=torch.int64, device=self._device)  # of the next image in the order
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self._correct = torch.zeros((), dtype=torch.int64, device=self._device)
        self._masks: dict[int, dict[str, Tensor]] = {}  # by the batch's size
        self._lr = torch.zeros((), device=self._device)
        self._parameters: list[nn.Parameter] = list(network.module.parameters())
        self._velocities = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._optimizer = torch.optim.SGD(
            self._parameters, self._lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, fused=True
        )
        for parameter, velocity in zip(self._parameters, self._velocities, strict=True):
            self._optimizer.state[parameter]["momentum_buffer"] = velocity
        # Where this is 1, fused optimizers leave everything as it is: they have it for losses that were scaled.
        self._halted = torch.zeros((), device=self._device)
        self._optimizer.found_inf = self._halted  # type: ignore[attr-defined]
        self._graphs: dict[_Kind, torch.cuda.CUDAGraph] = {}
        self._forward: Any = _compiled(self._run_forward, network.tuning.get("compile", "off"))

    def train(
        self,
        batches: Sequence[NDArray[np.intp]],
        masks: Iterator[Masks] | None,
        lr: float | Sequence[float],
        momentum: float = 0.0,
    ) -> StepResult:
        rates = iter([lr] * len(batches) if isinstance(lr, float) else lr)
        with self._here():
            self._network.module.train()
            for value in (self._loss, self._correct):
                value.zero_()
            self._optimizer.param_groups[0]["momentum"] = momentum
            if momentum:
                self._share_velocities()
            for part in _parts(batches, len(self._order)):
                self._load(part)
                for chosen in part:
                    if masks is not None:
                        self._upload(next(masks), len(chosen))
                    self._lr.fill_(next(rates))
                    self._advance(_Kind(len(chosen), momentum, masks is not None))
            # Only here does the host wait for the device.
            return StepResult(float(self._loss), int(self._correct), sum(len(chosen) for chosen in batches))

    def logits(self, count: int | None = None) -> NDArray[Any]:
        together = 1000 if self._on_gpu else 128
        wanted = len(self._labels) if count is None else min(count, len(self._labels))
        whole = min(-(-wanted // together) * together, len(self._labels))  # few images, too, in the shape of many
        self._network.module.eval()
        with self._here(), torch.inference_mode(), self._autocast():
            parts = [
                self._network.module(self._pictures.take(chosen)).float()
                for chosen in torch.split(self._numbers[:whole], together)
            ]
            found: NDArray[Any] = torch.cat(parts)[:wanted].cpu().numpy()
        return found

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        with self._here():
            before = self._state()
            try:
                yield
            finally:
                self._put_back(before)

    # One step, and what it takes.

    def _advance(self, kind: _Kind) -> None:
        if not self._graphed:
            self._step(kind)
            return
        if kind not in self._graphs:
            self._graphs[kind] = self._capture(kind)
        self._graphs[kind].replay()

    def _step(self, kind: _Kind) -> None:
        """The whole of one step; everything in it stays on the device."""
        chosen = self._order.index_select(0, self._numbers[: kind.size] + self._position)
        for parameter in self._parameters:
            parameter.grad = None
        masks = self._masks[kind.size] if kind.masked else {}
        for piece in micro_batches(kind.size, self._network.tuning):
            # Without the cache of weights in bf16: a graph must not take one from before it.
            with self._autocast():
                loss, correct = self._forward(chosen[piece], {name: mask[piece] for name, mask in masks.items()})
            (loss / kind.size).backward()
            self._loss += loss.detach()
            self._correct += correct
        self._halted.copy_(~torch.isfinite(self._loss))
        self._optimizer.step()
        self._position += kind.size

    def _run_forward(self, chosen: Tensor, masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Of the images of these numbers: the sum of their losses, and how many are classified correctly."""
        x, y = self._pictures.take(chosen), self._labels.index_select(0, chosen)
        for name, layer in self._network.module.named_children():
            mask = masks.get(name)
            x = layer(x) if mask is None else x * mask
        loss = F.cross_entropy(x.float(), y, reduction="sum", label_smoothing=0.0)
        return loss, (x.argmax(1) == y).sum()

    def _load(self, batches: Sequence[NDArray[np.intp]]) -> None:
        indices = np.concatenate(batches).astype(np.int64)
        self._order[: len(indices)].copy_(torch.from_numpy(indices))
        self._position.zero_()

    def _upload(self, masks: Masks, size: int) -> None:
        """Into buffers that stay where they are: a graph reads its masks there."""
        if size not in self._masks:
            self._masks[size] = {name: self._network.batch_tensor(mask).clone() for name, mask in masks.items()}
        for name, buffer in self._masks[size].items():
            buffer.copy_(torch.from_numpy(masks[name]))

    def _share_velocities(self) -> None:
        """Go on from the network's velocities, and let it see ours; a graph's stay where they are in memory."""
        theirs = self._network.velocity_tensors
        for (name, _), velocity in zip(self._network.module.named_parameters(), self._velocities, strict=True):
            found = theirs.get(name)
            if found is None:
                velocity.zero_()
            elif found is not velocity:
                velocity.copy_(found)
            theirs[name] = velocity

    # CUDA graphs.

    def _capture(self, kind: _Kind) -> torch.cuda.CUDAGraph:
        """A graph of one step of this kind. What the steps on the way changed is as it was."""
        before = self._state()
        # Capturing is not allowed on the default stream.
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._position.zero_()  # so that no warm-up reads beyond what was loaded
                self._step(kind)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        for parameter in self._parameters:
            parameter.grad = None  # so that the gradients are the graph's own memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            self._step(kind)
        self._put_back(before)
        return graph

    def _changing(self) -> list[Tensor]:
        return [*self._parameters, *self._velocities, self._loss, self._correct, self._position]

    def _state(self) -> _State:
        copies = [value.detach().clone() for value in self._changing()]
        draws = torch.cuda.get_rng_state(self._device) if self._on_gpu else None
        return _State(copies, torch.get_rng_state(), draws)

    def _put_back(self, state: _State) -> None:
        with torch.no_grad():
            for value, copy in zip(self._changing(), state.values, strict=True):
                value.copy_(copy)
        torch.set_rng_state(state.cpu_draws)
        if state.cuda_draws is not None:
            torch.cuda.set_rng_state(state.cuda_draws, self._device)

    def _here(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self._device) if self._on_gpu else contextlib.nullcontext()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type, dtype=torch.bfloat16, enabled=self._network.is_bf16, cache_enabled=False
        )


def _compiled(forward: Any, how: str) -> Any:
    """`forward` through torch.compile; "max" also tries which kernel is the fastest for each product."""
    if how == "off":
        return forward
    # Convolutions stay ATen's: the compiler's own template was silently wrong for kernels larger than 1 x 1.
    options: dict[str, Any] = {"max_autotune_conv_backends": "ATEN", "max_autotune": how == "max"}
    return torch.compile(forward, dynamic=False, options=options)


def _parts(batches: Sequence[NDArray[np.intp]], most: int) -> Iterator[Sequence[NDArray[np.intp]]]:
    """Batches in groups of at most so many images."""
    first, count = 0, 0
    for number, chosen in enumerate(batches):
        if count + len(chosen) > most and number > first:
            yield batches[first:number]
            first, count = number, 0
        count += len(chosen)
    if first < len(batches):
        yield batches[first:]
