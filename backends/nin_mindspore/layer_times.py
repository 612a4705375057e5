"""MindSpore's layers and the time of one, forward and backward, for `nin_multi.layer_times`; not what it computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import mindspore
from mindspore import Tensor, nn, ops

from nin_mindspore.network import MindSporeNetwork
from nin_multi.backend import Images


def enter(network: MindSporeNetwork, images: Images) -> Any:
    """The images as they come to the first layer; the net is in training mode from here on."""
    network.net.set_train(True)
    return network.net.enter(Tensor(images))


def layers(network: MindSporeNetwork) -> Iterator[tuple[str, Any]]:
    """The layers, those in blocks one by one, by their dotted names."""
    return _leaves(network.net.layers, "")


def _leaves(net: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, layer in net.name_cells().items():
        if isinstance(layer, nn.SequentialCell):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def timed_pass(network: MindSporeNetwork, layer: Any, x: Any, *, is_first: bool) -> Callable[[], tuple[float, float]]:
    """A function that goes through one layer and back, and returns the seconds of both ways.

    A compiled graph goes both ways or only forward, so the way back is what the first takes longer than the second.
    """
    weights, by_input = tuple(layer.trainable_params()), not is_first
    forward, both = mindspore.jit(_there(layer)), None
    ones = ops.ones_like(layer(x))
    if by_input or weights:
        both = mindspore.jit(_there_and_back(layer, weights, by_input=by_input))

    def once() -> tuple[float, float]:
        there = _seconds(forward, x)
        return there, 0.0 if both is None else max(_seconds(both, x, ones) - there, 0.0)

    return once


def output(network: MindSporeNetwork, layer: Any, x: Any) -> Any:
    """What comes to the next layer, with nothing behind it to go back to."""
    return layer(x)


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
