"""Runs of a comparison in real processes: what is heard of them, and how each ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nin_multi.compare.conductor import conduct, outcome_of
from nin_multi.compare.sides import Side, sides_of
from nin_multi.launcher import ChildResult
from nin_multi.training.run_directory import RunDirectory

TINY = """\
name: tiny
input: [1, 8, 8]
layers:
  - {type: flatten}
  - {type: linear, out_features: 10}
"""


class Listener:
    """Keeps all that it hears, with its order."""

    def __init__(self) -> None:
        self.notes: dict[str, list[str]] = defaultdict(list)
        self.changes: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.points: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.order: list[tuple[str, str]] = []

    def note(self, side: Side, text: str) -> None:
        self.notes[side.id].append(text)

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        self.changes[side.id].append(dict(fields))
        if "status" in fields:
            self.order.append((side.id, fields["status"]))

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        self.points[side.id].append(dict(event))

    def last(self, identity: str) -> dict[str, Any]:
        return {key: value for change in self.changes[identity] for key, value in change.items()}


@pytest.fixture
def command(tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(TINY)

    def make(side: Side, epochs: int = 2) -> list[str]:
        words = ["train", "--backend", side.backend, "--arch", str(tmp_path / "tiny.yaml"), "--dataset", "synthetic"]
        words += ["--train-examples", "64", "--test-examples", "20", "--batch-size", "10", "--epochs", str(epochs)]
        return [*words, "--seed", str(side.seed), "--runs-dir", str(tmp_path / "runs")]

    return make


def test_all_that_is_to_be_heard(command) -> None:
    listener = Listener()
    sides = sides_of(["numpy"], ["tiny"], [None], [0, 1], {})
    results = conduct(sides, command, listener, epochs=2, patience=60)
    assert [result.status for result in results] == [0, 0]
    for side, result in zip(sides, results, strict=True):
        answer = result.answer or {}
        assert answer["seed"] == side.seed
        told = listener.last(side.id)
        assert (told["status"], told["result"], told["run_dir"]) == ("done", answer, answer["run_dir"])
        assert listener.points[side.id] == RunDirectory.open(Path(answer["run_dir"])).events()
        assert any("320" in line or "parameters" in line for line in listener.notes[side.id])
        assert not any(line.lstrip().startswith("step ") for line in listener.notes[side.id])
    # One after another: the first is done before the second starts.
    assert listener.order.index((sides[0].id, "done")) < listener.order.index((sides[1].id, "starting"))


def test_together(command) -> None:
    listener = Listener()
    sides = sides_of(["numpy"], ["tiny"], [None], [0, 1], {})
    results = conduct(sides, command, listener, epochs=2, patience=60, together=True)
    assert [(result.answer or {})["seed"] for result in results] == [0, 1]
    starts = [listener.order.index((side.id, "starting")) for side in sides]
    ends = [listener.order.index((side.id, "done")) for side in sides]
    assert max(starts) < min(ends)


def test_figures_come_with_the_signs_of_life(command) -> None:
    """Points of the curve are hours apart where an epoch takes a day."""
    listener = Listener()
    (side,) = sides_of(["numpy"], ["tiny"], [None], [0], {})
    conduct([side], lambda one: command(one, epochs=3000), _Stopping(listener), epochs=3000, patience=60)
    now = listener.last(side.id)["now"]
    assert now.keys() == {"loss", "train_acc", "examples_per_sec"}
    assert 0 < now["loss"] < 10
    assert listener.last(side.id)["seconds_left"] is None  # at its end
    assert any(change.get("seconds_left") for change in listener.changes[side.id])
    told = listener.last(side.id)
    assert told["status"] == "interrupted"
    assert told["reason"].startswith("at step ")
    assert told["to_go_on"] == f"nin_multi train --resume {told['run_dir']}"


class _Stopping:
    """Ends the run by a signal once it is well under way."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._signs = listener, 0

    def note(self, side: Side, text: str) -> None:
        self._listener.note(side, text)

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        self._listener.point(side, event)

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        self._listener.change(side, fields)
        if fields.get("seconds_left"):
            self._signs += 1
            if self._signs == 2:
                (run,) = Path(self._listener.last(side.id)["run_dir"]).parent.iterdir()
                os.kill(_writer_of(run), signal.SIGTERM)


def _writer_of(run: Path) -> int:
    """The process that trains there."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"train" in words and str(run.parent).encode() in words:
            return int(folder.name)
    raise AssertionError(f"nobody trains in {run}")


def test_one_that_fails_takes_no_other_with_it(command, tmp_path: Path) -> None:
    listener = Listener()
    sides = sides_of(["numpy"], ["tiny"], [None], [0, 1], {})

    def broken(side: Side) -> list[str]:
        return command(side) if side.seed else [*command(side), "--lr", "-1"]

    failed, done = conduct(sides, broken, listener, epochs=2, patience=60)
    assert (failed.status, done.status) == (2, 0)
    assert listener.last(sides[0].id)["status"] == "failed"
    assert listener.last(sides[0].id)["reason"].startswith("--lr: expected a positive number")
    assert listener.last(sides[0].id).get("run_dir") is None
    assert listener.last(sides[1].id)["status"] == "done"


def test_whoever_leaves_takes_all_with_him(command, tmp_path: Path) -> None:
    """Each of them gets to write its checkpoint."""
    sides = sides_of(["numpy"], ["tiny"], [None], [0, 1], {})

    class Leaves(Listener):
        def change(self, side: Side, fields: Mapping[str, Any]) -> None:
            super().change(side, fields)
            if all((self.last(each.id).get("step") or 0) > 0 for each in sides):
                raise SystemExit(143)

    with pytest.raises(SystemExit):
        conduct(sides, lambda side: command(side, 10**6), Leaves(), epochs=10**6, patience=60, together=True)
    runs = sorted((tmp_path / "runs").iterdir())
    assert [json.loads((run / "result.json").read_text())["status"] for run in runs] == ["interrupted"] * 2


def test_another_python(command, tmp_path: Path) -> None:
    """It is the one that is started, with the environment as the user has it."""
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\nexport OTHER=1\necho "I am another, $1 $2" >&2\nexit 7\n')
    other.chmod(0o755)
    listener = Listener()
    (side,) = sides_of(["numpy"], ["tiny"], [None], [0], {"numpy": str(other)})
    (result,) = conduct([side], command, listener, epochs=1, patience=60)
    assert result.exit_status == 7
    assert listener.notes[side.id] == ["I am another, -m nin_multi"]
    assert "ended with status 7" in listener.last(side.id)["reason"]


def test_an_outcome_without_a_word() -> None:
    told = outcome_of(ChildResult("numpy", -signal.SIGKILL, None))
    assert told["status"] == "failed"
    assert "SIGKILL" in told["reason"]
    assert (told["run_dir"], told["to_go_on"]) == (None, "")


def test_nothing_is_left_behind(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    conduct(sides_of(["numpy"], ["tiny"], [None], [0], {}), command, Listener(), epochs=2, patience=60)
    until = time.monotonic() + 10
    while list(folder.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(folder.iterdir()) == []
