"""A run's directory on disk: creating, filling and reading it; not what the numbers in it mean.

run.json says what to repeat, events.jsonl grows by one object per log step and epoch, checkpoints/ holds the last two
states to go on from, result.json, weights and curve come at the end. Whoever writes in it holds "lock", which ends with
its process.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import AfterValidator, BaseModel, Field, Strict, ValidationError

from nin_multi.errors import RunError, SpecError, UsageError, show_name
from nin_multi.files import is_locked, remove_leftovers, write_bytes, write_json
from nin_multi.limits import parse_json, read_text
from nin_multi.spec import Architecture
from nin_multi.training.cadence import Cadence
from nin_multi.training.recipe import Recipe

RUN, EVENTS, RESULT, WEIGHTS, CURVE, CHECKPOINTS, LOCK = (
    "run.json",
    "events.jsonl",
    "result.json",
    "weights.safetensors",
    "curve.svg",
    "checkpoints",
    "lock",
)
KEPT = 2  # checkpoints
LARGEST_EVENTS = 64_000_000  # bytes: 50,000 epochs
SPARE = 4_000_000  # bytes on the disk beside the checkpoints, for events, curve and other files


def _cadence(text: str) -> str:
    try:
        return Cadence.parse(text).show()
    except UsageError:
        raise ValueError("expected a number of steps, a time, both, or epoch") from None


class _FactsRecipe(BaseModel):
    batch_size: Annotated[int, Field(ge=1)]


class _FactsDataset(BaseModel):
    name: str
    sha256: dict[str, str]


class _FactsPlace(BaseModel):
    backend: str
    device: str
    precision: str
    tuning: dict[str, str] | None = None  # older runs have none
    workers: Annotated[int, Field(ge=1)] = 1


class _Facts(_FactsPlace):
    """What other commands read in run.json."""

    recipe: _FactsRecipe
    architecture: dict[str, Any]
    dataset: _FactsDataset
    checkpoint_every: Annotated[str, AfterValidator(_cadence)] | None = None  # older runs have none
    resumed: list[_FactsPlace] = []


class _Event(BaseModel):
    """What all events have, those at the end of an epoch, and those of layers."""

    step: Annotated[int, Strict(), Field(ge=0, le=2**53)]
    epoch: Annotated[int, Strict(), Field(ge=1, le=2**53)] | None = None
    evaluated: Annotated[int, Strict(), Field(ge=0, le=2**53)] | None = None


def _came_before(event: Mapping[str, Any], step: int, evaluated: int) -> bool:
    """Whether an event belongs to what was before a checkpoint.

    Epochs count too: their end has the step of their last batch, and may come after a checkpoint at that step.
    """
    epochs: int = event.get("epoch") or event.get("evaluated") or 0
    return bool(event["step"] <= step and epochs <= evaluated)


class RunDirectory:
    """One run on disk. `create` begins one, `open` reads one that is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.followers: list[Callable[[Mapping[str, Any]], None]] = []  # hear of each event that has been added

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Raises RunError where a run is already there, or where nothing can be written."""
        try:
            # What is left of a run would be taken for a part of the new one: its events, its checkpoints.
            if left := [name for name in (RUN, EVENTS, CHECKPOINTS) if (path / name).exists()]:
                raise RunError(
                    f"{path}: already holds a run ({left[0]}); choose another --run-dir, or remove it yourself"
                )
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

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A block in which this process alone writes here. Raises RunError where another one does.

        The lock is the system's: it ends with the process that holds it, however that ends.
        """
        lock = FileLock(self.path / LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(
                f"{self.path}: another process is writing this run; wait until it has ended, or stop it"
            ) from None
        except OSError as error:
            raise RunError(f"{self.path / LOCK}: cannot be written ({error.strerror})") from None
        try:
            yield
        finally:
            lock.release()

    def is_being_written(self) -> bool:
        """Whether a process holds the lock."""
        return is_locked(self.path / LOCK)

    def require_space(self, checkpoint_bytes: int) -> None:
        """Raises RunError where the disk has no room for the checkpoints, the one being written, and the weights."""
        needed = (KEPT + 2) * checkpoint_bytes + SPARE
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise RunError(
                f"{self.path}: the run needs {needed / 1e6:,.0f} MB of disk for its checkpoints, {free / 1e6:,.0f} MB "
                "are free; make room, or choose another --run-dir"
            )

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write run.json; from then on the directory holds a run."""
        write_json(self.path / RUN, facts)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint after that many steps belongs; its folder is made. Raises RunError."""
        folder = self.path / CHECKPOINTS
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be created ({error.strerror})") from None
        if folder.is_symlink():  # what is dropped and written below must be the run's own
            raise RunError(f"{folder}: expected a folder of the run itself, got a link to another place")
        return folder / f"step-{step:06d}.safetensors"

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the latest last."""
        found = (self.path / CHECKPOINTS).glob("step-*.safetensors")
        return sorted((path for path in found if path.stem[5:].isdecimal()), key=lambda path: int(path.stem[5:]))

    def remove_leftovers(self) -> None:
        """Take away what a process that was killed while writing has left."""
        for name in (RUN, EVENTS, RESULT, WEIGHTS, CURVE):
            remove_leftovers(self.path, name)
        remove_leftovers(self.path / CHECKPOINTS, "step-*.safetensors")

    def drop_old_checkpoints(self) -> None:
        """Keep the last ones only."""
        for path in self.checkpoints()[:-KEPT]:
            with contextlib.suppress(OSError):
                path.unlink()

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one event. Raises RunError where it cannot be written."""
        try:
            with (self.path / EVENTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"{self.path / EVENTS}: cannot be written ({error.strerror})") from None
        for follower in self.followers:
            follower(event)

    def flush_events(self) -> None:
        """See to it that the events so far are on the disk: a checkpoint must not outlive what came before it."""
        with contextlib.suppress(FileNotFoundError), (self.path / EVENTS).open("rb") as file:
            os.fsync(file.fileno())

    def facts(self) -> dict[str, Any]:
        """The content of run.json. Raises RunError where it is damaged."""
        try:
            facts = parse_json(read_text(self.path / RUN))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / RUN}: cannot be read as JSON ({error})") from None
        try:
            _Facts.model_validate(facts)
        except ValidationError as error:
            finding = error.errors()[0]
            where = ".".join(map(str, finding["loc"])) or "the whole"
            raise RunError(f"{self.path / RUN}: damaged: {show_name(where)}: {finding['msg']}") from None
        return dict(facts)

    def last_facts(self) -> dict[str, Any]:
        """Those, with where and how the run was taken up last in place of how it began. Raises RunError."""
        facts = self.facts()
        return {**facts, **(facts.get("resumed") or [{}])[-1]}

    def architecture(self) -> Architecture:
        """The one in run.json. Raises RunError where it is damaged."""
        try:
            return Architecture.model_validate(self.facts()["architecture"])
        except (ValidationError, SpecError):
            raise RunError(f"{self.path / RUN}: damaged: no valid architecture") from None

    def recipe(self) -> Recipe:
        """The one in run.json. Raises RunError where it is damaged."""
        values = self.facts()["recipe"]
        try:
            return Recipe.from_dict(values)
        except RunError as error:
            raise RunError(f"{self.path / RUN}: {error}") from None

    def abandon(self) -> None:
        """Take back a directory that never came to hold anything."""
        with contextlib.suppress(OSError):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def events(self) -> list[dict[str, Any]]:
        """All complete events, in order: a last line that was torn off in the middle is left out."""
        path = self.path / EVENTS
        try:
            whole, _, _ = (read_text(path, LARGEST_EVENTS) if path.exists() else "").rpartition("\n")
            events = [parse_json(line) for line in whole.splitlines()]
            for event in events:
                _Event.model_validate(event)
        except ValidationError:
            raise RunError(f"{path}: damaged: an event without its step") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: damaged before its last line ({error})") from None
        return events

    def forget_events_after(self, step: int, evaluated: int) -> None:
        """Leave out what a process wrote after the checkpoint, of that many evaluated epochs, that is gone on from.

        A run that begins again, at step 0, has no events.
        """
        kept = [event for event in self.events() if step and _came_before(event, step, evaluated)]
        lines = [json.dumps(event, allow_nan=False) + "\n" for event in kept]
        write_bytes(self.path / EVENTS, "".join(lines).encode())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json: the last file of a run."""
        write_json(self.path / RESULT, result)

    def survivor(self) -> str:
        """In words, what is left to go on from."""
        found = self.checkpoints()
        if not found:
            return "No checkpoint had been written yet."
        step = int(found[-1].stem.rpartition("-")[2])
        return f"Kept: its state after step {step:,}; to go on: nin_multi train --resume {self.path}"

    def is_finished(self) -> bool:
        """Whether a run ended by itself, having done all that it was to do."""
        return self.result().get("status") == "done"

    def result(self) -> dict[str, Any]:
        """The content of result.json; empty while there is none. Raises RunError where it is damaged."""
        try:
            result = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path / RESULT}: cannot be read as JSON ({error})") from None
        if not isinstance(result, dict):
            raise RunError(f"{self.path / RESULT}: damaged: expected an object")
        return result

    def reopen(self) -> None:
        """Take back result.json: a run that goes on has none."""
        try:
            (self.path / RESULT).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{self.path / RESULT}: cannot be removed ({error.strerror})") from None
