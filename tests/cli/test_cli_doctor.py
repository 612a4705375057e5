"""`doctor`: findings first, what to do beside each, and an exit status that a named backend decides alone."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import pytest

from nin_multi import health, machine, tuning_store
from nin_multi.tuning_store import Found, remember

ROW = {
    *("name", "status", "reason", "version", "devices", "bf16", "environment", "facts", "requirements", "tunings"),
}  # the contract; more may be there


def _findings(found: Any, about: str, verdict: str) -> list[dict[str, str]]:
    return [one for one in found.json["findings"] if (one["about"], one["verdict"]) == (about, verdict)]


def test_json(nin) -> None:
    found = nin("doctor", "--backend", "numpy", "--json")
    assert (found.status, found.err) == (0, "")
    answer = found.json
    assert answer.keys() == {"findings", "machine", "backends"}
    assert answer["machine"].keys() >= {
        *("processor", "instruction_sets", "cores", "memory_bytes", "available_memory_bytes", "huge_pages"),
        *("granted_cores", "load"),
    }
    (row,) = answer["backends"]
    assert row.keys() >= ROW
    assert (row["name"], row["version"], row["status"]) == ("numpy", np.__version__, "ok")
    assert all(one.keys() == {"verdict", "about", "what", "remedy"} for one in answer["findings"])
    assert _findings(found, "numpy", "ok")[0]["what"] == f"{np.__version__} starts; devices: cpu"
    # Where nothing can be done, nothing is said to be wrong.
    assert all(one["remedy"] for one in answer["findings"] if one["verdict"] in ("slow", "wrong"))


def test_for_people(nin) -> None:
    found = nin("doctor", "--backend", "numpy")
    assert found.status == 0
    lines = found.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("ok      machine: ")
    assert "train --tune now" in lines[-1]  # nothing is stored


def test_one_that_cannot_start(nin, others) -> None:
    found = nin("doctor", "--backend", "missing", "--json", inside="missing")
    assert found.status == 3
    (wrong,) = _findings(found, "missing", "wrong")
    assert "'a_framework_that_is_nowhere' is not installed" in wrong["what"]
    assert "pip install" in wrong["remedy"]
    assert found.json["backends"][0].keys() >= ROW
    plain = nin("doctor", "--backend", "missing", inside="missing")
    assert plain.status == 3
    assert "wrong   missing: " in plain.out
    assert "nin-multi[missing]" in plain.out.replace("\n        ", "")  # square brackets are markup to Rich


def test_several(nin, others) -> None:
    found = nin("doctor", "--backend", "crashing,numpy", "--json")
    assert found.status == 3
    assert [(row["name"], row["status"]) for row in found.json["backends"]] == [
        *(("crashing", "unavailable"), ("numpy", "ok")),
    ]
    (wrong,) = _findings(found, "crashing", "wrong")
    assert "SIGABRT" in wrong["what"]


def test_a_missing_framework_that_nobody_named_is_only_absent() -> None:
    row = health.unavailable("missing", "missing: the package 'frame' is not installed.\nInstall it.")
    (absent,) = health.judge_backend(row, named=False)
    assert (absent.verdict, absent.remedy) == ("absent", "Install it.")
    (wrong,) = health.judge_backend(row, named=True)
    assert wrong.verdict == "wrong"
    (broken,) = health.judge_backend(health.unavailable("broken", "it breaks on import"), named=False)
    assert broken.verdict == "wrong"


def _row(**changed: Any) -> dict[str, Any]:
    ok = {"name": "mine", "status": "ok", "reason": "", "version": "1", "devices": ["cpu"], "environment": []}
    return {**ok, "bf16": {"sets": [], "here": False}, "facts": {}, "requirements": [], "tunings": [], **changed}


def _variable(name: str, asked: str | None, actual: str | None, by_user: bool = False) -> dict[str, Any]:
    return {"name": name, "asked": asked, "actual": actual, "set_by_user": by_user, "why": "threads"}


def _judged(**changed: Any) -> list[tuple[str, str, str]]:
    row = _row(**changed)
    return [(one.verdict, one.what, one.remedy) for one in health.judge_backend(row, named=True)][1:]


class TestBackends:
    def test_a_variable_that_a_user_has_set(self) -> None:
        variables = [_variable("OMP_NUM_THREADS", "8", "1", by_user=True), _variable("MALLOC_ARENA_MAX", "1", "1")]
        ((verdict, what, remedy),) = _judged(environment=variables)
        assert (verdict, remedy) == ("slow", "unset OMP_NUM_THREADS")
        assert what == "OMP_NUM_THREADS=1 is set by you; asked for is 8 (threads)"

    def test_variables_as_asked(self) -> None:
        (found,) = _judged(environment=[_variable("A", "1", "1"), _variable("MKL_DEBUG", None, "5", by_user=True)])
        assert found == ("ok", "all variables that it asks for are as it asks", "")

    @pytest.mark.parametrize(("threads", "verdict"), [("4", "ok"), ("3", "slow"), ("25", "slow")])
    def test_threads(self, monkeypatch: pytest.MonkeyPatch, threads: str, verdict: str) -> None:
        monkeypatch.setattr(health, "cores", lambda: 4)
        ((found, what, _),) = _judged(facts={"threads": threads})
        assert found == verdict
        assert what == f"threads it computes with: {threads}, cores it may use: 4"

    def test_bf16(self) -> None:
        (fast,) = _judged(bf16={"sets": ["some", "other"], "here": True})
        assert fast[0] == "ok"
        assert fast[1].startswith("--precision bf16 may be faster")
        (slow,) = _judged(bf16={"sets": ["some", "other"], "here": False})
        assert slow[0] == "ok"
        assert "no faster" in slow[1]
        assert slow[1].endswith("has no some and no other")

    def test_versions(self) -> None:
        fits = {"name": "frame", "wanted": ">=2", "installed": "2.1", "fits": True}
        other = {"name": "numpy", "wanted": "<2", "installed": "2.3", "fits": False}
        gone = {"name": "more", "wanted": "", "installed": None, "fits": False}
        first, second = _judged(requirements=[fits, other, gone])
        assert first == ("wrong", "numpy 2.3; asked for is <2", "pip install -c constraints.txt 'nin-multi[mine]'")
        assert second[:2] == ("wrong", "more is not installed")

    def test_what_the_extras_ask_for(self) -> None:
        for name, package in (("torch", "torch"), ("mxnet", "mxnet")):
            wanted = {one["name"]: one for one in health.unavailable(name, "")["requirements"]}
            assert package in wanted
            assert wanted[package]["wanted"]
        assert health.unavailable("somebodys", "")["requirements"] == []

    def test_without_one_dnn(self) -> None:
        assert _judged(facts={"oneDNN": "no"}) == [
            ("slow", "built without oneDNN", "install a build that has it"),
        ]

    def test_what_a_user_has_set_beside(self, nin, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith(health._TELLING)]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("MKL_NUM_THREADS", "1")
        (row,) = nin("doctor", "--backend", "numpy", "--json").json["backends"]
        (variable,) = row["environment"]
        told = {"name": "MKL_NUM_THREADS", "asked": None, "actual": "1", "set_by_user": True, "why": ""}
        assert variable == told


class TestMachine:
    FACTS: ClassVar[dict[str, Any]] = {
        "processor": "Some CPU",
        "instruction_sets": ["avx2"],
        "cores": 4,
        "processors": 4,
        "granted_cores": None,
        "memory_bytes": 16e9,
        "available_memory_bytes": 12e9,
        "huge_pages": "madvise",
        "load": 0.5,
    }

    def _slow(self, **changed: Any) -> list[str]:
        found = list(health.judge_machine({**self.FACTS, **changed}))
        return [f"{one.what}: {one.remedy}" for one in found if one.verdict != "ok"]

    def test_all_is_well(self) -> None:
        assert self._slow() == []
        first = next(health.judge_machine(self.FACTS))
        assert first.what == "Some CPU, 4 cores, avx2"

    @pytest.mark.parametrize(
        ("changed", "fragment"),
        [
            ({"granted_cores": 1.5}, "a container's limit grants 1.5 of 4 cores: set OMP_NUM_THREADS=1"),
            ({"granted_cores": 0.5}, "set OMP_NUM_THREADS=1"),
            ({"load": 3.0}, "3.0 processes"),
            ({"available_memory_bytes": 1e9}, "1.0 of 16.0 GB of memory are free"),
            ({"huge_pages": "never"}, "transparent huge pages are off"),
        ],
    )
    def test_what_is_slow(self, changed: dict[str, Any], fragment: str) -> None:
        (line,) = self._slow(**changed)
        assert fragment in line

    def test_fewer_cores_than_there_are(self) -> None:
        first = next(health.judge_machine({**self.FACTS, "cores": 1}))
        assert "1 of its 4 cores" in first.what


class TestStored:
    def _store(self, **changed: Any) -> None:
        here = machine.describe()
        key = {
            "backend": "numpy",
            "framework_version": np.__version__,
            "nin_multi": machine.own_version(),
            "device": "cpu",
            "precision": "fp64",
            "batch_size": 64,
            "fixed": {},
            **{name: here[name] for name in ("processor", "instruction_sets", "cores")},
        }
        found = Found(
            tuning={"micro_batch": "16"}, candidates=[], gain=1.25, complete=True, seconds=3.0, when="2026-01-31"
        )
        remember({**key, **changed}, found, lambda _: None, arch="nin-mnist")

    def test_every_choice_for_this_machine(self, nin) -> None:
        self._store()
        self._store(batch_size=32, framework_version="0.1")
        self._store(batch_size=16, processor="another")
        self._store(batch_size=8, backend="mxnet")
        (tuning_store.cache_folder() / "foreign.json").write_text("{}")
        (row,) = nin("doctor", "--backend", "numpy", "--json").json["backends"]
        told = {tuning["batch_size"]: tuning for tuning in row["tunings"]}
        assert told.keys() == {64, 32}
        facts = {"arch": "nin-mnist", "precision": "fp64", "tuning": {"micro_batch": "16"}, "gain": 1.25}
        assert {key: told[64][key] for key in facts} == facts
        assert (told[64]["current"], told[32]["current"]) == (True, False)
        found = nin("doctor", "--backend", "numpy")
        assert "stored for this machine" in found.out
        assert "micro_batch=16" in found.out
        assert "numpy (old)" in found.out
        assert all(len(line) <= 80 for line in found.out.splitlines())
