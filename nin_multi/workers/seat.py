"""A worker's side towards the process that has the workers started: where it sits, what it says, how it ended.

That process names a folder in FOLDER. A worker takes a seat there, a lock that ends with it, and writes down how it
ended; what worker 0 has to say goes into a file. Whoever starts workers by a launcher of his own has no such folder:
then worker 0 speaks for itself, and the others only where something is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nin_multi import heartbeat
from nin_multi.backend import cores
from nin_multi.files import is_locked, write_json
from nin_multi.launcher import end_with_parent

FOLDER = "NIN_MULTI_WORKERS"
TAKEN = "NIN_MULTI_SEAT"  # "PID:SEAT:HANDLE": a process that executes itself anew keeps its seat
MESSAGES = "messages"


@dataclass(frozen=True)
class Sitting:
    """What is known of one worker; `ended`: its result, or {"error": ...}; `is_gone`: it lives no more."""

    pid: int
    rank: int | None
    ended: dict[str, Any] | None
    is_gone: bool


class Seat:
    """This process's, if anybody looks."""

    def __init__(self, workers: int) -> None:
        folder = os.environ.get(FOLDER)
        self._folder = Path(folder) if folder else None
        self._number = 0
        self._told: dict[str, Any] = {"pid": os.getpid(), "rank": None, "ended": None, "began": time.time()}
        if self._folder is not None:
            self._take(self._folder, workers)
            self._write()

    def settle(self) -> None:
        """From here on this process does not execute itself anew: no child of its own is to hold the seat for it."""
        if held := os.environ.pop(TAKEN, ""):
            os.set_inheritable(int(held.split(":")[2]), False)

    def sit(self, rank: int) -> None:
        """Say which worker this is. What worker 0 says is shown; what the others say is not."""
        self._told["rank"] = rank
        self._write()
        if rank:
            os.environ.pop(heartbeat.VARIABLE, None)
        if self._folder is not None:
            _speak_into(self._folder / MESSAGES if rank == 0 else Path(os.devnull))

    def end(self, told: dict[str, Any]) -> None:
        """How it ended. Who watches says so; this process has nothing to add."""
        if self._folder is not None:
            _speak_into(Path(os.devnull))
        self._told["ended"] = told
        self._write()

    @property
    def is_watched(self) -> bool:
        return self._folder is not None

    def _take(self, folder: Path, workers: int) -> None:
        """The first that is free, and with it so many of this machine's cores as each worker can have."""
        import fcntl

        pid, _, rest = os.environ.get(TAKEN, "").partition(":")
        if pid == str(os.getpid()):
            self._number = int(rest.split(":")[0])
            return
        end_with_parent()
        while True:
            for number in range(workers):
                handle = os.open(folder / f"seat-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(handle)
                    continue
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                os.set_inheritable(handle, True)
                os.environ[TAKEN] = f"{os.getpid()}:{number}:{handle}"
                self._number = number
                _take_cores(number, workers)
                return
            time.sleep(0.05)  # somebody looks whether one is free

    def _write(self) -> None:
        if self._folder is not None:
            write_json(self._folder / f"seat-{self._number}-{os.getpid()}.json", self._told)


def _speak_into(place: Path) -> None:
    sys.stderr = place.open("a", buffering=1, encoding="utf-8")


def _take_cores(number: int, workers: int) -> None:
    """Of this machine's, unless there are fewer than workers: then all share all."""
    each = cores() // workers
    if each and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[number * each : (number + 1) * each])


def look(folder: Path) -> list[Sitting]:
    """All workers that have sat down there, by rank as far as that is known; of the same rank the last one first.

    A place that one has left, however that came about, may have been taken by another since.
    """
    found = []
    for path in folder.glob("seat-*-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            told = json.loads(path.read_text(encoding="utf-8"))
            lock = path.with_name(f"{path.stem.rpartition('-')[0]}.lock")
            is_there = is_locked(lock) and lock.read_text(encoding="ascii") == str(told["pid"])
            found.append((told["began"], Sitting(told["pid"], told["rank"], told["ended"], not is_there)))
    found.sort(key=lambda one: (one[1].rank is None, one[1].rank or 0, -one[0]))
    return [sitting for _, sitting in found]
