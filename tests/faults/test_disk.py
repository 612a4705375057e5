"""Disks that fill up, turn read-only or lose the run in mid-training: what is said, and what survives."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from strategies import TINY_BLOCK

from nin_multi.training.run_directory import RunDirectory
from nin_multi.weights import load_weights


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    found = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if found.returncode:
        pytest.skip(f"a file system can be mounted by root only: {found.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _start(folder: Path, run: Path, epochs: int) -> subprocess.Popen[str]:
    (folder / "tiny.yaml").write_text(TINY_BLOCK)
    flags = ["--backend=numpy", f"--arch={folder / 'tiny.yaml'}", "--dataset=synthetic", "--train-examples=64"]
    flags += ["--test-examples=20", "--batch-size=16", f"--epochs={epochs}", "--checkpoint-every=3"]
    command = [sys.executable, "-m", "nin_multi", "train", *flags, f"--run-dir={run}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_checkpoints(process: subprocess.Popen[str], run: Path) -> None:
    until = time.monotonic() + 120
    while len(list((run / "checkpoints").glob("step-*.safetensors"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def _fill(folder: Path) -> Path:
    """Nothing fits any more, and nothing for a while of what the run takes away."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1000))
    return filler


def _resumes(run: Path, epochs: int) -> None:
    command = [sys.executable, "-m", "nin_multi", "train", "--resume", str(run), f"--epochs={epochs}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"


def _survivors(run: Path) -> int:
    """Every checkpoint is whole; the epochs that the last one has."""
    found = RunDirectory.open(run).checkpoints()
    assert found
    stored = [load_weights(path) for path in found]
    return int(stored[-1].facts["evaluated"])


def _ended(process: subprocess.Popen[str], *said: str) -> None:
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert len(err[err.index("error: ") :].splitlines()) <= 2
    for words in said:
        assert words in err


def test_a_disk_that_fills_up(disk: Path, tmp_path: Path) -> None:
    run = disk / "run"
    process = _start(tmp_path, run, epochs=10**6)
    _wait_for_checkpoints(process, run)
    filler = _fill(disk)
    _ended(process, "No space left on device", "Kept: its state after step", f"nin_multi train --resume {run}")
    evaluated = _survivors(run)
    assert not list(run.rglob(".step-*")), "what was half written is taken away"
    filler.unlink()
    _resumes(run, evaluated + 2)


def test_a_disk_that_is_read_only(disk: Path, tmp_path: Path) -> None:
    """A run is neither begun nor gone on with there, and nothing of it changes."""
    run = disk / "run"
    process = _start(tmp_path, run, epochs=10**6)
    _wait_for_checkpoints(process, run)
    process.kill()
    process.communicate()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    _ended(_start(tmp_path, disk / "other", epochs=1), str(disk / "other"), "Read-only file system")
    command = [sys.executable, "-m", "nin_multi", "train", "--resume", str(run)]
    resumed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _ended(resumed, str(run), "Read-only file system")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    _resumes(run, _survivors(run) + 2)


def test_a_run_directory_that_vanishes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = _start(tmp_path, run, epochs=10**6)
    _wait_for_checkpoints(process, run)
    run.rename(tmp_path / "elsewhere")
    _ended(process, "No such file or directory", "No checkpoint")
    evaluated = _survivors(tmp_path / "elsewhere")
    shutil.rmtree(run, ignore_errors=True)
    _resumes(tmp_path / "elsewhere", evaluated + 2)


def test_a_disk_without_room_from_the_beginning(disk: Path, tmp_path: Path) -> None:
    _fill(disk)
    process = _start(tmp_path, disk / "run", epochs=1)
    _ended(process, str(disk / "run"), "make room, or choose another --run-dir")
    assert not (disk / "run").exists()
