"""What training and comparing share: how long a process may be silent, which Python it has, how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from nin_multi.compare import pythons
from nin_multi.compare.board import Board
from nin_multi.compare.plan import LEAST_PATIENCE
from nin_multi.compare.screen import OVER
from nin_multi.compare.stored import stored_run
from nin_multi.errors import RunError, UsageError, raise_again
from nin_multi.launcher import ChildResult
from nin_multi.notebook import settings
from nin_multi.notebook.runs import way_on
from nin_multi.training.run_directory import RUN


def fail(result: ChildResult, run: dict[str, Any]) -> NoReturn:
    """Raise what ended a run in its process, and say how to go on with it."""
    try:
        raise_again(result.answer, run["reason"] + (f"\nto go on: {way_on(run)}" if run["to_go_on"] else ""))
    except UsageError as error:
        raise settings.in_python(error) from None


def working_python(backend: str, path: str) -> str:
    """The Python of another environment, tried out. Raises UsageError."""
    try:
        return pythons.working_python(backend, path)
    except UsageError as error:
        raise settings.in_python(error) from None


def patience_of(seconds: float | None) -> float:
    """Raises UsageError for less than a healthy process may need between two signs of life."""
    if seconds is None:
        return float("inf")
    if not seconds >= LEAST_PATIENCE:
        raise UsageError(f"patience: expected {LEAST_PATIENCE:.0f} seconds or more, or None, got {seconds!r}")
    return float(seconds)


def stopped(board: Board) -> None:
    """Runs that somebody stopped, as their files tell them now: their processes ended without being heard."""
    for run in board.runs.values():
        if run["status"] in OVER:
            continue
        run |= {"status": "interrupted", "seconds_left": None}
        if run["run_dir"] is None or not (Path(run["run_dir"]) / RUN).exists():
            run["run_dir"] = None
            continue
        try:
            stored, _ = stored_run(Path(run["run_dir"]))
        except RunError as error:
            run["reason"] = str(error)
            continue
        run |= {key: stored[key] for key in ("status", "reason", "to_go_on", "result", "step", "events", "started")}
