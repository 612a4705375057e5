"""The training loop as MindSpore people write it, on one batch in memory: what the harness is measured against."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mindspore
from mindspore import Tensor, nn

from nin_mindspore.network import MindSporeNetwork
from nin_multi.backend import Images, Labels


def bare_loop(network: MindSporeNetwork, x: Images, y: Labels) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds they took."""
    net = network.module
    batch, labels = Tensor(x), Tensor(y)
    loss_function = nn.CrossEntropyLoss()
    optimizer = nn.SGD(net.trainable_params(), learning_rate=0.01)

    def forward(batch: Any, labels: Any) -> Any:
        return loss_function(net(batch), labels)

    differentiate = mindspore.value_and_grad(forward, None, optimizer.parameters)

    def step(batch: Any, labels: Any) -> Any:
        loss, gradients = differentiate(batch, labels)
        optimizer(gradients)
        return loss

    compiled = mindspore.jit(step)

    def run(steps: int) -> float:
        net.set_train(True)
        began = time.perf_counter()
        for _ in range(steps):
            compiled(batch, labels).asnumpy()
        return time.perf_counter() - began

    return run
