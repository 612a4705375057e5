"""Signs of life: a process tells the one that started it where it stands, through a small file; not what it does.

The child calls `beat` after each step or other piece of work, the parent holds a `Pulse` and asks it about once a
second. A process whose parent does not watch has no such file, and `beat` does nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "NIN_MULTI_HEARTBEAT"  # names the file
SECONDS = 1.0  # between two signs of life
OVERSLEPT = 10.0  # seconds between two questions of the parent's: more, and it did not run itself

STARTING, MEASURING, TRAINING, EVALUATING, FINISHING = "starting", "measuring", "training", "evaluating", "finishing"


@dataclass(frozen=True)
class Sign:
    """Where a process said that it stood: what it was doing, the last step that was done, its run directory.

    `figures` are those of a training now: "loss", "train_acc", "examples_per_sec", as far as they are numbers.
    """

    phase: str
    step: int | None = None
    steps: int | None = None
    run_dir: str | None = None
    figures: dict[str, float] = field(default_factory=dict)

    def show(self) -> str:
        """For the end of a sentence.

        >>> Sign("training", 120, 469).show()
        'at step 120 of 469'
        >>> Sign("measuring").show()
        'while measuring'
        """
        if self.step is None:
            return f"while {self.phase}"
        place = f"step {self.step:,}" + (f" of {self.steps:,}" if self.steps is not None else "")
        return f"at {place}" if self.phase == TRAINING else f"while {self.phase} at {place}"


class _Heart:
    """What this process has told last."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.told: set[tuple[Any, Any]] = set()
        self.next = 0.0


_heart = _Heart()


def is_watched() -> bool:
    """Whether the process that started this one shows what it does."""
    return bool(os.environ.get(VARIABLE))


def beat(
    phase: str,
    step: int | None = None,
    steps: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    figures: Mapping[str, float] | None = None,
) -> None:
    """Tell the parent, if one watches, that this process lives and where it stands; what is None is as before.

    Once a second at most, except for a phase or a run directory that is new. Never raises: a full disk is no reason
    to end a training.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    with contextlib.suppress(Exception):
        now: dict[str, Any] = {"step": step, "steps": steps, "run_dir": None if run_dir is None else os.fspath(run_dir)}
        now["figures"] = {key: value for key, value in (figures or {}).items() if math.isfinite(value)} or None
        _heart.known |= {"phase": phase, **{key: value for key, value in now.items() if value is not None}}
        news = (phase, _heart.known.get("run_dir"))
        if news in _heart.told and time.monotonic() < _heart.next:
            return
        _heart.told.add(news)
        _heart.next = time.monotonic() + SECONDS
        _write(path, json.dumps(_heart.known, default=int) + "\n")


def _write(path: str, line: str) -> None:
    """So that a reader finds the old line or the new one; without a flush to disk, which nobody needs here."""
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(line)
        os.replace(f"{path}.new", path)
    except OSError:
        os.utime(path)  # no room for a line, but this too is a sign of life


class Pulse:
    """The parent's side: for how long a child has given no sign of life, and what it said last."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nin_multi-")
        self.path = Path(self._folder.name) / "heartbeat"
        self.path.touch()
        self._seen = self._stamp()
        self._since = self._asked = time.monotonic()

    def silence(self) -> float:
        """Seconds without a sign of life, of those in which this process was running; to be asked often.

        On Linux `time.monotonic` stands still while the machine is suspended, so a night with the lid closed is no
        silence. Where it does not stand still, or we ourselves were stopped, we have overslept, and begin to count
        anew: the child may have had no chance to speak either.
        """
        now, stamp = time.monotonic(), self._stamp()
        # Without the file there is nothing to judge by, and a healthy child must not pay for that.
        if stamp is None or stamp != self._seen or now - self._asked > OVERSLEPT:
            self._since = now
        self._asked, self._seen = now, stamp
        return now - self._since

    def last(self) -> Sign | None:
        """What the child said last; None where it has not said anything."""
        try:
            sign = Sign(**json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # TypeError: not an object, or another's fields
            return None
        return sign if _is_whole(sign) else None

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def _is_whole(sign: Sign) -> bool:
    """Whether all of it is of its kind."""
    numbers, words = (sign.step, sign.steps), (sign.phase, sign.run_dir or "")
    return (
        all(isinstance(number, int | None) for number in numbers)
        and all(isinstance(word, str) for word in words)
        and isinstance(sign.figures, dict)
        and all(isinstance(figure, float | int) for figure in sign.figures.values())
    )
