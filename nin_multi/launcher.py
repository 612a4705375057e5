"""Starts processes in the environment their backend asks for; not what runs in them.

OpenMP, malloc and oneDNN read their variables when they are loaded, so a process that has begun without them
re-executes Python once. What the user has set stays as it is.

    python -m nin_multi.launcher torch -m pytest tests/conformance
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, NoReturn

from nin_multi import heartbeat, registry
from nin_multi.errors import BackendUnavailable, NinMultiError, UsageError
from nin_multi.heartbeat import Pulse, Sign
from nin_multi.knobs import Tuning

MARK = "NIN_MULTI_ENVIRONMENT"  # names the backend whose environment this process already has
ADDED = "NIN_MULTI_ADDED"  # names the variables that a launcher set: nobody's wish, and gone for the next backend

POLL = 1.0  # seconds between two looks at a child
GRACE = 30.0  # seconds that a silent child has after SIGTERM, if our patience is not even that long
SHORT_GRACE = 3.0  # seconds that it has where somebody is waiting for us to leave


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
    """How a child ended: its exit status (negative: a signal), the JSON object it printed, or None.

    `silence`: it was stopped after so many seconds without a sign of life. `last`: where it said last that it stood.
    """

    backend: str
    exit_status: int
    answer: dict[str, Any] | None
    silence: float | None = None
    last: Sign | None = None

    @property
    def died(self) -> bool:
        """Whether it came to no end of its own."""
        return self.answer is None or self.silence is not None or self.exit_status < 0

    @property
    def status(self) -> int:
        """What it adds to the exit status of a command: its own, and 3 where it died."""
        return BackendUnavailable.exit_status if self.died else self.exit_status

    def failure(self) -> str:
        """One or two lines on why there is no answer; empty where there is one."""
        where = f", last heard of {self.last.show()}" if self.last is not None else ""
        if self.silence is not None:
            return f"{self.backend}: it gave no sign of life for {self.silence:.0f} s{where}; it was stopped"
        if self.exit_status < 0:
            return f"{self.backend}: its process was ended by {_signal_in_words(-self.exit_status)}{where}"
        if self.answer is None:
            return f"{self.backend}: its process ended with status {self.exit_status} and no answer{where}"
        return str(self.answer.get("error", {}).get("message", ""))


_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def _signal_in_words(number: int) -> str:
    """Its name, and what it usually means."""
    if number not in set(signal.Signals):
        return f"signal {number}"
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return f"{name} (perhaps the system's, for lack of memory)"
    return f"{name} (the framework crashed)" if number in _CRASHES else name


class Child:
    """One `nin_multi` command in a process of its own, with `--json`; its messages go to our stderr, or nowhere.

    `patience` is for a command that gives signs of life: so many seconds without one, and it is stopped. `python` is
    another environment's, for a framework that is not in ours. `messages` is a file for what it says, not our stderr.
    `cores` are those that it may run on, where not on all of ours.
    """

    def __init__(
        self,
        backend: str,
        arguments: Sequence[str],
        *,
        quiet: bool = True,
        patience: float | None = None,
        python: str | None = None,
        messages: IO[str] | None = None,
        cores: Collection[int] = (),
    ) -> None:
        self.backend = backend
        self._patience = math.inf if patience is None else patience
        self._pulse = Pulse() if patience is not None else None
        self._output: str | None = None
        self._silence: float | None = None
        self._is_over = self._is_told = False
        # In another environment the adapter may be another one: there the command finds out by itself what it needs.
        environment = environment_for(backend) if python is None else plain_environment()
        environment.pop(heartbeat.VARIABLE, None)  # ours, if we have one: not for a child to speak in our name
        if self._pulse is not None:
            environment[heartbeat.VARIABLE] = str(self._pulse.path)
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "nin_multi", *arguments, "--json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages or (subprocess.DEVNULL if quiet else None),
            text=True,
            start_new_session=True,  # Ctrl-C comes to us alone, and we tell the child once
            preexec_fn=partial(_begin, cores) if sys.platform == "linux" else None,
        )

    def sign(self) -> Sign | None:
        """What it said last of where it stands."""
        return self._pulse.last() if self._pulse is not None else None

    def has_ended(self, within: float = POLL) -> bool:
        """Whether it has ended, or does so in so many seconds: by itself, or by us after too long a silence."""
        if not self._is_over and self._is_gone(within):
            self._is_over = True
        elif not self._is_over and self._pulse is not None and self._pulse.silence() > self._patience:
            self._stop(min(GRACE, self._patience))
            self._silence, self._is_over = self._patience, True
        return self._is_over

    def result(self) -> ChildResult:
        """Wait for the end, or bring it about. Where we are to leave ourselves, the child gets time to end well."""
        try:
            while not self.has_ended():
                pass
        except BaseException:  # SystemExit from a signal: we are to leave
            self.leave()
            raise
        last = self.sign()
        self._close()
        try:
            answer = json.loads(self._output or "")
        except ValueError:
            answer = None
        answer = answer if isinstance(answer, dict) else None
        returned = self._process.poll()
        # One that even SIGKILL does not end at once waits for a device in the system's depths.
        status = -signal.SIGKILL if returned is None else returned
        return ChildResult(self.backend, status, answer, self._silence, last)

    def _is_gone(self, within: float) -> bool:
        """Whether it ends in so many seconds, and all that it printed is here."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._output, _ = self._process.communicate(timeout=within)
            return True
        if self._process.poll() is None:
            return False
        self._signal_group(signal.SIGKILL)  # a process that it has left behind holds the pipe open
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._output, _ = self._process.communicate(timeout=within)
        return True

    def _stop(self, grace: float) -> None:
        """By SIGTERM; then by SIGKILL, which ends a process that is stopped or stuck in native code too."""
        self._process.terminate()
        if not self._is_gone(within=grace):
            self._signal_group(signal.SIGKILL)
            self._is_gone(within=GRACE)

    def terminate(self) -> None:
        """Tell it to end, once: a second signal would end it at once, in the middle of its saving."""
        if not self._is_told:
            self._is_told = True
            self._process.terminate()

    def leave(self) -> None:
        """Tell the child to end, and see it do so; who interrupts us once more does not want to wait for that."""
        try:
            self.terminate()
            while not self.has_ended():
                pass
        except BaseException:
            self._stop(SHORT_GRACE)
        finally:
            self._close()

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        if self._pulse is not None:
            self._pulse.close()


def _begin(cores: Collection[int]) -> None:
    """What a child does first of all, before it is Python."""
    end_with_parent()
    if cores:
        os.sched_setaffinity(0, cores)


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
