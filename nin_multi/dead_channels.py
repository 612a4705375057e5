"""Which channels of a net give nothing, whatever it is shown; not why, and not what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Network
from nin_multi.data.batches import prepare
from nin_multi.spec import Architecture, ReLU, SKBlock

AT_ONCE = 50  # images: the chapter's first layer makes 56 MB of them


@dataclass(frozen=True)
class Look:
    """A net itself over some test images: behind each ReLU channels and those that are always 0, and such logits."""

    images: int
    layers: list[dict[str, Any]]
    dead: list[int]


def look_into(network: Network, architecture: Architecture, images: NDArray[np.uint8], labels: int) -> Look:
    """Which channels, and which of so many logits, are 0 for every image and position, in evaluation mode."""
    relus = [row for row in architecture.walk() if isinstance(row.layer, ReLU | SKBlock)]  # whose branches end in ReLUs
    last = architecture.trace()[-1].name
    alive: dict[str, NDArray[np.bool_]] = {}
    for start in range(0, len(images), AT_ONCE):
        for name, value in network.activations(prepare(images[start : start + AT_ONCE], architecture)):
            seen = (value != 0).any(axis=(0, *range(2, value.ndim)))
            alive[name] = seen | alive.get(name, seen)
    layers = [
        {"name": row.name, "channels": row.output[1], "dead": int(np.count_nonzero(~alive[row.name]))} for row in relus
    ]
    return Look(len(images), layers, np.flatnonzero(~alive[last][:labels]).tolist())
