"""The training loop as PyTorch people write it, on one batch in memory: what the harness is measured against."""

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
