"""Has the workers of one run started, watches them, and hears how they end; not what they compute.

Processes are started as the backend says (`Backend.launch`): its framework's own launcher, or the roles that it divides
work into. They go when we go, and none of them stays behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nin_multi import registry
from nin_multi.errors import BackendUnavailable, UsageError, raise_again
from nin_multi.launcher import environment_for
from nin_multi.training.interrupt import signals
from nin_multi.training.run_directory import RunDirectory
from nin_multi.workers.launch import Launch, Role
from nin_multi.workers.processes import start
from nin_multi.workers.seat import FOLDER, MESSAGES, TAKEN, Sitting, look

LOOK = 0.2  # seconds between two looks
FOLLOW = 5.0  # seconds that workers have to say how they end, once one of them has
EXPLAIN = 20.0  # seconds for the cause, where one of them has only lost the others
START = 120.0  # seconds that processes have to begin, before they wait for one another


@dataclass(frozen=True)
class Crew:
    """Workers of one run. `words`: what follows `nin_multi` on each one's command line. See `Launch` for the rest."""

    backend: str
    words: tuple[str, ...]
    directory: RunDirectory
    workers: int
    port: int | None
    seconds: float
    restarts: int


def conduct(crew: Crew, show: Callable[[str], None]) -> dict[str, Any]:
    """Train with so many workers; the result of worker 0. `show` gets what it says, a line at a time.

    A signal is handed on to worker 0, and all of them end as one does. Raises BackendUnavailable where a worker died,
    UsageError, and whatever a worker says of itself.
    """
    port = free_port(crew.port)
    with tempfile.TemporaryDirectory(prefix="nin_multi-") as name:
        folder = Path(name)
        launch = Launch(("-m", "nin_multi", *crew.words), crew.workers, port, crew.seconds, crew.restarts, folder)
        roles = registry.load(crew.backend).launch(launch)
        with _started(roles, crew.backend, folder) as processes, signals() as caught:
            watch = _Watch(crew, folder, processes, show)
            try:
                watch.until_the_end(caught)
            finally:
                watch.stop()
        return watch.result()


def free_port(asked: int | None) -> int:
    """The one asked for, or one that is free. Raises UsageError."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", asked or 0))
        except OSError as error:
            raise UsageError(
                f"--port {asked}: cannot be used ({error.strerror}); leave it out, and a free one is found"
            ) from None
        free: int = probe.getsockname()[1]
    return free


@contextlib.contextmanager
def _started(roles: Sequence[Role], backend: str, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    environment = {**environment_for(backend), FOLDER: str(folder)}
    environment.pop(TAKEN, None)
    processes: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        for role in roles:
            log = stack.enter_context((folder / f"{role.name}.log").open("wb"))
            processes.append(start(role, environment, log))
        yield processes


class _Watch:
    def __init__(
        self, crew: Crew, folder: Path, processes: list[subprocess.Popen[bytes]], show: Callable[[str], None]
    ) -> None:
        self._crew, self._folder, self._processes, self._show = crew, folder, processes, show
        self._shown = 0
        self._dead: list[Sitting] = []  # in the order in which they were found
        self._sitting: list[Sitting] = []

    def until_the_end(self, caught: list[int]) -> None:
        """Until all have said how they ended, or nothing more is to be expected."""
        began, told, was_dead = time.monotonic(), False, False
        ends: float | None = None
        while not self._look():
            if caught and not told and (first := next((one for one in self._sitting if one.rank == 0), None)):
                told = True
                with contextlib.suppress(OSError):
                    os.kill(first.pid, caught[0])
            now = time.monotonic()
            is_bad = self._dead or any(_error(one) for one in self._sitting)
            if is_bad and not self._crew.restarts:
                # Without a death, the cause may still be to come, from one that has only just begun.
                ends = min(ends or now + EXPLAIN, now + FOLLOW if self._dead and not was_dead else now + EXPLAIN)
                was_dead = bool(self._dead)
            if len(self._sitting) < self._crew.workers and now - began > START + self._crew.seconds:
                return
            if ends is not None and now > ends:
                return
            time.sleep(LOOK)

    def _look(self) -> bool:
        """Hear what there is; whether it is over."""
        is_left = all(process.poll() is not None for process in self._processes)
        self._sitting = look(self._folder)
        known = {one.pid for one in self._dead}
        for one in self._sitting:
            if one.is_gone and one.ended is None and one.pid not in known:
                self._dead.append(one)
                if self._crew.restarts:
                    self._show(
                        f"{self._words(one)}; all of them are started again, at most {self._crew.restarts} times"
                    )
        with contextlib.suppress(OSError), (self._folder / MESSAGES).open(encoding="utf-8") as file:
            file.seek(self._shown)
            while (line := file.readline()).endswith("\n"):
                self._shown = file.tell()
                self._show(line.rstrip("\n"))
        have_ended = [one for one in self._sitting if one.ended is not None and not _error(one)]
        return is_left or len(have_ended) == self._crew.workers

    def stop(self) -> None:
        """End what still runs: a launcher first, for it would start others; workers may be in sessions of their own."""
        self._wait(FOLLOW if not self._dead else 0.0)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                if process.poll() is None:
                    with contextlib.suppress(OSError):
                        os.killpg(process.pid, number)
            for one in look(self._folder):
                if not one.is_gone:
                    with contextlib.suppress(OSError):
                        os.kill(one.pid, signal.SIGKILL)
            self._wait(FOLLOW)

    def _wait(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(ends - time.monotonic(), 0.0))

    def result(self) -> dict[str, Any]:
        """Of worker 0. Raises what went wrong, the first cause of it as far as that is known."""
        errors = [one for one in self._sitting if _error(one)]
        first = next((one for one in self._sitting if one.rank == 0), None)
        if first is not None and first.ended is not None and not _error(first):
            return first.ended
        own = [one for one in errors if _error(one).get("type") != "WorkerLost"]
        if own:
            raise_again(own[0].ended, "")
        if self._dead:
            raise BackendUnavailable(f"{self._words(self._dead[0])}\n{self._crew.directory.survivor()}")
        if errors:
            raise_again(errors[0].ended, "")
        there = {one.rank for one in self._sitting}
        missing = [str(rank) for rank in range(self._crew.workers) if rank not in there]
        names = f"worker{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise BackendUnavailable(f"{self._crew.backend}: {names} never began{self._last_words()}")

    def _words(self, one: Sitting) -> str:
        name = "a worker" if one.rank is None else f"worker {one.rank}"
        return (
            f"{self._crew.backend}: {name} of {self._crew.workers} (process {one.pid}) ended without a word: "
            "it was killed, or it crashed"
        )

    def _last_words(self) -> str:
        """What stands at the end of the first log that says anything."""
        for path in sorted(self._folder.glob("*.log")):
            if lines := path.read_text(encoding="utf-8", errors="replace").strip().splitlines():
                return f"\n{path.stem}: {lines[-1]}"
        return ""


def _error(one: Sitting) -> dict[str, Any]:
    found: dict[str, Any] = (one.ended or {}).get("error") or {}
    return found
