"""What MindSpore does without the harness: its training loop on one batch in memory, and its matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mindspore
from mindspore import Tensor, nn, ops

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


def product(size: int, device: str, precision: str) -> Callable[[], float]:
    """A function that takes a product of two (size, size) matrices and returns the seconds it took.

    Whatever the precision, the matrices are float32: another arithmetic comes by oneDNN's environment.
    """
    a, b = ops.ones((size, size), mindspore.float32), ops.ones((size, size), mindspore.float32)

    def multiply(a: Any, b: Any) -> Any:
        c = ops.matmul(a, b)
        return c[0, :1], c

    compiled = mindspore.jit(multiply)

    def run() -> float:
        began = time.perf_counter()
        compiled(a, b)[0].asnumpy()  # a small part, to wait for
        return time.perf_counter() - began

    return run
