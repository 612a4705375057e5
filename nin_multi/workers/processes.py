"""Processes that stand beside a command, and go when it goes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import IO

from nin_multi.launcher import end_with_parent
from nin_multi.workers.launch import Role


def start(role: Role, environment: Mapping[str, str], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """One that gets no Ctrl-C of its own, and on Linux a SIGTERM when we are gone, however that comes about."""
    return subprocess.Popen(
        role.command,
        env={**environment, **role.environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )
