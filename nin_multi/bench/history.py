"""Sessions kept over time: one JSON object a line, only ever added to; not what is in one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from nin_multi.errors import RunError


def default_file() -> Path:
    """`nin-multi/bench/history.jsonl` in the user's data folder."""
    return Path(platformdirs.user_data_path("nin-multi")) / "bench" / "history.jsonl"


def check_writable(path: Path) -> None:
    """Make the file if there is none. Raises RunError where it cannot be added to: better now than after an hour."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def append(path: Path, session: Mapping[str, Any]) -> None:
    """Add a session in one write, on a line of its own even after one that was torn. Raises RunError."""
    line = json.dumps(session, allow_nan=False).encode() + b"\n"
    check_writable(path)
    try:
        with path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
        with path.open("ab", buffering=0) as file:
            file.write(line)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def read(path: Path) -> list[dict[str, Any]]:
    """Every whole session, in the file's order; lines that are none are left out. Empty where there is no file."""
    sessions: list[dict[str, Any]] = []
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # torn, or somebody's note
                session = json.loads(line)
                if _is_session(session):
                    sessions.append(session)
    return sessions


def _is_session(value: Any) -> bool:
    rows = value.get("rows") if isinstance(value, dict) else None
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)


def comparable(sessions: list[dict[str, Any]], session: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those on the same machine, of the same architecture and batch size."""
    return [other for other in sessions if _case(other) == _case(session)]


def _case(session: Mapping[str, Any]) -> tuple[Any, ...]:
    machine = session.get("machine") or {}
    # The book's MindSpore row has a few images only: the largest batch is what was asked for.
    batch = max(row.get("batch_size", 0) for row in session["rows"])
    names = ("processor", "instruction_sets", "cores")
    return (*(machine.get(name) for name in names), session["rows"][0].get("arch"), batch)
