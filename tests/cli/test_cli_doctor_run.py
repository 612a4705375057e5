"""`doctor RUN`: the verdict, findings and layers; exit statuses; what it says where the net is out of reach."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nin_multi import randomness
from nin_multi.cli import doctor as command
from nin_multi.dead_channels import Look
from nin_multi.diagnosis import Diagnosis
from nin_multi.launcher import Child
from nin_multi.training.run_directory import RunDirectory

ENOUGH = ["--train-examples", "600", "--test-examples", "500", "--batch-size", "50", "--lr", "0.01"]
KEYS = {"run", "status", "summary", "findings", "classes", "layers", "dead_logits", "images", "not_looked"}


@pytest.fixture
def trained(nin, tiny: str) -> Any:
    def train(*more: str) -> Path:
        words = ["--arch", tiny, "--dataset", "synthetic", *ENOUGH, "--epochs", "1", "--run-dir", "run", *more]
        assert nin("train", "--backend", "numpy", *words).status == 0
        return Path("run")

    return train


@pytest.fixture
def dead(trained, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All channels before the logits are shut from the beginning."""
    draw = randomness.initial_parameters

    def drawn(*arguments: Any) -> Any:
        params = draw(*arguments)
        params["block1.mlp2.bias"][:] = -1e3
        return params

    monkeypatch.setattr(randomness, "initial_parameters", drawn)
    run: Path = trained()
    return run


def _lines(text: str) -> list[str]:
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    return lines


def test_a_dead_run(nin, dead: Path) -> None:
    found = nin("doctor", dead, "--backend", "numpy", "--json")
    assert (found.status, found.err) == (1, "")
    answer = found.json
    assert answer.keys() == KEYS
    assert (answer["run"], answer["status"], answer["images"]) == ("run", "done", 500)
    assert answer["classes"].keys() == {"dead", "never_predicted", "since_step", "predicted_loss", "loss"}
    assert answer["classes"]["dead"] == answer["dead_logits"] == list(range(10))
    assert [layer["name"] for layer in answer["layers"]] == ["block1.relu", "block1.relu1", "block1.relu2"]
    assert answer["layers"][-1] == {"name": "block1.relu2", "channels": 10, "dead": 10}
    assert all(one.keys() == {"verdict", "about", "what", "remedy"} for one in answer["findings"])
    plain = nin("doctor", dead, "--backend", "numpy")
    assert plain.status == 1
    lines = _lines(plain.out)
    assert lines[0].startswith("run: done, 1 epoch: 10 of 10 classes are dead; loss 2.303")
    assert lines[2] == ""
    assert lines[3].startswith("ok      end: ")
    (arrow,) = [line for line in lines if line.startswith("        -> in a new run: ")]
    assert arrow.endswith("flags of it:")
    assert lines[-2].split() == ["block1.relu2", "10", "10", "100", "%"]


def test_a_run_that_has_lost_nothing(nin, trained) -> None:
    run = trained("--final-relu", "off", "--lr", "0.05", "--epochs", "25", "--momentum", "0.9", "--init", "he")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = nin("doctor", run, "--backend", "numpy", "--json")
    assert found.status == 0, found.out
    assert found.json["classes"]["dead"] == []
    assert [layer["name"] for layer in found.json["layers"]] == ["block1.relu", "block1.relu1"]
    assert not [one for one in found.json["findings"] if one["verdict"] == "wrong"]
    assert nin("doctor", run, "--backend", "numpy").out.startswith("run: done, 25 epochs: no class is lost; loss ")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_its_own_backend_is_asked_in_a_process_of_its_own(nin, dead: Path) -> None:
    own, named = nin("doctor", dead, "--json"), nin("doctor", dead, "--backend", "numpy", "--json")
    assert own.status == 1
    assert own.json == named.json


def test_killed(nin, trained) -> None:
    run = trained()
    for name in ("result.json", "weights.safetensors", "curve.svg"):
        (run / name).unlink()
    found = nin("doctor", run, "--backend", "numpy", "--json").json
    assert found["status"] == "unfinished"
    assert found["layers"] is not None  # from its checkpoint
    (end,) = [one for one in found["findings"] if one["about"] == "end"]
    assert end["remedy"] == "to go on: nin_multi train --resume run"
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    found = nin("doctor", run, "--backend", "numpy", "--json").json
    assert found["layers"] is None
    assert "not a complete safetensors file" in found["not_looked"]
    shutil.rmtree(run / "checkpoints")
    assert nin("doctor", run, "--json").json["not_looked"] == "it has left no weights, and no checkpoint"


