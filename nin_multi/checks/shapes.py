"""The shapes that the specification expects of every layer, and those that a framework's net shows; not its values."""

from __future__ import annotations

import numpy as np

from nin_multi import randomness
from nin_multi.backend import Backend
from nin_multi.randomness import Purpose
from nin_multi.spec import Architecture, Shape


def expected_shapes(architecture: Architecture, batch: int = 1) -> dict[str, Shape]:
    """Output shape of every layer by its dotted name, those inside blocks before the block, from the spec alone."""
    return {row.name: row.output for row in architecture.walk(batch)}


def observed_shapes(
    backend: Backend, architecture: Architecture, *, device: str, batch: int = 1, seed: int = 0
) -> dict[str, Shape]:
    """The same, as seen in the framework's net while one random batch goes through it.

    Raises BackendUnavailable, UnsupportedLayer.
    """
    params = randomness.initial_parameters(architecture, seed)
    network = backend.build(architecture, params, device=device, precision=backend.precisions[0])
    x = randomness.uniform((batch, *architecture.input), seed=seed, purpose=Purpose.INPUT)
    return {name: tuple(value.shape) for name, value in network.activations(x.astype(np.float32))}
