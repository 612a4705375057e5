"""`--set` and `--tune`: what a run uses, where it says so, and what is refused before anything begins."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nin_multi import tuning, tuning_store
from nin_multi.tuning_store import Found

PLUGIN = '''
import os
from nin_multi.knobs import Knob, complete_tuning, micro_batch_knob
from nin_multi.oracle import NumpyBackend


class Knobbed(NumpyBackend):
    """The oracle with two ways to do the same: one is a variable that its process begins with."""

    name = "knobbed"

    def knobs(self, architecture, *, device, precision):
        return (micro_batch_knob(), Knob("layout", ("rows", "columns")), Knob("isa", ("best", "safe"), measured=False))

    def environment(self, precision=None, tuning=None):
        return {"NIN_TEST_ISA": (tuning or {}).get("isa", "best")}

    def build(self, architecture, params, *, device, precision, seed=None, tuning=None):
        complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        return super().build(architecture, params, device=device, precision=precision, seed=seed)
'''


@pytest.fixture(autouse=True)
def knobbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plugins"
    about = folder / "knobbed-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "knobbed_backend.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: knobbed\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[nin_multi.backends]\nknobbed = knobbed_backend:Knobbed\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delitem(sys.modules, "knobbed_backend", raising=False)


@pytest.fixture
def train(nin, flags: list[str], tmp_path: Path) -> Callable[..., Any]:
    """`train --backend knobbed` in the environment that it asks for; gives the outcome and run.json."""

    def run(*more: str, name: str = "run", isa: str = "best", resume: bool = False) -> tuple[Any, dict[str, Any]]:
        begin = ["--resume", name] if resume else ["--backend", "knobbed", *flags, "--run-dir", name]
        found = nin("train", *begin, *more, "--json", inside="knobbed", tuning={"isa": isa})
        assert found.status == 0, found.err
        return found, json.loads((tmp_path / name / "run.json").read_text())

    return run


def _finding(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[float]:
    """From here on measuring finds this at once; gives the seconds that it was granted each time."""
    asked: list[float] = []

    def measure(case: Any, *, seconds: float, report: Any) -> Found:
        asked.append(seconds)
        whole = case.complete(values)
        return Found(tuning=whole, candidates=[], gain=1.5, complete=True, seconds=1.0, when="2026-01-31")

    monkeypatch.setattr(tuning, "measure", measure)
    return asked


DEFAULTS = {"micro_batch": "all", "layout": "rows", "isa": "best"}


class TestTrain:
    def test_defaults(self, train) -> None:
        found, facts = train()
        assert facts["tuning"] == found.json["tuning"] == DEFAULTS
        assert set(facts["tuning_from"].values()) == {"default"}
        assert "tuning:" not in found.err

    def test_by_hand(self, train) -> None:
        found, facts = train("--set", "layout=columns", "--set", "isa=safe", isa="safe")
        assert facts["tuning"] == found.json["tuning"] == {**DEFAULTS, "layout": "columns", "isa": "safe"}
        assert facts["tuning_from"] == {"micro_batch": "default", "layout": "set", "isa": "set"}
        assert facts["environment"] == {"NIN_TEST_ISA": "safe"}
        assert "tuning: layout=columns (set by hand), isa=safe (set by hand)" in found.err

    def test_now_measures_and_stores_and_auto_uses_it(self, train, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = _finding(monkeypatch, layout="columns")
        found, facts = train("--tune", "now")
        assert asked == [tuning.AT_LEISURE]
        assert facts["tuning"] == {**DEFAULTS, "layout": "columns"}
        assert facts["tuning_from"] == {"micro_batch": "measured", "layout": "measured", "isa": "default"}
        assert "kept for this machine" in found.err
        _, facts = train(name="next")
        assert facts["tuning_from"] == {"micro_batch": "stored", "layout": "stored", "isa": "default"}
        assert facts["tuning"]["layout"] == "columns"
        _, facts = train("--set", "layout=rows", name="by hand")
        assert (facts["tuning"]["layout"], facts["tuning_from"]["layout"]) == ("rows", "set")
        _, facts = train("--tune", "off", name="off")
        assert facts["tuning"] == DEFAULTS
        assert asked == [tuning.AT_LEISURE]

    def test_auto_measures_for_a_long_run_only(self, train, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = _finding(monkeypatch, layout="columns")
        train()
        assert asked == []
        monkeypatch.setattr(tuning, "WORTH", 0.0)
        monkeypatch.setattr(tuning, "SHARE", 1e9)
        found, facts = train(name="long")
        assert asked == [tuning.MOST]
        assert facts["tuning"]["layout"] == "columns"
        assert "for at most 60 s" in found.err
        train(name="again")
        assert asked == [tuning.MOST]

    def test_weights_say_nothing_of_it(self, train, tmp_path: Path) -> None:
        train()
        train("--set", "layout=columns", name="other")
        for name in ("weights.safetensors", "checkpoints/step-000014.safetensors"):
            content = (tmp_path / "other" / name).read_bytes()
            assert b"layout" not in content
            assert b"micro_batch" not in content
        runs = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("run", "other")]
        assert runs[0] == runs[1]

    def test_a_damaged_store(self, train, monkeypatch: pytest.MonkeyPatch) -> None:
        _finding(monkeypatch, layout="columns")
        train("--tune", "now")
        (path,) = tuning_store.cache_folder().iterdir()
        path.write_text("{")
        found, facts = train(name="next")
        assert facts["tuning"] == DEFAULTS
        assert f"{path}: holds no choice of ours" in found.err


class TestResume:
    def test_the_same_backend_goes_on_as_it_began(self, train, monkeypatch: pytest.MonkeyPatch) -> None:
        train("--set", "layout=columns", "--set", "isa=safe", isa="safe")
        asked = _finding(monkeypatch, micro_batch="8")
        monkeypatch.setattr(tuning, "WORTH", 0.0)
        found, facts = train("--epochs", "3", isa="safe", resume=True)
        assert asked == []
        (taken,) = facts["resumed"]
        assert taken["tuning"] == found.json["tuning"] == {**DEFAULTS, "layout": "columns", "isa": "safe"}
        assert set(taken["tuning_from"].values()) == {"run"}
        assert facts["tuning_from"]["layout"] == "set"
        assert "layout=columns (as the run began)" in found.err

    def test_a_run_from_before_there_were_choices(self, train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _, facts = train()
        old = {key: value for key, value in facts.items() if not key.startswith("tuning")}
        (tmp_path / "run" / "run.json").write_text(json.dumps(old))
        _finding(monkeypatch, layout="columns")
        train("--tune", "now", name="another")  # now something is stored
        found, _ = train("--epochs", "3", resume=True)
        assert found.json["tuning"] == DEFAULTS

    def test_what_is_said_now_counts_more(self, train, monkeypatch: pytest.MonkeyPatch) -> None:
        train("--set", "layout=columns")
        found, _ = train("--epochs", "3", "--set", "layout=rows", resume=True)
        assert found.json["tuning"] == DEFAULTS
        asked = _finding(monkeypatch, micro_batch="8")
        found, facts = train("--epochs", "4", "--tune", "now", resume=True)
        assert len(asked) == 1
        assert facts["resumed"][-1]["tuning"]["micro_batch"] == "8"

    def test_a_value_that_is_no_more(self, train, tmp_path: Path) -> None:
        _, facts = train()
        facts["tuning"]["layout"] = "spirals"
        (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
        found, _ = train("--epochs", "3", resume=True)
        assert found.json["tuning"] == DEFAULTS
        assert "no layout of that kind any more" in found.err

    def test_another_backend_makes_its_own_choice(self, train, nin) -> None:
        train("--set", "layout=columns")
        found = nin("train", "--resume", "run", "--epochs", "3", "--backend", "numpy", "--json")
        assert (found.status, found.json["tuning"]) == (0, {})

    @pytest.mark.parametrize("damaged", ["often", {"layout": 3}, ["layout"]])
    def test_damaged_facts(self, train, nin, tmp_path: Path, damaged: Any) -> None:
        _, facts = train()
        (tmp_path / "run" / "run.json").write_text(json.dumps({**facts, "tuning": damaged}))
        found = nin("train", "--resume", "run", "--epochs", "3", inside="knobbed")
        assert found.status == 2
        assert "damaged: tuning" in found.error


@pytest.mark.parametrize("command", ["train", "verify"])
@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--set", "layuot=rows"], ["expected one of these knobs: micro_batch, layout, isa", "'layuot'"]),
        (["--set", "layout=spirals"], ["layout: expected one of rows, columns", "'spirals'"]),
        (["--set", "layout"], ["--set: expected KNOB=VALUE", "'layout'"]),
        (["--set", "=rows"], ["--set: expected KNOB=VALUE"]),
        (["--set", "layout=rows", "--set", "layout=columns"], ["--set: layout is given twice: rows and columns"]),
    ],
)
def test_bad_knobs(nin, content, tiny: str, command: str, words: list[str], fragments: list[str]) -> None:
    before = content()
    more = ["--dataset", "synthetic"] if command == "train" else []
    found = nin(command, "--backend", "knobbed", "--arch", tiny, *more, *words, "--json", inside="knobbed")
    assert found.status == 2
    for fragment in fragments:
        assert fragment in found.error
    assert content() == before


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_bad_mode(nin, content, command: str) -> None:
    before = content()
    found = nin(command, "--backend", "numpy", "--tune", "always")
    assert (found.status, found.error) == (2, "--tune: expected auto, off or now, got 'always'")
    assert content() == before


class TestSeveral:
    def test_a_knob_goes_to_those_that_have_it(self, nin, flags: list[str], tmp_path: Path) -> None:
        found = nin("compare", "--backend", "knobbed,numpy", *flags, "--set", "isa=safe", "--tune", "off", "--json")
        assert found.status == 0, found.err
        assert [run["tuning"] for run in found.json["runs"]] == [{**DEFAULTS, "isa": "safe"}, {}]
        (run,) = (tmp_path / "runs").glob("*knobbed*")
        assert json.loads((run / "run.json").read_text())["environment"] == {"NIN_TEST_ISA": "safe"}

    @pytest.mark.parametrize("command", ["compare", "verify"])
    def test_a_knob_that_none_has(self, nin, flags: list[str], command: str) -> None:
        arch = flags if command == "compare" else flags[:2]
        found = nin(command, "--backend", "knobbed,numpy", *arch, "--set", "speed=high")
        assert found.status == 2
        assert "--set: none of knobbed, numpy has a knob 'speed' here" in found.error
        assert "isa, layout, micro_batch" in found.error

    def test_verify(self, nin, flags: list[str]) -> None:
        more = ["--batch-size", "3", "--steps", "2", "--set", "layout=columns", "--json"]
        found = nin("verify", "--backend", "knobbed,numpy", *flags[:2], *more)
        assert (found.status, found.json["agree"]) == (0, True)
        assert found.json["backends"].keys() == {"knobbed", "numpy"}
