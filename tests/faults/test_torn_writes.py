"""Writes that were torn, data that has gone, numbers that are none: what a command says, and what survives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from strategies import TINY_BLOCK

from nin_multi.data.sources import DATA_VARIABLE


def _nin(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nin_multi", *arguments], capture_output=True, text=True)


def _train(folder: Path, *more: str, dataset: str = "synthetic") -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(TINY_BLOCK)
    flags = ["--backend=numpy", f"--arch={folder / 'tiny.yaml'}", f"--dataset={dataset}", "--train-examples=64"]
    flags += ["--test-examples=20", "--batch-size=16", f"--run-dir={folder / 'run'}"]
    return _nin("train", *flags, *more)


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_torn_writes(tmp_path: Path) -> None:
    """As a machine leaves them that lost its power: half a checkpoint, half a line, half a file not yet named."""
    run = tmp_path / "run"
    assert _train(tmp_path, "--epochs=3").returncode == 0
    whole = _content(run)
    for name in ("result.json", "weights.safetensors", "curve.svg"):
        (run / name).unlink()
    last = run / "checkpoints" / "step-000012.safetensors"
    last.write_bytes(whole[last][: len(whole[last]) // 2])
    events = run / "events.jsonl"
    events.write_bytes(whole[events][:-40])
    left = run / "checkpoints" / ".step-000016.safetensors.abcdefgh"
    left.write_bytes(b"half")
    found = _nin("train", "--resume", str(run))
    assert found.returncode == 0, found.stderr
    assert f"passed over: {last}: not a complete safetensors file" in found.stderr
    assert not left.exists()
    expected = dict.fromkeys(whole)
    assert dict.fromkeys(_content(run)) == expected
    steps = [(event["event"], event["step"]) for event in map(json.loads, events.read_text().splitlines())]
    assert steps == [(event["event"], event["step"]) for event in map(json.loads, whole[events].splitlines())]


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    """The rate rises until the loss overflows: exit status 1, the layer, and the last good state."""
    found = _train(tmp_path, "--epochs=2", "--lr=1e24", "--warm-up=1000000000", "--checkpoint-every=1")
    assert found.returncode == 1
    first, second = found.stderr[found.stderr.index("error: ") :].splitlines()[:2]
    # Whichever shows it first: the loss of a step, or the checkpoint that is not written.
    assert first.startswith(("error: the loss is ", "error: after step "))
    assert "layer 'block1." in first
    assert first.endswith("a smaller --lr may help.")
    assert second.startswith("Kept: its state after step ")
    assert "Traceback" not in found.stderr
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert kept
    assert all(np.isfinite(value).all() for value in load_file(kept[-1]).values())
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_data_that_has_gone(tmp_path: Path) -> None:
    """The run is not gone on with other images, and nothing of it changes."""
    source = os.environ.get(DATA_VARIABLE)
    if not source:
        pytest.skip(f"needs the real data set in {DATA_VARIABLE}")
    data = tmp_path / "data"
    shutil.copytree(source, data)
    assert _train(tmp_path, "--epochs=1", f"--data-dir={data}", dataset="fashion-mnist").returncode == 0
    before = _content(tmp_path / "run")
    (data / "train-images-idx3-ubyte.gz").unlink()
    resume = ["train", "--resume", str(tmp_path / "run"), "--epochs=2", f"--data-dir={data}"]
    found = _nin(*resume)
    assert found.returncode == 2
    assert f"{data} has no train-images-idx3-ubyte" in found.stderr
    assert "Traceback" not in found.stderr
    assert _content(tmp_path / "run") == before
    shutil.copy(Path(source) / "train-images-idx3-ubyte.gz", data)
    assert _nin(*resume).returncode == 0