def test_being_written(nin, dead: Path) -> None:
    with RunDirectory.open(dead).writing():
        found = nin("doctor", dead, "--json")
        assert (found.status, found.json["status"]) == (1, "running")
        assert found.json["layers"] is None
        assert "--backend NAME" in found.json["not_looked"]
        assert nin("doctor", dead, "--backend", "numpy", "--json").json["layers"] is not None


class TestOutOfReach:
    def _change(self, run: Path, **facts: Any) -> None:
        (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **facts}))

    def test_a_framework_that_is_missing(self, nin, dead: Path, others) -> None:
        self._change(dead, backend="missing")
        found = nin("doctor", dead)
        assert found.status == 1
        lines = " ".join(line.strip() for line in _lines(found.out))
        assert "absent  net: not looked into: missing: " in lines
        assert "10 of 10 classes are dead" in lines
        assert nin("doctor", dead, "--backend", "missing", inside="missing").status == 3

    def test_a_framework_that_crashes(self, nin, dead: Path, others) -> None:
        self._change(dead, backend="crashing")
        found = nin("doctor", dead, "--json")
        assert found.status == 1
        assert "SIGABRT" in found.json["not_looked"]

    def test_a_backend_of_no_such_name(self, nin, dead: Path) -> None:
        self._change(dead, backend="--help")
        assert "'--help'" in nin("doctor", dead, "--json").json["not_looked"]

    def test_its_own_is_the_last_one_that_took_it_up(self, nin, dead: Path, others) -> None:
        place = {"backend": "crashing", "device": "cpu", "precision": "fp64"}
        self._change(dead, resumed=[place])
        assert "crashing" in nin("doctor", dead, "--json").json["not_looked"]

    @pytest.mark.parametrize("name", ["fashion-mnist", "mine"])
    def test_images_that_are_not_here(
        self, nin, dead: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        facts = json.loads((dead / "run.json").read_text())["dataset"]
        self._change(dead, dataset={**facts, "name": name})
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing is fetched
        found = nin("doctor", dead, "--backend", "numpy", "--json")
        assert found.status == 1
        assert found.json["layers"] is None
        word = "no test images: " if name == "fashion-mnist" else "'mine' are not known"
        assert word in found.json["not_looked"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_sees_the_same_channels(nin, dead: Path) -> None:
    arguments = ["doctor", str(dead.absolute()), "--backend"]
    seen = {name: Child(name, [*arguments, name]).result() for name in ("torch", "numpy")}
    assert [result.exit_status for result in seen.values()] == [1, 1]
    a, b = ((result.answer or {}).get("layers") for result in seen.values())
    assert a is not None
    assert a == b


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["nowhere"], "nowhere: not a run directory"),
        (["run", "--backend", "numpy,torch"], "expected one name"),
        (["run", "--backend", "nunpy"], "'numpy'"),
        (["--data-dir", "."], "--data-dir"),
    ],
)
def test_bad_input(nin, dead: Path, arguments: list[str], fragment: str) -> None:
    found = nin("doctor", *arguments)
    assert found.status == 2
    assert fragment in found.error


def test_a_damaged_run_json(nin, dead: Path) -> None:
    (dead / "run.json").write_text("{")
    found = nin("doctor", dead)
    assert found.status == 2
    assert "run.json: cannot be read as JSON" in found.error


def test_many_layers_are_fifteen_rows(capsys: pytest.CaptureFixture[str]) -> None:
    layers = [{"name": f"block{n}.relu", "channels": 10, "dead": n % 10} for n in range(20)]
    command._print_run(Path("run"), Diagnosis("fine", [], {}), Look(500, layers, []))
    out = capsys.readouterr().out
    rows = [line.split()[0] for line in out.splitlines() if line.strip().startswith("block")]
    assert len(rows) == 15
    assert "block10.relu" not in rows
    assert rows == sorted(rows, key=lambda name: int(name[5:].partition(".")[0]))
    assert "and 5 more layers with no larger share of dead channels" in out
