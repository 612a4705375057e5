"""How long each layer takes alone, forward and backward, on what comes to it in training; not what it computes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import mindspore
from mindspore import Tensor, nn, ops

from nin_mindspore.network import MindSporeNetwork
from nin_multi.backend import Images, micro_batches


def layer_times(network: MindSporeNetwork, x: Images, warm_up: int, repeats: int) -> Iterator[tuple[str, float, float]]:
    """Name, seconds forward, seconds backward: medians of `repeats`, after `warm_up` that do not count.

    One piece of the batch goes through, as in training; the seconds are those of all pieces.
    """
    piece = micro_batches(len(x), network.tuning)[0]
    pieces = len(x) / (piece.stop - piece.start)
    network.net.set_train(True)
    value = network.net.enter(Tensor(x[piece]))
    is_first = True  # of images, training takes no gradient
    for name, layer in _leaves(network.net.layers, ""):
        once = _passes(layer, value, by_input=not is_first)
        times = [once() for _ in range(warm_up + repeats)][warm_up:]
        yield name, *(pieces * statistics.median(way) for way in zip(*times, strict=True))
        value = layer(value)
        is_first = False


def _leaves(net: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The layers, those in blocks one by one, by their dotted names."""
    for name, layer in net.name_cells().items():
        if isinstance(layer, nn.SequentialCell):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def _passes(layer: Any, x: Any, *, by_input: bool) -> Callable[[], tuple[float, float]]:
    """A function that goes through one layer and back, and returns the seconds of both ways.

    A compiled graph goes both ways or only forward, so the way back is what the first takes longer than the second.
    """
    weights = tuple(layer.trainable_params())
    forward, both = mindspore.jit(_there(layer)), None
    ones = ops.ones_like(layer(x))
    if by_input or weights:
        both = mindspore.jit(_there_and_back(layer, weights, by_input=by_input))

    def once() -> tuple[float, float]:
        there = _seconds(forward, x)
        return there, 0.0 if both is None else max(_seconds(both, x, ones) - there, 0.0)

    return once


def _there(layer: Any) -> Any:
    """A small part of the output, to wait for, and the output."""

    def run(x: Any) -> Any:
        y = layer(x)
        return y.reshape(-1)[:1], y

    return run


def _there_and_back(layer: Any, weights: tuple[Any, ...], *, by_input: bool) -> Any:
    """Likewise with the gradients: the output is there too, so that no part of the forward pass can be left out."""
    differentiate = ops.GradOperation(get_all=by_input, get_by_list=bool(weights), sens_param=True)

    def run(x: Any, ones: Any) -> Any:
        y = layer(x)
        gradient = differentiate(layer, weights) if weights else differentiate(layer)
        return y.reshape(-1)[:1], y, gradient(x, ones)

    return run


def _seconds(graph: Any, *arguments: Any) -> float:
    began = time.perf_counter()
    graph(*arguments)[0].asnumpy()  # MindSpore may work on behind our back
    return time.perf_counter() - began
