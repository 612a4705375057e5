"""Recording what the layers give changes nothing in a run: weights, velocities, draws; every framework."""

from __future__ import annotations

from pathlib import Path

import pytest

from nin_multi.architecture_file import parse_architecture
from nin_multi.backend import Backend
from nin_multi.data import synthetic_dataset
from nin_multi.training import run
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import RunDirectory

SMALL = parse_architecture("""
name: small
input: [1, 12, 12]
layers:
  - {type: nin_block, out_channels: 12, kernel_size: 3}
  - {type: max_pool2d, kernel_size: 3, stride: 2}
  - {type: dropout, rate: 0.3}
  - {type: nin_block, out_channels: 10, kernel_size: 3}
  - {type: global_avg_pool2d}
  - {type: flatten}
""")


def _train(backend: Backend, folder: Path, dropout: str, **knobs: str) -> list[bytes]:
    recipe = Recipe(epochs=2, batch_size=16, momentum=0.9, lr=0.02, init="he", dropout=dropout)
    job = Job(backend, "cpu", backend.precisions[0], SMALL, synthetic_dataset(96, 70), recipe, knobs)
    directory = RunDirectory.create(folder)
    result = run.train(job, directory, Silent())
    assert (result["status"], result["steps"]) == ("done", 12)
    return [(folder / "weights.safetensors").read_bytes(), directory.checkpoints()[0].read_bytes()[-1000:]]


def _recorded(run: Path) -> int:
    return sum(bool(event.get("layers")) for event in RunDirectory.open(run).events())


def _ways(backend: Backend) -> list[dict[str, str]]:
    knobs = backend.knobs(SMALL, device="cpu", precision=backend.precisions[0])
    return [{}, *({"data": "resident"} for knob in knobs if knob.name == "data" and "resident" in knob.values)]


@pytest.mark.parametrize("dropout", ["shared", "native"])
def test_it_changes_nothing(backend: Backend, dropout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, knobs in enumerate(_ways(backend)):
        recorded = _train(backend, tmp_path / f"recorded{number}", dropout, **knobs)
        with monkeypatch.context() as patch:
            patch.setattr(run, "describe_layers", lambda *_: {})
            assert _train(backend, tmp_path / f"plain{number}", dropout, **knobs) == recorded
        assert [_recorded(tmp_path / f"{name}{number}") for name in ("recorded", "plain")] == [3, 0]
