"""Where values that are no numbers begin; not what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nin_multi.backend import Images, Network, Params
from nin_multi.training.progress import NotFinite


def first_broken(params: Params) -> str | None:
    """The layer nearest to the loss whose parameters are not all finite: where a gradient overflowed first.

    Gradients come from the loss, and carry what is no number on to every layer before.
    """
    broken = [name for name, value in params.items() if not np.isfinite(value).all()]
    return broken[-1].rpartition(".")[0] if broken else None


def blame(error: NotFinite, network: Network, batches: Iterable[Images]) -> NotFinite:
    """The same error, with the layer where it began.

    The network's parameters are those before the step (`Network.train_step`); `batches` hold the images it was about.
    """
    if (layer := first_broken(network.params())) is not None:
        text = f"{error}: the parameters of layer {layer!r} are no numbers since an earlier step"
        return NotFinite(text, layer)
    for x in batches:
        for name, value in network.activations(x):
            if not np.isfinite(value).all():
                return NotFinite(f"{error}: layer {name!r} gives the first values that are no numbers", name)
    return NotFinite(f"{error}: in training only; in evaluation, without dropout, every layer gives numbers")
