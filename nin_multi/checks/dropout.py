"""A framework's own dropout, seen through the protocol alone: what share it drops, how it scales what it keeps.

In a net of one dropout and one linear layer, fed with ones, the gradient of the linear weight is the mask times the
gradient of the bias; so the mask of a draw that nobody shows can be read off.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Network, Params
from nin_multi.spec import Architecture

SIDE = 128  # of the probe's image


def dropout_probe(rate: float) -> tuple[Architecture, Params]:
    """The net, with linear weights of 0."""
    layers: list[dict[str, Any]] = [
        {"type": "dropout", "rate": rate},
        {"type": "flatten"},
        {"type": "linear", "out_features": 2},
    ]
    probe = Architecture.model_validate({"name": "dropout-probe", "input": [1, SIDE, SIDE], "layers": layers})
    return probe, {name: np.zeros(shape, np.float32) for name, shape in probe.parameter_shapes().items()}


def drawn_mask(network: Network) -> NDArray[np.float64]:
    """The mask of one training pass: SIDE x SIDE numbers."""
    _, gradients = network.loss_and_gradients(np.ones((1, 1, SIDE, SIDE), np.float32), np.zeros(1, np.int32), None)
    weight, bias = (np.asarray(value, np.float64) for value in gradients.values())
    with np.errstate(divide="ignore", invalid="ignore"):  # no gradient gives no mask, and that is a fault
        mask: NDArray[np.float64] = weight[0] / bias[0]
    return mask


def fault_of(masks: list[NDArray[np.float64]], rate: float) -> tuple[str, str, tuple[str, ...]] | None:
    """Expected, observed and causes, where two draws are not what dropout at this rate gives; else None."""
    mask = masks[0]
    share, kept = float((mask == 0).mean()), mask[mask != 0]
    scale = float(kept.mean()) if len(kept) else 0.0
    near = 6 * math.sqrt(rate * (1 - rate) / mask.size)  # six standard deviations of the share
    expected = f"a share of {rate:.3f} dropped, the rest times {1 / (1 - rate):.4g}"
    observed = f"a share of {share:.3f} dropped, the rest times {scale:.4g}"
    if abs(share - rate) <= near and np.allclose(kept, 1 / (1 - rate), rtol=1e-2):
        repeats = bool(rate) and np.array_equal(masks[0], masks[1])
        return (expected, "twice the same draw", ("its draws begin anew in each step",)) if repeats else None
    if share == 0 and np.allclose(kept, 1.0):
        return expected, observed, ("dropout does nothing in training: a mode switch is missing",)
    if abs(share - (1 - rate)) <= near and np.allclose(kept, 1 / rate, rtol=1e-2):
        return expected, observed, ("the rate is taken for the share that is kept",)
    if abs(share - rate) <= near and np.allclose(kept, 1.0, rtol=1e-2):
        return expected, observed, ("what dropout keeps is not divided by 1 - rate",)
    return expected, observed, ()
