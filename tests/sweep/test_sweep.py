"""Whole sweeps as people start them, killed and interrupted too: real processes, real Dask."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TINY = """\
name: tiny
input: [1, 10, 10]
layers:
  - {type: nin_block, out_channels: 4, kernel_size: 3, mlp_channels: [4]}
  - {type: dropout, rate: 0.2}
  - {type: nin_block, out_channels: 10, kernel_size: 3, mlp_channels: [10]}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""
FEW = "train: {epochs: 2, batch-size: 16, train-examples: 64, test-examples: 20, dataset: synthetic}\n"
LONG = "train: {epochs: 4000, batch-size: 16, train-examples: 64, test-examples: 20, dataset: synthetic}\n"
LIMIT = 240.0  # seconds until a test gives up waiting


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A sweep in a process of its own; what it leaves running is ended after the test."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    under_way: list[subprocess.Popen[str]] = []

    def begin(plan: str, *more: str) -> subprocess.Popen[str]:
        (tmp_path / "plan.yaml").write_text(f"architectures: [tiny.yaml]\n{plan}")
        command = [sys.executable, "-m", "nin_multi", "sweep", "plan.yaml", "--json", *more]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        under_way.append(process)
        return process

    yield begin
    for process in under_way:
        process.kill()
        process.communicate()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def ended(process: subprocess.Popen[str], status: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == status, err
    assert "Traceback" not in err, err
    return dict(json.loads(out))


def wait_for(what: Callable[[], Any]) -> Any:
    gives_up = time.monotonic() + LIMIT
    while time.monotonic() < gives_up:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def trainers(runs: Path) -> list[int]:
    """Processes that train into a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # gone
            continue
        if b"train" in words and any(word.startswith(os.fsencode(runs)) for word in words):
            found.append(int(path.parent.name))
    return found


def steps(run: Path) -> int:
    """The last step that a run's events tell of."""
    try:
        lines = (run / "events.jsonl").read_text().splitlines()
    except OSError:
        return 0
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def epochs(run: Path) -> list[int]:
    lines = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [line["epoch"] for line in lines if line["event"] == "epoch"]


def test_all_runs_and_none_a_second_time(begin, runs: Path) -> None:
    plan = f"backends: [numpy]\nrecipes: [book, dependable]\n{FEW}"
    told = ended(begin(plan, "--jobs", "2"))
    assert (told["sweep"], told["done"], told["failed"]) == ("plan", 2, 0)
    assert [run["run"] for run in told["runs"]] == ["plan-tiny-book-numpy-s0", "plan-tiny-dependable-numpy-s0"]
    for run in told["runs"]:
        stored = json.loads((Path(run["run_dir"]) / "result.json").read_text())
        assert (run["status"], run["attempts"], run["test_acc"]) == ("done", 1, stored["test_acc"])
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    again = ended(begin(plan))
    assert [run["attempts"] for run in again["runs"]] == [0, 0]
    assert [run["test_acc"] for run in again["runs"]] == [run["test_acc"] for run in told["runs"]]
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_three_frameworks_by_three_seeds_killed_in_the_middle(begin, runs: Path, tmp_path: Path) -> None:
    """Nine results, those that were there untouched, and nothing goes on training without its sweep."""
    plan = f"backends: [torch, mindspore, mxnet]\nseeds: 0-2\n{FEW}"
    process = begin(plan, "--jobs", "2")
    wait_for(lambda: len(list(runs.glob("*/result.json"))) >= 2 and trainers(runs))
    process.kill()
    process.communicate()
    wait_for(lambda: not trainers(runs))
    there = {path: path.read_bytes() for path in runs.glob("*/result.json")}
    assert 2 <= len(there) < 9
    told = ended(begin(plan, "--jobs", "2"))
    assert (told["done"], told["failed"], len(told["runs"])) == (9, 0, 9)
    assert {(run["backend"], run["seed"]) for run in told["runs"]} == {
        (backend, seed) for backend in ("torch", "mindspore", "mxnet") for seed in range(3)
    }
    for run in told["runs"]:
        path = Path(run["run_dir"])
        assert epochs(path) == [1, 2], path
        assert (run["attempts"] == 0) == (path / "result.json" in there), run
    assert {path: path.read_bytes() for path in there} == there
    report = [sys.executable, "-m", "nin_multi", "report", *map(str, sorted(runs.iterdir()))]
    options = ["--no-verify", "--no-pictures", "--out", str(tmp_path / "report.html"), "--json"]
    made = subprocess.run([*report, *options], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert made.returncode == 0, made.stderr
    assert len(json.loads(made.stdout)["runs"]) == 9


def test_an_interrupted_sweep_keeps_what_its_runs_have_done(begin, runs: Path) -> None:
    plan = f"backends: [numpy]\n{LONG}"
    process = begin(plan)
    run = runs / "plan-tiny-book-numpy-s0"
    wait_for(lambda: steps(run) >= 8)
    process.send_signal(signal.SIGINT)
    ended(process, status=130)
    assert not trainers(runs)
    assert json.loads((run / "result.json").read_text())["status"] == "interrupted"
    kept = max(int(path.stem.rpartition("-")[2]) for path in (run / "checkpoints").iterdir())
    assert kept >= 8
    process = begin(plan)
    wait_for(lambda: len(json.loads((run / "run.json").read_text()).get("resumed", [])) == 1 and steps(run) > kept)
    process.send_signal(signal.SIGTERM)
    ended(process, status=143)


def test_a_run_that_dies_is_tried_once_more(begin, runs: Path) -> None:
    """Killed twice it counts as failed, and the other one is done all the same."""
    process = begin(f"backends: [numpy]\nseeds: 0-1\n{LONG.replace('4000', '400')}", "--jobs", "2")
    doomed, other = runs / "plan-tiny-book-numpy-s0", runs / "plan-tiny-book-numpy-s1"
    for goal in (8, 1):
        before = steps(doomed)
        wait_for(lambda before=before, goal=goal: steps(doomed) >= before + goal and trainers(doomed))
        (victim,) = trainers(doomed)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda victim=victim: victim not in trainers(doomed))
    told = ended(process, status=3)
    failed, done = told["runs"]
    assert (failed["status"], failed["attempts"]) == ("failed", 2)
    assert "SIGKILL" in failed["reason"]
    assert (done["status"], done["attempts"], done["run_dir"]) == ("done", 1, str(other))
    assert (told["done"], told["failed"]) == (1, 1)


def test_nobody_answers_at_an_address(begin, runs: Path) -> None:
    told = ended(begin(f"backends: [numpy]\n{FEW}", "--address", "127.0.0.1:9"), status=2)
    assert "127.0.0.1:9: no Dask scheduler answers there" in told["error"]["message"]
    assert not runs.exists()


def test_what_no_worker_has_is_not_waited_for(begin, runs: Path) -> None:
    told = ended(begin(f"backends: [numpy]\nresources: {{cores: 5000}}\n{FEW}"), status=2)
    assert "a run asks for cores 5000; the workers have at most cores" in told["error"]["message"]
    assert not runs.exists()


def test_a_directory_that_holds_another_run_is_left_alone(begin, runs: Path) -> None:
    ended(begin(f"backends: [numpy]\n{FEW}"))
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    told = ended(begin(f"backends: [numpy]\n{FEW.replace('epochs: 2', 'epochs: 2, lr: 0.5')}"), status=2)
    assert "lr 0.1, not 0.5" in told["error"]["message"]
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_a_cluster_takes_the_runs(begin, runs: Path, tmp_path: Path) -> None:
    """A scheduler and a worker of Dask's own, as somebody would start them."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    address_file = tmp_path / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen([*start, "--no-dashboard", "--scheduler-file", str(address_file)], **quiet)
    worker = None
    try:
        address = wait_for(lambda: address_file.exists() and address_file.read_text())
        address = json.loads(address)["address"].removeprefix("tcp://")
        told = ended(begin(f"backends: [numpy]\n{FEW}", "--address", address), status=2)
        assert "the cluster has no workers" in told["error"]["message"]
        start = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--resources", "cores=2"]
        worker = subprocess.Popen([*start, "--nthreads", "2", "--no-dashboard"], **quiet)
        wait_for(lambda: begin(f"backends: [numpy]\n{FEW}", "--address", address).wait(LIMIT) == 0)
        assert json.loads((runs / "plan-tiny-book-numpy-s0" / "result.json").read_text())["status"] == "done"
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.terminate()
                process.wait(LIMIT)
