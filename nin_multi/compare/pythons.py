"""Pythons of other environments, for backends that cannot live in ours."""

from __future__ import annotations

import os
import shutil
import subprocess

from nin_multi.errors import UsageError


def working_python(name: str, path: str) -> str:
    """The Python at `path` for the backend of that name, tried out. Raises UsageError."""
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        raise UsageError(f"--python {name}={path}: no such program, or it may not be run")
    try:
        tried = subprocess.run([found, "-c", "import nin_multi.cli"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--python {name}={path}: it does not start ({error})") from None
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UsageError(
            f"--python {name}={path}: nin_multi cannot be used there ({reason})\n"
            f"Install it: {path} -m pip install 'nin-multi[{name}]'"
        )
    return os.path.abspath(found)
