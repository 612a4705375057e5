"""Gluon's layers and the time of one, forward and backward, for `nin_multi.layer_times`; not what it computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import nn

from nin_multi.backend import Images
from nin_mxnet.network import MXNetNetwork


def enter(network: MXNetNetwork, images: Images) -> Any:
    """The images as they come to the first layer."""
    return mx.nd.array(images, ctx=network.context)


def layers(network: MXNetNetwork) -> Iterator[tuple[str, Any]]:
    """The layers, those in blocks one by one, by their dotted names."""
    return _leaves(network.module, "")


def _leaves(net: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, layer in net._children.items():
        if isinstance(layer, nn.HybridSequential):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def timed_pass(network: MXNetNetwork, layer: Any, x: Any, *, is_first: bool) -> Callable[[], tuple[float, float]]:
    """A function that goes through one layer and back, and returns the seconds of both ways."""
    has_way_back = not is_first or len(layer.collect_params().keys()) > 0
    if not is_first:
        x.attach_grad()

    def once() -> tuple[float, float]:
        mx.nd.waitall()  # MXNet works on behind our back
        began = time.perf_counter()
        with autograd.record(train_mode=True):
            y = layer(x)
        mx.nd.waitall()
        half = time.perf_counter()
        if not has_way_back:  # a first layer without parameters
            return half - began, 0.0
        ones = mx.nd.ones_like(y)
        mx.nd.waitall()
        turned = time.perf_counter()
        y.backward(ones)
        mx.nd.waitall()
        return half - began, time.perf_counter() - turned

    return once


def output(network: MXNetNetwork, layer: Any, x: Any) -> Any:
    """What comes to the next layer, with nothing behind it to go back to."""
    with autograd.train_mode():
        return layer(x)
