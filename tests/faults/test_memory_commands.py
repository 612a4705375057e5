"""A command whose memory runs out under `ulimit -v`: two lines and exit status 2, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that the system keeps")


def _limited(kilobytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f'ulimit -v {kilobytes}; exec "$0" -m nin_multi "$@"', sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_pythons_own_error_is_told_in_two_lines() -> None:
    """The parameters of vgg11 are 515 MB; 1 GB of addresses holds them, but not what is drawn for them."""
    ended = _limited(1_000_000, "shapes", "--backend", "numpy", "--arch", "vgg11", "--json")
    assert ended.returncode == 2, ended.stderr
    error = json.loads(ended.stdout)["error"]
    assert error["message"].startswith("out of memory: Unable to allocate")
    assert "A smaller --arch, --input or --batch-size needs less." in error["message"].splitlines()[1]
    assert "Traceback" not in ended.stderr
