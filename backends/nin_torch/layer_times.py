"""How long each layer takes alone, forward and backward, on what comes to it in training; not what it computes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nin_multi.backend import Images, micro_batches
from nin_torch.network import TorchNetwork


def layer_times(network: TorchNetwork, x: Images, warm_up: int, repeats: int) -> Iterator[tuple[str, float, float]]:
    """Name, seconds forward, seconds backward: medians of `repeats`, after `warm_up` that do not count.

    One piece of the batch goes through, as in training; the seconds are those of all pieces.
    """
    piece = micro_batches(len(x), network.tuning)[0]
    pieces = len(x) / (piece.stop - piece.start)
    network.module.train()
    value = network.batch_tensor(x[piece])
    is_first = True  # of images, training takes no gradient
    for name, layer in network.module.named_modules():
        if isinstance(layer, nn.Sequential):
            continue
        value.requires_grad_(not is_first)
        once = _passes(network, layer, value)
        times = [once() for _ in range(warm_up + repeats)][warm_up:]
        yield name, *(pieces * statistics.median(way) for way in zip(*times, strict=True))
        with network.autocast():
            value = layer(value).detach()
        is_first = False


def _passes(network: TorchNetwork, layer: nn.Module, x: Tensor) -> Callable[[], tuple[float, float]]:
    """A function that goes through one layer and back, and returns the seconds of both ways."""

    def once() -> tuple[float, float]:
        x.grad = None
        layer.zero_grad(set_to_none=True)
        _wait(network.device)
        began = time.perf_counter()
        with network.autocast():
            y = layer(x)
        _wait(network.device)
        half = time.perf_counter()
        if not y.requires_grad:  # a first layer without parameters: there is no way back
            return half - began, 0.0
        ones = torch.ones_like(y)
        _wait(network.device)
        turned = time.perf_counter()
        y.backward(ones)
        _wait(network.device)
        return half - began, time.perf_counter() - turned

    return once


def _wait(device: torch.device) -> None:
    """A GPU works on behind our back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
