"""A few kills in every backend; `make chaos` does a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import KINDS, Chaos

from nin_multi.backend import Backend


def test_killed_runs_come_to_the_same_end(backend: Backend, tmp_path: Path) -> None:
    if backend.precisions[0] == "fp64":
        pytest.skip("checkpoints are float32, and this backend computes in float64")
    kills = list(Chaos(backend.name, tmp_path, seed=0).kills(len(KINDS)))
    assert [kill.problem for kill in kills] == [""] * len(KINDS)
    assert len({kill.resumed_from for kill in kills}) > 1
