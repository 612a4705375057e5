"""Starts processes in the environment their backend asks for; not what runs in them.

OpenMP, malloc and oneDNN read their variables when they are loaded, so a process that has begun without them
re-executes Python once. What the user has set stays as it is.

    python -m nin_multi.launcher torch -m pytest tests/conformance
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from nin_multi import registry
from nin_multi.backend import Tuning
from nin_multi.errors import NinMultiError, UsageError

MARK = "NIN_MULTI_ENVIRONMENT"  # names the backend whose environment this process already has
ADDED = "NIN_MULTI_ADDED"  # names the variables that a launcher set: nobody's wish, and gone for the next backend


def environment_for(backend: str, precision: str | None = None, tuning: Tuning | None = None) -> dict[str, str]:
    """The environment for a process of that backend: ours, plus what the backend asks for and nobody has set."""
    inherited = plain_environment()
    asked = registry.load(backend).environment(precision, tuning)
    added = ",".join(name for name in asked if name not in inherited)
    return {**asked, **inherited, MARK: backend, ADDED: added}


def plain_environment() -> dict[str, str]:
    """The environment as the user has it, without what a launcher has added."""
    inherited = dict(os.environ)
    for name in inherited.pop(ADDED, "").split(","):
        inherited.pop(name, None)
    inherited.pop(MARK, None)
    return inherited


def ensure_environment(backend: str, precision: str | None = None, tuning: Tuning | None = None) -> None:
    """Re-execute this Python command in the backend's environment, unless it runs in it already."""
    wanted = environment_for(backend, precision, tuning)
    ours = {MARK, *wanted[ADDED].split(","), *os.environ.get(ADDED, "").split(",")} - {""}
    if all(os.environ.get(name) == wanted.get(name) for name in ours):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


@dataclass(frozen=True)
class ChildResult:
    """How a child ended: its exit status (negative: a signal), the JSON object it printed, or None."""

    backend: str
    exit_status: int
    answer: dict[str, Any] | None

    def failure(self) -> str:
        """One or two lines on why there is no answer; empty where there is one."""
        if self.exit_status < 0:
            number = -self.exit_status
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            return f"{self.backend}: its process was ended by {name}"
        if self.answer is None:
            return f"{self.backend}: its process ended with status {self.exit_status} and no answer"
        return str(self.answer.get("error", {}).get("message", ""))


class Child:
    """One `nin_multi` command in a process of its own, with `--json`; its messages go to our stderr, or nowhere."""

    def __init__(self, backend: str, arguments: Sequence[str], *, quiet: bool = True) -> None:
        self.backend = backend
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nin_multi", *arguments, "--json"],
            env=environment_for(backend),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            start_new_session=True,  # Ctrl-C comes to us alone, and we tell the child once
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )

    def result(self) -> ChildResult:
        """Wait for the end. Where we are to leave ourselves, the child is told so and given time to end well."""
        try:
            output, _ = self._process.communicate()
        except BaseException:  # SystemExit from a signal: we are to leave
            self._process.terminate()
            self._process.communicate()
            raise
        try:
            answer = json.loads(output)
        except ValueError:
            answer = None
        return ChildResult(self.backend, self._process.returncode, answer if isinstance(answer, dict) else None)


def end_with_parent() -> None:
    """Ask Linux for a SIGTERM when the parent dies, however it dies: an orphan would train on for hours."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def ask_each(backends: Sequence[str], arguments: Sequence[str]) -> Iterator[ChildResult]:
    """The same command for each backend, one process each, one after another: they would share the same cores."""
    for backend in backends:
        yield Child(backend, [*arguments, "--backend", backend]).result()


def main() -> NoReturn:
    """`python -m nin_multi.launcher BACKEND PYTHON-ARGUMENTS...`: run Python in a backend's environment."""
    try:
        if len(sys.argv) < 3:
            raise UsageError("usage: python -m nin_multi.launcher BACKEND PYTHON-ARGUMENTS...")
        environment = environment_for(sys.argv[1])
    except NinMultiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    os.execve(sys.executable, [sys.executable, *sys.argv[2:]], environment)


if __name__ == "__main__":
    main()
