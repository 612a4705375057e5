"""Twenty steps of training as `train` does them: every framework's loss curve is the oracle's; not single values."""

from __future__ import annotations

import numpy as np
import pytest

from nin_multi import randomness, registry
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.spec import Architecture, Dropout
from nin_multi.training import loop
from nin_multi.training.recipe import Recipe

STEPS, BATCH = 20, 32


def with_dropout(architecture: Architecture, rate: float) -> Architecture:
    """The same net, with another rate in every dropout: at 0.5, keeping and dropping look alike."""
    layers = [
        layer.model_copy(update={"rate": rate}) if isinstance(layer, Dropout) else layer
        for layer in architecture.layers
    ]
    changed = Architecture.model_validate({**architecture.model_dump(), "layers": layers})
    assert [found for found, _ in changed.dropouts().values()] == [rate] * len(architecture.dropouts())
    return changed


@pytest.fixture(scope="module")
def images() -> Dataset:
    return synthetic_dataset(STEPS * BATCH, 1)


def test_twenty_steps_with_dropout_follow_the_oracle(backend: Backend, images: Dataset) -> None:
    architecture = with_dropout(load_architecture("nin-mnist"), 0.2)
    recipe = Recipe(epochs=1, batch_size=BATCH)
    curves = []
    for framework in (backend, registry.load("numpy")):
        params = randomness.initial_parameters(architecture, recipe.seed, recipe.init)
        network = framework.build(architecture, params, device="cpu", precision=framework.precisions[0])
        losses: list[float] = []
        for batch in loop.batches_of(images, architecture, recipe, epoch=0):
            result = network.train_step(batch.x, batch.y, batch.masks, recipe.lr, recipe.momentum)
            losses.append(result.loss / result.count)
        curves.append(losses)
    assert len(curves[1]) == STEPS
    # Half of 1e-4: so two frameworks are within 1e-4 of each other.
    np.testing.assert_allclose(curves[0], curves[1], rtol=5e-5)
    furthest = float(np.max(np.abs(np.divide(*curves) - 1)))
    print(f"{backend.name}: furthest {furthest:.1e}, loss {curves[0][0]:.3f} to {curves[0][-1]:.3f}")
