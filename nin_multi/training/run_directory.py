"""A run's directory on disk: creating, filling and reading it; not what the numbers in it mean.

run.json says what to repeat, events.jsonl grows by one object per log step and epoch, result.json, weights and
curve come at the end.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from nin_multi.errors import RunError
from nin_multi.files import write_json

RUN, EVENTS, RESULT, WEIGHTS, CURVE = (
    "run.json",
    "events.jsonl",
    "result.json",
    "weights.safetensors",
    "curve.svg",
)


class _FactsRecipe(BaseModel):
    batch_size: Annotated[int, Field(ge=1)]


class _FactsDataset(BaseModel):
    name: str


class _Facts(BaseModel):
    """What other commands read in run.json."""

    backend: str
    recipe: _FactsRecipe
    dataset: _FactsDataset


class RunDirectory:
    """One run on disk. `create` begins one, `open` reads one that is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Raises RunError where a run is already there, or where nothing can be written."""
        try:
            if (path / RUN).exists():
                raise RunError(f"{path}: already holds a run; choose another --run-dir, or remove it yourself")
            if path.exists() and not path.is_dir():
                raise RunError(f"{path}: expected a directory for the run, got a file")
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be created ({error.strerror}); choose another --run-dir") from None
        return cls(path)

    @classmethod
    def create_dated(cls, parent: Path, name: str) -> RunDirectory:
        """A new directory "2026-01-31-NAME" below `parent`, with -2, -3, ... where the name is taken."""
        stem = f"{datetime.date.today().isoformat()}-{name}"
        for number in range(1, 10_000):
            path = parent / (stem if number == 1 else f"{stem}-{number}")
            try:
                parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()  # creating is the claim: two processes never share one
            except FileExistsError:
                if not parent.is_dir():
                    raise RunError(f"{parent}: expected a directory for runs, got a file") from None
                continue
            except OSError as error:
                raise RunError(f"{path}: cannot be created ({error.strerror}); choose another --run-dir") from None
            return cls(path)
        raise RunError(f"{parent}: too many runs called {stem}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Raises RunError where no run is."""
        if not (path / RUN).is_file():
            raise RunError(f"{path}: not a run directory (it has no {RUN})")
        return cls(path)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write run.json; from then on the directory holds a run."""
        write_json(self.path / RUN, facts)

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one event. Raises RunError where it cannot be written."""
        try:
            with (self.path / EVENTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"{self.path / EVENTS}: cannot be written ({error.strerror})") from None

    def facts(self) -> dict[str, Any]:
        """The content of run.json. Raises RunError where it is damaged."""
        try:
            facts = json.loads((self.path / RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / RUN}: cannot be read as JSON ({error})") from None
        try:
            _Facts.model_validate(facts)
        except ValidationError as error:
            finding = error.errors()[0]
            where = ".".join(map(str, finding["loc"])) or "the whole"
            raise RunError(f"{self.path / RUN}: damaged: {where}: {finding['msg']}") from None
        return dict(facts)

    def abandon(self) -> None:
        """Take back a directory that never came to hold anything."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def events(self) -> list[dict[str, Any]]:
        """All complete events, in order: a last line that was torn off in the middle is left out."""
        text = (self.path / EVENTS).read_text(encoding="utf-8") if (self.path / EVENTS).exists() else ""
        whole, _, _ = text.rpartition("\n")
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise RunError(f"{self.path / EVENTS}: damaged before its last line ({error})") from None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json: the last file of a run."""
        write_json(self.path / RESULT, result)
