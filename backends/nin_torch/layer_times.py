"""PyTorch's layers and the time of one, forward and backward, for `nin_multi.layer_times`; not what it computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nin_multi.backend import Images
from nin_torch.network import TorchNetwork


def enter(network: TorchNetwork, images: Images) -> Tensor:
    """The images as they come to the first layer; the net is in training mode from here on."""
    network.module.train()
    return network.batch_tensor(images)


def layers(network: TorchNetwork) -> Iterator[tuple[str, nn.Module]]:
    """The layers, those in blocks one by one, by their dotted names."""
    yield from _leaves(network.module, "")


def _leaves(net: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in net.named_children():
        if isinstance(layer, nn.Sequential):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def timed_pass(
    network: TorchNetwork, layer: nn.Module, x: Tensor, *, is_first: bool
) -> Callable[[], tuple[float, float]]:
    """A function that goes through one layer and back, and returns the seconds of both ways."""
    x.requires_grad_(not is_first)

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


def output(network: TorchNetwork, layer: nn.Module, x: Tensor) -> Tensor:
    """What comes to the next layer, with nothing behind it to go back to."""
    with network.autocast():
        y: Tensor = layer(x)
    return y.detach()


def _wait(device: torch.device) -> None:
    """A GPU works on behind our back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
