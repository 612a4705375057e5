"""What the documentation's pages show of stored runs: every figure is a row's, and what is missing is said to be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.stem for path in (ROOT / "docs" / "studies").glob("*.yaml"))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pages' module."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("stored")


@pytest.fixture
def two_of_three(stored: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A study of three seeds of which two have rows, and a row of other settings, which answers nothing."""
    (tmp_path / "studies").mkdir()
    entry = {"question": "Which?", "train": {"epochs": 2}, "backends": {"torch": "0-2"}, "cases": {"one": {}}}
    (tmp_path / "studies" / "some.yaml").write_text(yaml.safe_dump(entry))
    monkeypatch.setattr(stored, "DOCS", tmp_path)
    stored._study.cache_clear()
    rows = [row_of(wanted, 0.5 + 0.25 * wanted.seed) for wanted in stored._study("some").wanted()]
    rows[2]["recipe"] = {**rows[2]["recipe"], "epochs": 3}
    (tmp_path / "studies" / "some.json").write_text(json.dumps({"rows": rows}))
    yield stored
    stored._study.cache_clear()


def row_of(wanted: Any, accuracy: float) -> dict[str, Any]:
    names = {"case": wanted.case, "backend": wanted.backend, "seed": wanted.seed, "run": f"run-{wanted.seed}"}
    asked = {"recipe": dict(wanted.recipe), "net": wanted.net, "dataset": wanted.dataset, "epochs": 2}
    found = {"status": "done", "dead_classes": [], "test_acc": accuracy, "train_accs": [0.1, 0.2], "precision": "fp32"}
    found |= {"test_accs": [0.1, accuracy], "examples_per_sec": 100.0, "train_examples": 60000, "device": "cpu"}
    place = {"versions": {"torch": "9", "numpy": "8", "python": "7"}, "machine": {"processor": "X", "cores": 2}}
    return {**names, **asked, **found, **place, "parameters": 7, "multiply_adds": 8, "seconds": [30.0, 60.0]}


def test_a_table_and_what_it_comes_from(two_of_three: Any) -> None:
    columns = ("runs", "seeds", "test acc", "test error %", "failed", "minutes")
    lines = two_of_three.table("some", *columns).data.splitlines()
    assert lines[0] == "| case | runs | seeds | test acc | test error % | failed | minutes |"
    assert lines[2] == (
        "| one | 2 of 3 | 0-1 | 0.625 (0.500 to 0.750) | 37.50 (25.00 to 50.00) | 2 | 1.0 (1.0 to 1.0) |"
    )
    seeds = "Seeds 0-1; precision: fp32"
    for words in ("2 of 3 runs", "`run-0`, `run-1`", "torch 9, numpy 8, python 7", "2 cores used", seeds):
        assert words in lines[-1]
    assert "Not run yet: one in torch (1 of 3)" in lines[-1]
    assert two_of_three.value("some", "one", "images/s") == "100 (100 to 100)"


@pytest.mark.parametrize(("went", "expected"), [([], "2"), ([2, 2], "2"), ([1], "1 of 2"), ([2, 1, 2], "1, 2 of 2")])
def test_how_many_epochs(two_of_three: Any, went: list[int], expected: str) -> None:
    """Runs that stopped where they had enough are not shown as whole ones."""
    (group,) = two_of_three.groups("some")
    group.rows[:] = [{"test_accs": [0.5] * count} for count in went]
    assert two_of_three.COLUMNS["epochs"](group) == expected


def test_pictures(two_of_three: Any) -> None:
    assert "one, n = 2" in two_of_three.picture("some", both=True).data
    assert "test accuracy" in two_of_three.picture("some", "images/s").data
    assert "mathdefault" not in two_of_three.picture("some", "parameters").data


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_shown(stored: Any, name: str) -> None:
    """With all columns; what has no runs says so in each column that comes from runs."""
    shown = stored.table(name, *stored.COLUMNS).data.splitlines()
    groups = stored.groups(name)
    assert len(groups) == len([line for line in shown if line.startswith("| ")]) - 1
    for group, line in zip(groups, shown[2:], strict=False):
        assert line.startswith(f"| {group.case} |")
        assert (stored.NOT_RUN in line) == (not group.rows)
    assert type(stored.picture(name)).__name__ == ("SVG" if any(group.rows for group in groups) else "Markdown")


def test_the_search_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    search = importlib.import_module("stored_search")
    monkeypatch.setattr(search, "STORE", tmp_path / "none.json")
    assert "No trial" in search.trials().data
    assert [search.best(), search.history(), search.importances()] == [None] * 3  # a page shows nothing of it
    trial = {"number": 0, "state": "COMPLETE", "params": {"lr": 0.1}, "test_accs": [0.5, 0.75], "run": "run-0"}
    trial |= {"versions": {"torch": "9"}, "machine": {"processor": "X", "cores": 1}, "backend": "torch"}
    trial |= {"precision": "fp32", "train_examples": 640}
    recipe = {"number": 0, "run": "run-0", "judged_acc": 0.75, "held_out_acc": 0.7}
    best = {"number": 2, "run": "run-1", "judged_acc": 0.76, "held_out_acc": None}
    known = {"arch": "nin-mnist", "epochs": 2, "judged_by": 5000, "first": {"lr": 0.1}, "importances": {"lr": 1.0}}
    (tmp_path / "some.json").write_text(json.dumps({**known, "trials": [trial], "best": best, "recipe": recipe}))
    monkeypatch.setattr(search, "STORE", tmp_path / "some.json")
    assert "| 0 | complete | 0.1 | 0.500 0.750 |" in search.trials().data
    assert "Run directories: `run-0`." in search.trials().data
    told = search.best().data
    assert told.startswith("Best is trial 2 (`run-1`): 0.7600 on the images that judge; its run was not at hand")
    assert told.endswith(
        "The recipe is trial 0 (`run-0`): 0.7500 on the images that judge, 0.7000 on the 5,000 others."
    )
    assert "best so far" in search.history().data
    assert "importance" in search.importances().data
