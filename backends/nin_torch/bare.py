"""What PyTorch does without the harness: its training loop on one batch in memory, and its matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from nin_multi.backend import Images, Labels
from nin_torch.network import TorchNetwork


def bare_loop(network: TorchNetwork, x: Images, y: Labels) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds they took."""
    net, device = network.module, network.device
    batch, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device, torch.int64)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def run(steps: int) -> float:
        net.train()
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            with network.autocast():
                logits = net(batch)
            loss = loss_function(logits.float(), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        return time.perf_counter() - began

    return run


def product(size: int, device: str, precision: str) -> Callable[[], float]:
    """A function that takes a product of two (size, size) matrices and returns the seconds it took."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.ones(size, size, dtype=kind, device=device), torch.ones(size, size, dtype=kind, device=device)

    def run() -> float:
        _wait(a.device)
        began = time.perf_counter()
        torch.matmul(a, b)
        _wait(a.device)
        return time.perf_counter() - began

    return run


def _wait(device: torch.device) -> None:
    """A GPU works on behind our back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
