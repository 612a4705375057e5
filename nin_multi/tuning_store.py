"""What was measured on this machine, kept from run to run: one JSON file each in the user's cache; not how to measure.

A file that cannot be read, or holds something else, counts as none: it is a cache, and nothing hangs on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from nin_multi.errors import RunError
from nin_multi.files import write_json

FORMAT = 1


class Candidate(BaseModel):
    """One way that was tried: its knobs, its speed, and how many times the speed of the best before it that was."""

    model_config = ConfigDict(frozen=True)
    tuning: dict[str, str]
    images_per_sec: float
    ratio: float


class Found(BaseModel):
    """What measuring has found: the value of every knob, and what that rests on.

    `gain` is the speed over the defaults', the product of the ratios on the way, each from alternating rounds: it may
    differ from the quotient of two speeds, between which the machine may have changed. `complete` is False where time
    ran out before all values had their turn.
    """

    model_config = ConfigDict(frozen=True)
    tuning: dict[str, str]
    candidates: list[Candidate]
    gain: float
    complete: bool
    seconds: float
    when: str


class Entry(BaseModel):
    """One file: what it was measured for (`arch` is a name for people), and what was found."""

    model_config = ConfigDict(frozen=True)
    format: int
    arch: str
    key: dict[str, Any]
    found: Found


def cache_folder() -> Path:
    """Where entries are kept: `nin-multi/tuning` in the user's cache folder."""
    return Path(platformdirs.user_cache_path("nin-multi")) / "tuning"


def path_of(key: dict[str, Any]) -> Path:
    """The file for what is measured on these conditions."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"{digest[:24]}.json"


def recall(key: dict[str, Any], report: Callable[[str], None]) -> Found | None:
    """What was found on these conditions; None where nothing is kept, or nothing that can be read (that is told)."""
    path = path_of(key)
    entry = read_entry(path)
    if entry is not None and entry.key == key:
        return entry.found
    if path.exists():
        report(f"{path}: holds no choice of ours; taken as absent, and replaced by the next measurement")
    return None


def remember(key: dict[str, Any], found: Found, report: Callable[[str], None], *, arch: str = "") -> None:
    """Keep it for the next run. Where it cannot be written, that is told, and this run goes on with it all the same."""
    path = path_of(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, Entry(format=FORMAT, arch=arch, key=key, found=found).model_dump(mode="json"))
    except (OSError, RunError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report(f"the choice is not kept for the next run: {path.parent}: {reason}")


def entries() -> list[Entry]:
    """Everything that is kept, the latest last; files that hold something else are left out."""
    try:
        paths = sorted(cache_folder().glob("*.json"))
    except OSError:
        return []
    found = [entry for path in paths if (entry := read_entry(path)) is not None]
    return sorted(found, key=lambda entry: entry.found.when)


def read_entry(path: Path) -> Entry | None:
    """One file, or None for anything that is not an entry of this format."""
    try:
        entry = Entry.model_validate_json(path.read_bytes())
    except (OSError, ValueError, ValidationError, RecursionError):
        return None
    return entry if entry.format == FORMAT else None
