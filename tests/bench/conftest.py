"""Jobs for the backend `numpy`, and images in files for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nin_multi.architecture_file import parse_architecture
from nin_multi.bench.job import Job, write_files
from nin_multi.data import synthetic_dataset
from nin_multi.spec import Architecture

TINY = """
name: tiny
input: [1, 8, 8]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""

MakeJob = Callable[..., Job]


@pytest.fixture
def tiny() -> Architecture:
    return parse_architecture(TINY)


@pytest.fixture
def job(tmp_path: Path, tiny: Architecture) -> MakeJob:
    """One for 20 training images in batches of 8; any field can be another."""
    (tmp_path / "files").mkdir()
    write_files(synthetic_dataset(20, 4), tmp_path / "files")

    def make(**fields: object) -> Job:
        usual: dict[str, object] = {"backend": "numpy", "precision": "fp64", "whats": ("harness", "step", "bare")}
        usual |= {"architecture": tiny, "batch_size": 8, "files": tmp_path / "files", "counts": (20, 4)}
        return Job(**{**usual, **fields})  # type: ignore[arg-type]

    return make
