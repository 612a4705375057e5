"""How long each layer of an adapter's net takes alone, on what comes to it in training; not how one is timed.

What a layer is, and a pass through it by the clock, is the framework's: its adapter says it in its own
`layer_times.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from nin_multi.backend import Images, Network
from nin_multi.knobs import Tuning, micro_batches


class TimesLayers(Protocol):
    """What an adapter's module `layer_times` holds, in the framework's own kinds of arrays and layers."""

    def enter(self, network: Any, images: Images) -> Any:
        """The images as they come to the first layer; the net is in training mode from here on."""

    def layers(self, network: Any) -> Iterator[tuple[str, Any]]:
        """The layers, those in blocks one by one, by their dotted names."""

    def timed_pass(self, network: Any, layer: Any, x: Any, *, is_first: bool) -> Callable[[], tuple[float, float]]:
        """A function that goes through one layer and back, and returns the seconds of both ways.

        Of images, training takes no gradient: where `is_first`, the way back is to the layer's own parameters only,
        and without any it takes 0.0.
        """

    def output(self, network: Any, layer: Any, x: Any) -> Any:
        """What comes to the next layer, with nothing behind it to go back to."""


def layer_times(
    framework: TimesLayers, network: Network, x: Images, tuning: Tuning, *, warm_up: int, repeats: int
) -> Iterator[tuple[str, float, float]]:
    """Name, seconds forward, seconds backward: medians of `repeats`, after `warm_up` that do not count.

    One piece of the batch goes through, as in training; the seconds are those of all pieces.
    """
    piece = micro_batches(len(x), {"micro_batch": "all", **tuning})[0]
    pieces = len(x) / (piece.stop - piece.start)
    value = framework.enter(network, x[piece])
    is_first = True
    for name, layer in framework.layers(network):
        once = framework.timed_pass(network, layer, value, is_first=is_first)
        times = [once() for _ in range(warm_up + repeats)][warm_up:]
        forward, backward = (pieces * statistics.median(way) for way in zip(*times, strict=True))
        yield name, forward, backward
        value = framework.output(network, layer, value)
        is_first = False
