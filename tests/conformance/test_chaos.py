"""Three kills in every backend; `make chaos` does a hundred, of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Chaos

from nin_multi.backend import Backend


def test_killed_runs_come_to_the_same_end(backend: Backend, tmp_path: Path) -> None:
    if backend.precisions[0] == "fp64":
        pytest.skip("checkpoints are float32, and this backend computes in float64")
    kinds = ("time", "half", "event")
    kills = list(Chaos(backend.name, tmp_path, seed=0).kills(len(kinds), kinds))
    assert [kill.problem for kill in kills] == [""] * len(kinds)
    assert len({kill.resumed_from for kill in kills}) > 1
