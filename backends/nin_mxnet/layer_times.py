"""How long each layer takes alone, forward and backward, on what comes to it in training; not what it computes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import nn

from nin_multi.backend import Images, micro_batches
from nin_mxnet.network import MXNetNetwork


def layer_times(network: MXNetNetwork, x: Images, warm_up: int, repeats: int) -> Iterator[tuple[str, float, float]]:
    """Name, seconds forward, seconds backward: medians of `repeats`, after `warm_up` that do not count.

    One piece of the batch goes through, as in training; the seconds are those of all pieces.
    """
    piece = micro_batches(len(x), network.tuning)[0]
    pieces = len(x) / (piece.stop - piece.start)
    value = mx.nd.array(x[piece], ctx=network.context)
    is_first = True  # of images, training takes no gradient
    for name, layer in _leaves(network.module, ""):
        if not is_first:
            value.attach_grad()
        once = _passes(layer, value, has_way_back=not is_first or len(layer.collect_params().keys()) > 0)
        times = [once() for _ in range(warm_up + repeats)][warm_up:]
        yield name, *(pieces * statistics.median(way) for way in zip(*times, strict=True))
        with autograd.train_mode():
            value = layer(value)
        is_first = False


def _leaves(net: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The layers, those in blocks one by one, by their dotted names."""
    for name, layer in net._children.items():
        if isinstance(layer, nn.HybridSequential):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def _passes(layer: Any, x: Any, *, has_way_back: bool) -> Callable[[], tuple[float, float]]:
    """A function that goes through one layer and back, and returns the seconds of both ways."""

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
