"""`make study`: real runs of a tiny net, kept as rows; gone on with, taken from elsewhere, never run twice."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nin_multi.errors import NinMultiError

ROOT = Path(__file__).parents[1]
TINY = """
name: tiny
input: [1, 7, 7]
layers:
  - {type: nin_block, out_channels: 2, kernel_size: 3, mlp_channels: [10]}
  - {type: dropout, rate: 0.5}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""
TRAIN = {"dataset": "synthetic", "train-examples": 40, "test-examples": 30, "batch-size": 20, "epochs": 2}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A file of two cases, one seed of one of them and two of the other, whose net is a file beside it."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "tiny.yaml").write_text(TINY)
    cases = {"some": {}, "none": {"train": {"dropout-rate": 0.0}, "backends": {"numpy": "0-1"}}}
    entry = {"question": "Which?", "arch": "nets/tiny.yaml", "train": TRAIN, "backends": {"numpy": 0}, "cases": cases}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(entry))
    return path


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool's modules, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


def run_tool(study: Path, *words: object, status: int = 0) -> str:
    """What it printed, out and errors, run from the folder of its study."""
    command = [sys.executable, str(ROOT / "tools" / "study.py"), str(study), *map(str, words)]
    done = subprocess.run(command, cwd=study.parent, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(study: Path) -> list[dict[str, Any]]:
    return list(json.loads(study.with_suffix(".json").read_text())["rows"])


def test_every_run_gets_its_row_and_is_not_run_again(study: Path) -> None:
    run_tool(study, "--only", "none", "--seeds", "1")
    assert [(row["case"], row["seed"]) for row in rows(study)] == [("none", 1)]
    told = run_tool(study)
    found = rows(study)
    assert [(row["case"], row["seed"]) for row in found] == [("none", 0), ("none", 1), ("some", 0)]
    assert "2 of 2 runs" in told
    row = found[0]
    assert row["run"] == "small-none-numpy-e2-s0"
    assert (row["status"], row["epochs"], row["train_examples"], row["precision"]) == ("done", 2, 40, "fp64")
    assert [len(row[name]) for name in ("losses", "train_accs", "test_accs", "seconds")] == [2] * 4
    assert (row["parameters"], row["multiply_adds"]) == (2 * 9 + 2 + 20 + 10, 2 * 9 * 25 + 20 * 25)
    assert {"numpy", "python"} <= row["versions"].keys()
    assert row["machine"]["cores"] >= 1
    assert row["recipe"]["dropout_rate"] == 0.0
    assert found[2]["recipe"]["dropout_rate"] is None
    shutil.rmtree(study.parent / "study")  # as on another machine
    assert "2 of 2 runs" in run_tool(study)
    assert rows(study) == found
    assert not (study.parent / "study").exists()


def test_no_time_no_runs(study: Path) -> None:
    assert "0 of 1 runs" in run_tool(study, "--minutes", 0)
    assert not study.with_suffix(".json").exists()


def test_a_run_that_was_cut_off_is_resumed(study: Path, modules: Any) -> None:
    wanted = next(modules("study_file").read_study(study, {"epochs": 150}).wanted())
    directory = study.parent / "study" / "runs" / wanted.run_name
    arguments = ["--backend", wanted.backend, "--arch", wanted.arch, "--seed", "0", *wanted.options]
    ended = modules("study_run").go_on(directory, arguments, 60.0, lambda: modules("study_rows").ends(directory) != [])
    assert ended["status"] == "interrupted"
    run_tool(study, "--only", wanted.case, "--seeds", 0, "--", "--epochs", 150)
    assert [(row["resumed"], row["status"], len(row["losses"])) for row in rows(study)] == [(1, "done", 150)]


def test_accurate_enough_and_it_says_so(study: Path) -> None:
    run_tool(study, "--only", "some", "--enough", 0.01, "--", "--epochs", 2000)
    (row,) = rows(study)
    assert (row["status"], row["enough"], row["epochs"]) == ("enough", {"test_acc": 0.01}, 2000)
    assert 1 <= len(row["test_accs"]) < 2000


def test_epochs_enough_and_on_from_there(study: Path) -> None:
    """A run that stopped after one epoch or some more is not run again, and goes on once more is asked of it."""
    entry = yaml.safe_load(study.read_text())
    entry |= {"train": {**TRAIN, "epochs": 300}, "cases": {"begun": {"enough": {"epochs": 1}}}}
    study.write_text(yaml.safe_dump(entry))
    run_tool(study)
    (begun,) = rows(study)
    assert (begun["status"], begun["enough"], begun["epochs"]) == ("enough", {"epochs": 1}, 300)
    assert 1 <= len(begun["test_accs"]) < 300
    run_tool(study)
    assert rows(study) == [begun]
    study.with_suffix(".json").unlink()
    (study.parent / "study" / "runs" / begun["run"] / "result.json").unlink()  # as if it had been killed just then
    run_tool(study)
    (begun,) = rows(study)
    assert (begun["status"], begun["resumed"]) == ("enough", 1)
    study.write_text(yaml.safe_dump({**entry, "cases": {"begun": {}}}))
    run_tool(study)
    (whole,) = rows(study)
    assert (whole["run"], whole["status"], whole["resumed"]) == (begun["run"], "done", 2)
    assert whole["test_accs"][: len(begun["test_accs"])] == begun["test_accs"]
    assert len(whole["test_accs"]) == 300


def test_runs_taken_from_a_folder(study: Path, tmp_path: Path) -> None:
    run_tool(study, "--only", "some", "--out", "elsewhere")
    known = rows(study)
    runs = tmp_path / "elsewhere" / "runs"
    (runs / "small-some-numpy-e2-s0").rename(runs / "any-name")
    study.with_suffix(".json").unlink()
    assert "any-name: added to some" in run_tool(study, "--minutes", 0, "--take", runs)
    assert rows(study) == [{**known[0], "run": "any-name"}]
    shutil.copytree(runs / "any-name", runs / "again")
    assert "again: some has its row already, of any-name" in run_tool(study, "--minutes", 0, "--take", runs)
    assert rows(study) == [{**known[0], "run": "any-name"}]
    told = run_tool(study, "--minutes", 0, "--take", runs, "--", "--epochs", 3)
    assert "no case asks for it; the nearest differs by: epochs 2, not 3" in told


def test_another_setting_is_another_run(study: Path) -> None:
    """A row of two epochs is no answer to three, and stays."""
    run_tool(study, "--only", "some")
    run_tool(study, "--only", "some", "--", "--epochs", 3)
    assert [(row["epochs"], row["run"]) for row in rows(study)] == [
        (2, "small-some-numpy-e2-s0"),
        (3, "small-some-numpy-e3-s0"),
    ]


def test_the_same_run_of_another_study_counts(study: Path) -> None:
    other = study.with_name("other.yaml")
    entry = yaml.safe_load(study.read_text())
    other.write_text(yaml.safe_dump({**entry, "cases": {"mine": {}}}))
    run_tool(study, "--only", "some")
    assert "from another study" in run_tool(other)
    assert rows(other) == [{**rows(study)[0], "case": "mine"}]


def test_a_directory_of_another_run_is_left_alone(study: Path) -> None:
    run_tool(study, "--only", "some")
    study.with_suffix(".json").unlink()
    told = run_tool(study, "--only", "some", "--", "--lr", 0.05, status=1)
    assert "lr 0.1, not 0.05" in told
    assert not study.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cases": {}}, "cases"),
        ({"caes": {}}, "caes"),
        ({"backends": {"numpy": "0-x"}}, "FIRST-LAST"),
        ({"train": {"epoch": 2}}, "--epoch"),
        ({"train": {"seed": 2}}, "seed"),
        ({"arch": "nin-mnits"}, "nin-mnist"),
        ({"enough": {"epochs": 0}}, "enough.epochs"),
    ],
)
def test_a_file_that_is_wrong(study: Path, modules: Any, change: dict[str, Any], said: str) -> None:
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), **change}))
    with pytest.raises(NinMultiError, match=said) as raised:
        list(modules("study_file").read_study(study).wanted())
    assert len(str(raised.value).splitlines()) <= 2


def test_unknown_case(study: Path) -> None:
    told = run_tool(study, "--only", "all", status=2)
    assert told.startswith("error: ")
    assert "none, some" in told


def test_every_study_that_is_kept_can_be_read(modules: Any) -> None:
    """Names, nets and options hold, and every row answers something that was once asked."""
    paths = sorted((ROOT / "docs" / "studies").glob("*.yaml"))
    assert paths
    for path in paths:
        wanted = list(modules("study_file").read_study(path).wanted())
        assert wanted
        results = path.with_suffix(".json")
        for row in json.loads(results.read_text())["rows"] if results.exists() else []:
            assert row["case"] in {one.case for one in wanted}, path
