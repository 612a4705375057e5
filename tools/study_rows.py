"""The rows of a study's results, docs/studies/NAME.json: made of run directories, and added.

A row stays as it is, but for one of a run that had stopped where it had enough, once that run has gone further.

The file is kept in git, a row a line, so that what several machines ran merges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock
from study_file import Enough, StudyRun

from nin_multi.files import write_bytes
from nin_multi.training.run_directory import RunDirectory

Row = dict[str, Any]
_MACHINE = ("processor", "instruction_sets", "cores", "memory_bytes", "system")
_RESULT = (
    *("arch", "precision", "status", "epochs", "steps", "train_examples", "test_examples", "dropout"),
    *("examples_per_sec", "compute_examples_per_sec", "peak_memory_bytes", "dead_classes"),
)


def is_over(run: Path, enough: Enough) -> bool:
    """Whether a run is done, has diverged, or had enough after an epoch."""
    if not (run / "run.json").exists():
        return False
    result = RunDirectory.open(run).result()
    return result.get("status") in ("done", "diverged") or (bool(result) and has_enough(run, enough))


def has_enough(run: Path, enough: Enough) -> bool:
    """Whether it may stop, by the epochs that it has had so far."""
    return enough.is_reached([end["test_acc"] for end in ends(run)])


def ends(run: Path) -> list[dict[str, Any]]:
    """The event at the end of each epoch."""
    return [event for event in events(run) if event.get("event") == "epoch"]


def events(run: Path) -> list[dict[str, Any]]:
    """All that a run has told; nothing where there is no run yet."""
    return RunDirectory.open(run).events() if (run / "run.json").exists() else []


def row_of(wanted: StudyRun, run: Path) -> Row:
    """The row of a run that is over. `status` is "done", "diverged", or "enough" where it was stopped for that."""
    directory = RunDirectory.open(run)
    facts, result, epochs = directory.facts(), directory.result(), ends(run)
    last = directory.last_facts()
    row: Row = {"case": wanted.case, "backend": wanted.backend, "seed": wanted.seed, "run": run.name}
    row |= {name: result[name] for name in _RESULT}
    row |= {"dataset": facts["dataset"]["name"], "test_acc": result["test_acc"], "loss": result["loss"]}
    for name, key in (("losses", "loss"), ("train_accs", "train_acc"), ("test_accs", "test_acc")):
        row[name] = [_rounded(end[key]) for end in epochs]
    row["seconds"] = [_rounded(end["seconds"], 1) for end in epochs]
    if row["status"] == "interrupted":  # `is_over` said that it may count
        row |= {"status": "enough", "enough": wanted.enough.model_dump(exclude_none=True)}
    row |= {"parameters": wanted.architecture.parameters, "multiply_adds": wanted.architecture.multiply_adds}
    row |= {"versions": last["versions"], "device": last["device"], "tuning": last["tuning"]}
    row["machine"] = {name: last["machine"][name] for name in _MACHINE if name in last["machine"]}
    row |= {"started": facts["started"][:10], "resumed": len(facts.get("resumed", []))}
    return {**row, "recipe": wanted.recipe, "net": wanted.net}


def _rounded(value: float | None, digits: int = 5) -> float | None:
    return None if value is None else round(value, digits)


class Rows:
    """A study's file of results."""

    def __init__(self, path: Path, study: str) -> None:
        self.path, self.study = path, study

    def read(self) -> list[Row]:
        """All rows; none where there is no file yet."""
        return list(json.loads(self.path.read_text(encoding="utf-8"))["rows"]) if self.path.exists() else []

    def find(self, wanted: StudyRun) -> Row | None:
        """The row of just this run, whatever precision it was computed in, if it went as far as is asked for now."""
        return next((row for row in self.read() if answers(row, wanted) and goes_as_far(row, wanted)), None)

    def borrow(self, wanted: StudyRun) -> Row | None:
        """The row of the same run in another study, with this case's name: it has its row here from then on."""
        for path in sorted(self.path.parent.glob("*.json")):
            for row in Rows(path, path.stem).read() if path != self.path and path.with_suffix(".yaml").exists() else []:
                mine = {**row, "case": wanted.case}
                same = wanted.precision in (None, row["precision"]) and row["status"] != "enough"
                if same and answers(mine, wanted) and self.add(wanted, mine):
                    return mine
        return None

    def add(self, wanted: StudyRun, row: Row) -> bool:
        """False, and nothing is changed, where such a run has its row that goes as far: the first one stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if self.find(wanted) is not None:
                return False
            self._write([*(other for other in self.read() if not answers(other, wanted)), row])
        return True

    def _write(self, rows: Iterable[Row]) -> None:
        ordered = sorted(rows, key=lambda row: (row["case"], row["backend"], row["epochs"] or 0, row["seed"]))
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in ordered)
        write_bytes(self.path, f'{{"study": {json.dumps(self.study)}, "rows": [\n{lines}\n]}}\n'.encode())


def answers(row: Row, wanted: StudyRun) -> bool:
    """Whether a row is of just this run: its case, framework, seed, recipe, net and images."""
    key = row["case"], row["backend"], row["seed"]
    asked = wanted.recipe, wanted.net, wanted.dataset
    return key == wanted.key and (row["recipe"], row["net"], row["dataset"]) == asked


def goes_as_far(row: Row, wanted: StudyRun) -> bool:
    """Whether a row's run came to its end, or to where it may stop."""
    return row["status"] != "enough" or wanted.enough.is_reached(row["test_accs"])
