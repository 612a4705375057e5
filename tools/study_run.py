"""One run of a study: the ordinary `train` command in a process of its own, begun, gone on with, stopped in time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POLL = 0.5  # seconds between two looks at a run


class RunFailed(Exception):
    """A run ended otherwise than by an end, a signal or divergence."""


def go_on(run: Path, arguments: list[str], seconds: float, is_enough: Callable[[], bool]) -> dict[str, Any]:
    """Begin a run by `train`'s arguments, or go on with it; its result.

    After so many seconds, and as soon as it is enough, it is told to write a checkpoint and leave. Raises RunFailed.
    """
    command = [sys.executable, "-m", "nin_multi", "train", "--json"]
    command += ["--resume", str(run)] if (run / "run.json").exists() else [*arguments, "--run-dir", str(run)]
    ends = time.monotonic() + seconds
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        while process.poll() is None:
            time.sleep(POLL)
            if time.monotonic() > ends or is_enough():
                process.send_signal(signal.SIGTERM)
                break
        out, _ = process.communicate()
    except BaseException:  # Ctrl+C goes to the whole group: let it write its checkpoint
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    return _result(run, process.returncode, out)


def _result(run: Path, status: int, out: str) -> dict[str, Any]:
    try:
        result = dict(json.loads(out))
    except ValueError:
        result = {}
    if status in (0, 1, 143) and "status" in result:
        return result
    if status in (143, -signal.SIGTERM):  # told to leave before its first step or after its last: its directory knows
        return {"status": "interrupted", "test_acc": None}
    said = result.get("error", {}).get("message", "it said nothing")
    raise RunFailed(f"{run.name}: status {status}: {said}")
