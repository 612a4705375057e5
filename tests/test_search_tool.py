"""`make search`: real trials of a tiny net, in a file that several processes share; what the time cut off goes on."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("optuna")
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def run_tool(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "search.py"), "--out", "s", "--store", "search.json"]
    command += ["--backend", "numpy", "--precision", "fp64", "--arch", "tiny.yaml"]
    command += ["--dataset", "synthetic", "--train-examples", "40", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def search(folder: Path, *words: object, storage: str = "s/search.log") -> dict[str, Any]:
    """The file of results after some more trials."""
    done = run_tool(folder, "--storage", storage, *words)
    assert done.returncode == 0, done.stderr
    return dict(json.loads((folder / "search.json").read_text()))


def test_trials_add_up(folder: Path) -> None:
    """In a database, as several machines would use one."""
    first = search(folder, "--trials", 1, "--epochs", 2, storage="sqlite:///trials.db")
    assert first["trials"][0]["params"] == first["first"]  # the dependable recipe is what has to be beaten
    found = search(folder, "--trials", 1, "--epochs", 2, storage="sqlite:///trials.db")
    assert found["trials"][0] == first["trials"][0]
    assert [trial["number"] for trial in found["trials"]] == [0, 1]
    row = found["trials"][1]
    assert len(row["test_accs"]) == len(row["seconds"]) == 2
    assert row["recipe"]["lr"] == row["params"]["lr"]
    assert row["recipe"]["test_examples"] == found["judged_by"]
    assert {"numpy", "python"} <= row["versions"].keys()
    assert found["best"]["judged_acc"] == max(trial["test_accs"][-1] for trial in found["trials"])
    assert (found["recipe"]["number"], found["recipe"]["judged_acc"]) == (0, first["trials"][0]["test_accs"][-1])


@pytest.mark.parametrize(
    ("told", "epochs", "attrs", "expected"),
    [
        ("COMPLETE", 3, {}, "COMPLETE"),
        ("COMPLETE", 1, {}, "DIVERGED"),  # it ended by itself before its last epoch
        ("PRUNED", 1, {}, "PRUNED"),
        ("FAIL", 1, {"cut_off": "runs/a"}, "CUT OFF"),
    ],
)
def test_a_trial_is_named_by_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, told: str, epochs: int, attrs: dict[str, Any], expected: str
) -> None:
    optuna = pytest.importorskip("optuna")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    state = optuna.trial.TrialState[told]
    values = dict.fromkeys(range(1, epochs + 1), 0.5)
    value = 0.5 if told == "COMPLETE" else None
    trial = optuna.trial.create_trial(state=state, value=value, intermediate_values=values, user_attrs=attrs)
    assert importlib.import_module("search")._row(trial, 3)["state"] == expected


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("tiny.yaml", "--storage tiny.yaml: expected a new file or one that a search has made"),
        (".", "--storage .: cannot be used (Is a directory)"),
        ("sqlite:///no/folder.db", "sqlite:///no/folder.db: the database cannot be used: unable to open database file"),
        ("nosuch://me:secret@host/x", "nosuch://me:***@host/x: the database cannot be used: Can't load plugin"),
    ],
)
def test_a_storage_that_cannot_be_used(folder: Path, storage: str, said: str) -> None:
    done = run_tool(folder, "--storage", storage, "--trials", 0)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr
    assert not (folder / "search.json").exists()


def trained_beyond(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """All trials, once the last one has more epochs than that: on a busy machine a run may not begin in its time."""
    for minutes in (0.1, 0.3, 1.0, 3.0):
        trials: list[dict[str, Any]] = search(folder, "--minutes", minutes, "--epochs", 100_000)["trials"]
        if len(trials[-1]["test_accs"]) > epochs:
            return trials
    raise AssertionError(f"no trial came beyond {epochs} epochs")


def test_what_the_time_cut_off_goes_on(folder: Path) -> None:
    before = trained_beyond(folder, 0)
    after = trained_beyond(folder, len(before[-1]["test_accs"]))
    assert {trial["state"] for trial in after} == {"CUT OFF"}
    assert [trial["goes_on_from"] for trial in after] == [None, *range(len(after) - 1)]
    assert all(trial["params"] == after[0]["params"] for trial in after)
    assert before[-1]["run"] == after[-1]["run"] == "search-nin-mnist-t0"


def test_which_hyper_parameter_mattered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two, the one that the value hangs on."""
    optuna = pytest.importorskip("optuna")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))

    def value(trial: Any) -> float:
        return trial.suggest_float("lr", 0.0, 1.0) + 0.0 * trial.suggest_float("momentum", 0.0, 1.0)

    study.optimize(value, n_trials=60)
    found = importlib.import_module("search").importances(study)
    assert found["lr"] > 0.8
    assert sum(found.values()) == pytest.approx(1.0)
