"""Worker processes as the session sees them: started, asked, ended, whatever happens; not what they measure."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from nin_multi import launcher
from nin_multi.bench import BOOK
from nin_multi.bench.job import Job
from nin_multi.errors import raise_again

PATIENCE = 10.0  # seconds that a worker has to end by itself
GRACE = 3.0  # seconds that it has after a signal, before it is killed


class Worker:
    """A process for one job. `facts` are what it told of itself once all was built.

    Raises, here and in `ask`, the error that the worker met, or BackendUnavailable where it ends without a word.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        if BOOK in job.whats:  # a reader of the book has nothing set
            environment = launcher.plain_environment()
        else:
            environment = launcher.environment_for(job.backend, job.precision, job.tuning)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nin_multi.bench.worker"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C comes to us alone, and we end its whole group
            preexec_fn=launcher.end_with_parent if sys.platform == "linux" else None,
        )
        self._pending = b""
        try:
            self._say(job.to_json())
            self.facts: dict[str, Any] = self._answer()["ready"]
        except BaseException:
            self.end(0.0)
            raise

    @property
    def name(self) -> str:
        """For people."""
        if BOOK in self.job.whats:
            return f"{self.job.backend} {BOOK}"
        return f"{self.job.backend} {self.job.precision}"

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one question; this waits for it."""
        self._say(json.dumps(question))
        return self._answer()

    def end(self, patience: float = PATIENCE) -> None:
        """Let it end, and then see to it that it and every process it has started are gone."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience if number is None else GRACE)
                if number is not None:
                    break
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end(PATIENCE if kind is None else 0.0)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it is gone, and may have said why
            pass

    def _answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._line() or b"null") or {}
        if not found or "error" in found:
            told = found.get("error") or {}
            message = str(told.get("message") or self._end_in_words())
            if not message.startswith(f"{self.job.backend}:"):
                message = f"{self.job.backend}: {message}"
            raise_again({"error": {**told, "message": message}}, message)
        return found

    def _line(self) -> bytes:
        """The next line; empty where the process has ended without one.

        Its end is asked for and not only seen by the pipe's: a process of a loader may hold that open.
        """
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while b"\n" not in self._pending:
            has_ended = self._process.poll() is not None
            if select.select([source], [], [], 0.0 if has_ended else 0.5)[0]:
                piece = os.read(source, 65536)
                if not piece:
                    return b""
                self._pending += piece
            elif has_ended:
                return b""
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _end_in_words(self) -> str:
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return "its process does not answer any more"
        return launcher.ChildResult(self.job.backend, status, None).failure()
