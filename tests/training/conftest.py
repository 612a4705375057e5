"""Two tiny architectures, a few synthetic images, and runs of them with the backend `numpy`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Architecture
from nin_multi.training.display import Display, Silent
from nin_multi.training.job import Job
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import train
from nin_multi.training.run_directory import RunDirectory

Run = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture(scope="session")
def softmax() -> Architecture:
    """One linear layer after dropout: small enough to be differentiated by hand."""
    layers = [{"type": "flatten"}, {"type": "dropout", "rate": 0.2}, {"type": "linear", "out_features": 10}]
    return Architecture.model_validate({"name": "softmax", "input": (1, 8, 8), "layers": layers})


@pytest.fixture(scope="session")
def tiny() -> Architecture:
    """One block, as in the chapter's net."""
    layers = [
        {"type": "nin_block", "out_channels": 10, "kernel_size": 3, "stride": 2},
        {"type": "dropout", "rate": 0.5},
        {"type": "global_avg_pool2d"},
        {"type": "flatten"},
    ]
    return Architecture.model_validate({"name": "tiny", "input": (1, 8, 8), "layers": layers})


@pytest.fixture(scope="session")
def data() -> Dataset:
    return synthetic_dataset(64, 23)


@pytest.fixture
def make_run(tmp_path: Path, tiny: Architecture, data: Dataset) -> Run:
    """Train into a directory below tmp_path; gives the result and the directory."""

    def run(
        name: str = "run",
        architecture: Architecture = tiny,
        dataset: Dataset = data,
        display: Display | None = None,
        **recipe: Any,
    ) -> tuple[dict[str, Any], Path]:
        settings = Recipe(**{"epochs": 2, "batch_size": 10, **recipe})
        job = Job(NumpyBackend(), "cpu", "fp64", architecture, dataset, settings)
        result = train(job, RunDirectory.create(tmp_path / name), display or Silent())
        return result, tmp_path / name

    return run


@pytest.fixture(scope="session")
def read_json() -> Callable[[str], Any]:
    """Reads JSON text, refusing the NaN and Infinity that are not JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return lambda text: json.loads(text, parse_constant=refuse)
