"""What MXNet does without the harness: Gluon's training loop on one batch in memory, and its matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import mxnet as mx
from mxnet import autograd, gluon

from nin_multi.backend import Images, Labels
from nin_mxnet.network import MXNetNetwork


def bare_loop(network: MXNetNetwork, x: Images, y: Labels) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds they took."""
    net, context = network.module, network.context
    net.hybridize(static_alloc=True, static_shape=True)
    batch, labels = mx.nd.array(x, ctx=context), mx.nd.array(y, ctx=context)
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    parameters = list(net._collect_params_with_prefix().values())
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 0.01}, kvstore=None)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            with autograd.record():
                loss = loss_function(net(batch), labels)
            loss.backward()
            trainer.step(len(y))
            loss.mean().asscalar()
        mx.nd.waitall()
        return time.perf_counter() - began

    return run


def product(size: int, device: str, precision: str) -> Callable[[], float]:
    """A function that takes a product of two (size, size) matrices and returns the seconds it took."""
    kind, _, index = device.partition(":")
    context = mx.Context(kind, int(index or 0))
    a, b = mx.nd.ones((size, size), ctx=context), mx.nd.ones((size, size), ctx=context)

    def run() -> float:
        mx.nd.waitall()
        began = time.perf_counter()
        mx.nd.dot(a, b).wait_to_read()
        return time.perf_counter() - began

    return run
