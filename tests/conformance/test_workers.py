"""`train --workers` in every framework: the same numbers as one worker, and what becomes of a run whose worker dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nin_multi.backend import Backend
from nin_multi.weights import load_weights
from nin_multi.workers.seat import look

NET = """
name: small
input: [1, 12, 12]
layers:
  - {type: nin_block, out_channels: 8, kernel_size: 3, mlp_channels: [8, 8]}
  - {type: max_pool2d, kernel_size: 2, stride: 2}
  - {type: dropout, rate: 0.5}
  - {type: nin_block, out_channels: 10, kernel_size: 3, padding: 1, mlp_channels: [8, 10]}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""
STEPS, EPOCHS, BATCH = 5, 12, 16  # so few in an epoch that every step is a point of the curve
EXAMPLES = BATCH * (STEPS - 1) + 1  # the last batch has fewer images than there are workers
FIRST = 20  # steps
PATIENCE = 240.0


class Runs:
    """Runs of one backend; each of them is made once."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend, self.folder = backend, folder
        (folder / "small.yaml").write_text(NET)

    def whole(self, workers: int) -> Path:
        path = self.folder / f"with-{workers}"
        if not path.exists():
            ended = self.start(path, workers)
            said, _ = ended.communicate(timeout=PATIENCE)
            assert ended.returncode == 0, said
            assert json.loads(said.splitlines()[-1])["workers"] == workers
        return path

    def start(self, path: Path, workers: int, **variables: str) -> subprocess.Popen[str]:
        words = ["train", "--backend", self.backend, "--arch", str(self.folder / "small.yaml")]
        words += ["--dataset", "synthetic", "--train-examples", str(EXAMPLES), "--test-examples", "33"]
        words += ["--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--recipe", "dependable", "--tune", "off"]
        words += ["--checkpoint-every", "2", "--run-dir", str(path), "--workers", str(workers)]
        return self.command(*words, **variables)

    def tasks(self, path: Path, job: int) -> list[subprocess.Popen[str]]:
        """Two processes with the variables that Slurm's srun sets."""
        alike = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
        alike |= {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "node7"}
        return [self.start(path, 2, **alike, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]

    def command(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TMPDIR": str(self.folder), **variables}
        line = [sys.executable, "-m", "nin_multi", *words, "--json"]
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def runs(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    if backend.name not in _made:
        _made[backend.name] = Runs(backend.name, tmp_path_factory.mktemp(f"workers-{backend.name}"))
    return _made[backend.name]


_made: dict[str, Runs] = {}


def losses(path: Path) -> list[float]:
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "step"]


def test_two_workers_compute_what_one_computes(runs: Runs) -> None:
    alone, both = runs.whole(1), runs.whole(2)
    assert len(losses(alone)) >= FIRST
    np.testing.assert_allclose(losses(both)[:FIRST], losses(alone)[:FIRST], rtol=1e-5)
    accuracies = [json.loads((path / "result.json").read_text())["test_acc"] for path in (alone, both)]
    assert accuracies[0] == accuracies[1]
    assert [json.loads((path / "run.json").read_text())["workers"] for path in (alone, both)] == [1, 2]


def test_a_killed_worker_ends_the_run_and_nothing_is_lost(runs: Runs) -> None:
    path, victim = runs.folder / "killed", 1
    process = runs.start(path, 2)
    pid = process_of(victim, runs.folder, path, process)
    os.kill(pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=PATIENCE)
    error = json.loads(said.splitlines()[-1])["error"]
    assert process.returncode == error["exit_status"] == 3
    first, kept = error["message"].splitlines()
    assert first.startswith(f"{runs.backend}: worker {victim} of 2 (process {pid}) ended without a word")
    assert kept.startswith("Kept: its state after step ")
    assert kept.endswith(f"nin_multi train --resume {path}")
    resumed = runs.command("train", "--resume", str(path))
    said, _ = resumed.communicate(timeout=PATIENCE)
    assert resumed.returncode == 0, said
    assert json.loads(said.splitlines()[-1])["workers"] == 2
    for name, value in load_weights(runs.whole(2) / "weights.safetensors").params.items():
        np.testing.assert_array_equal(load_weights(path / "weights.safetensors").params[name], value)
    assert losses(path) == losses(runs.whole(2))


@pytest.mark.long
def test_tasks_of_slurm_are_workers(runs: Runs) -> None:
    """Slurm gives them cores, and so threads, in its own way: the last bits may differ."""
    path = runs.folder / "tasks"
    for task in runs.tasks(path, job=1):
        said, _ = task.communicate(timeout=PATIENCE)
        assert task.returncode == 0, said
    np.testing.assert_allclose(losses(path), losses(runs.whole(2)), rtol=1e-6)


@pytest.mark.long
def test_a_task_of_slurm_that_is_killed_is_missed(runs: Runs) -> None:
    path = runs.folder / "missed"
    first, second = runs.tasks(path, job=2)
    ends = time.monotonic() + PATIENCE
    while not any((path / "checkpoints").glob("step-*.safetensors")) and time.monotonic() < ends:
        time.sleep(0.02)
    second.kill()
    second.communicate(timeout=PATIENCE)
    said, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 3, said
    assert "has lost" in said
    resumed = runs.command("train", "--resume", str(path))
    said, _ = resumed.communicate(timeout=PATIENCE)
    assert resumed.returncode == 0, said
    np.testing.assert_allclose(losses(path), losses(runs.whole(2)), rtol=1e-6)


def process_of(rank: int, folder: Path, run: Path, process: subprocess.Popen[str]) -> int:
    """A worker's number, once there is something to go on from; `folder` is where temporary files are made."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        if any((run / "checkpoints").glob("step-*.safetensors")):
            for seats in folder.glob("nin_multi-*"):
                for worker in look(seats):
                    if worker.rank == rank:
                        return worker.pid
        time.sleep(0.02)
    raise AssertionError(process.communicate(timeout=1)[0] if process.poll() is not None else "no checkpoint")
