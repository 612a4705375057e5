"""Stops a program as a notebook's stop button does: by SIGINT, once it has said certain things."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def stopped_after(program: str, folder: Path, words: Sequence[str]) -> tuple[str, str]:
    """What a program says on stdout and stderr, interrupted after all of these words have come on stderr."""
    messages = folder / "messages"
    with messages.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=file, text=True, cwd=folder
        )
    try:
        until = time.monotonic() + 180
        while not all(word in messages.read_text() for word in words):
            assert process.poll() is None, messages.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, messages.read_text()
    return out, messages.read_text()
