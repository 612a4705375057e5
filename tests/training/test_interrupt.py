"""SIGINT, SIGTERM and SIGHUP in the middle of a long run: exit status, and what the run directory then holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from strategies import TINY_BLOCK

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _as_from_a_terminal() -> None:
    """The tests may have been begun with nohup, and then a hang-up would be ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, tuple[subprocess.Popen[str], Path]]]:
    """All runs begin together: each would take days."""
    folder = tmp_path_factory.mktemp("interrupt")
    (folder / "tiny.yaml").write_text(TINY_BLOCK)
    flags = ["--backend=numpy", f"--arch={folder / 'tiny.yaml'}", "--dataset=synthetic", "--train-examples=64"]
    flags += ["--test-examples=20", "--batch-size=16", "--epochs=10000000", "--json"]
    processes = {}
    for number in SIGNALS:
        directory = folder / f"run{number}"
        command = [sys.executable, "-m", "nin_multi", "train", *flags, f"--run-dir={directory}"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_as_from_a_terminal
        )
        processes[number] = (process, directory)
    yield processes
    for process, _ in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted(started, number: int) -> None:
    process, directory = started[number]
    until = time.monotonic() + 60
    while not ((directory / "events.jsonl").exists() and '"epoch"' in (directory / "events.jsonl").read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}[number]
    result = json.loads(out)
    assert json.loads((directory / "result.json").read_text()) == result
    assert (result["status"], result["signal"]) == ("interrupted", number)
    assert err.splitlines()[-1] == (
        f"interrupted at step {result['steps']}; to go on: nin_multi train --resume {directory}"
    )
    assert "Traceback" not in err
    weights = load_file(directory / "weights.safetensors")
    assert sorted(weights) == [
        f"block1.{part}.{kind}" for part in ("conv", "mlp1", "mlp2") for kind in ("bias", "weight")
    ]
    assert all(np.isfinite(value).all() for value in weights.values())
    events = [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
    assert events[-1]["step"] in (result["steps"], result["steps"] - 1)
    assert {path.name for path in directory.iterdir()} == {
        *("run.json", "events.jsonl", "result.json", "weights.safetensors", "curve.svg", "checkpoints", "lock")
    }
    *_, last = sorted((directory / "checkpoints").iterdir(), key=lambda path: int(path.stem[5:]))
    assert last.name == f"step-{result['steps']:06d}.safetensors"
    stored = load_file(last)
    assert {name: value.tobytes() for name, value in stored.items()} == {
        name: value.tobytes() for name, value in weights.items()
    }
