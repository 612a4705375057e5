"""Where values that are no numbers begin, and that nothing good is lost to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import randomness
from nin_multi.data import Dataset
from nin_multi.oracle import NumpyBackend, NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.training.cadence import Cadence
from nin_multi.training.checkpoint import load_checkpoint, save_checkpoint
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.nonfinite import blame, first_broken
from nin_multi.training.progress import NotFinite, start
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def _network(tiny: Architecture, **broken: float) -> NumpyNetwork:
    params: dict[str, Any] = {
        name: value.astype(np.float64) for name, value in randomness.initial_parameters(tiny, 0).items()
    }
    for name, value in broken.items():
        params[name.replace("__", ".")].flat[0] = value
    return NumpyNetwork(tiny, params)


def _images(tiny: Architecture) -> np.ndarray:
    return np.ones((3, *tiny.input), np.float32)


def test_the_layer_whose_values_overflow(tiny: Architecture) -> None:
    network = _network(tiny, block1__conv__weight=1e38)
    huge = _images(tiny).astype(np.float64) * 1e300
    error = blame(NotFinite("the loss is inf at step 3"), network, [_images(tiny), huge])
    assert error.layer == "block1.conv"
    assert str(error) == "the loss is inf at step 3: layer 'block1.conv' gives the first values that are no numbers"


def test_parameters_that_are_none_come_first(tiny: Architecture) -> None:
    """Of several the one nearest to the loss, where the gradient overflowed."""
    network = _network(tiny, block1__conv__weight=np.nan, block1__mlp1__bias=np.inf)
    error = blame(NotFinite("the loss is nan at step 3"), network, [_images(tiny)])
    assert error.layer == "block1.mlp1"
    assert "the parameters of layer 'block1.mlp1' are no numbers since an earlier step" in str(error)
    assert first_broken(_network(tiny).params()) is None


def test_in_training_only(tiny: Architecture) -> None:
    error = blame(NotFinite("the loss is nan at step 3"), _network(tiny), [_images(tiny)])
    assert error.layer is None
    assert "in training only" in str(error)


def test_no_checkpoint_of_parameters_that_are_none(tiny: Architecture, data: Dataset, tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    progress = start(data, Recipe())
    with pytest.raises(NotFinite, match=r"after step 0 the parameters of layer 'block1.mlp2' are no numbers") as caught:
        save_checkpoint(directory, _network(tiny, block1__mlp2__weight=np.nan), tiny, progress, {})
    assert caught.value.layer == "block1.mlp2"
    assert directory.checkpoints() == []


def test_the_last_good_checkpoint_is_kept(tiny: Architecture, data: Dataset, tmp_path: Path) -> None:
    """The rate rises until the loss overflows; what was written before is whole, and can be gone on from."""
    recipe = Recipe(epochs=2, batch_size=10, lr=1e24, warm_up=10**9)
    job = Job(NumpyBackend(), "cpu", "fp64", tiny, data, recipe, cadence=Cadence(1, None))
    directory = RunDirectory.create(tmp_path / "run")
    result = train(job, directory, Silent())
    assert result["status"] == "diverged"
    kept = directory.checkpoints()
    assert kept
    checkpoint = load_checkpoint(kept[-1], tiny, recipe, job.data_sha256)
    assert all(np.isfinite(value).all() for value in checkpoint.params.values())
    assert f"Kept: its state after step {checkpoint.step:,}; to go on: nin_multi train --resume" in result["reason"]
    assert resume(job, directory, Silent())["status"] == "diverged"  # the same end again
