"""Lost classes: counted from logits, told while a run goes on, kept in events, checkpoints and the result."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import randomness
from nin_multi.backend import StepResult
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Architecture
from nin_multi.training.classes import ClassWatch, loss_with_dead
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Progress, Totals
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory
from nin_multi.training.scores import ClassCounts, count_classes, count_confusions, score

NAMES = ("shirt", "shoe", "bag")


class Notes(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def _logits(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_what_logits_say_of_classes() -> None:
    counts = count_classes(_logits((0, 2, 0), (0, 1, 0.5), (0, 0, 3)))
    assert counts == ClassCounts((0, 2, 1), (0, 2, 2))
    assert (counts.dead(), counts.never_predicted()) == ([0], [0])
    below = count_classes(_logits((-1, 2, 1), (-3, 1, 5)))
    assert (below.dead(), below.never_predicted()) == ([], [0])  # alive, for all that


def test_a_score_counts_too() -> None:
    found = score(_logits((0, 2, 0), (0, 1, 4)), np.array([1, 1]))
    assert (found.accuracy, found.counts.predicted) == (0.5, (0, 1, 1))
    assert found.confusion == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert found.loss == pytest.approx((math.log(2 + math.e**2) - 2 + math.log(1 + math.e + math.e**4) - 1) / 2)


def test_what_was_taken_for_what() -> None:
    logits = _logits((3, 0, 0, 0), (0, 2, 0, 1), (0, 0, 0, 9), (0, 0, 0, 9), (5, 0, 0, 0))
    labels = np.array([0, 2, 2, 2, 1], np.uint8)  # 8 bits do not hold the products of many classes
    assert count_confusions(logits, labels, 3) == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 2]]
    many = np.eye(200)[[199, 0]]
    table = np.array(count_confusions(many, np.array([199, 199], np.uint8), 200))
    assert (table.shape, table[199, 199], table[199, 0], table.sum()) == ((200, 200), 1, 1, 2)


def test_totals_add_up_over_steps() -> None:
    totals = Totals()
    for row in ((0, 2, 0), (0, 0, 1), (0, 0, 4)):
        totals.add(StepResult(1.0, 0, 1, _logits(row)), compute_seconds=0, seconds=0)
    assert totals.counts() == ClassCounts((0, 1, 2), (0, 1, 2))
    totals.add(StepResult(1.0, 0, 1), compute_seconds=0, seconds=0)  # logits that stayed on a device
    assert totals.counts() == ClassCounts((0, 1, 2), (0, 1, 2))


def test_the_loss_with_so_many_dead() -> None:
    assert loss_with_dead(0) == pytest.approx(0.36)
    assert loss_with_dead(10) == pytest.approx(math.log(10))
    assert loss_with_dead(3) == pytest.approx(0.7 * 0.36 + 0.3 * math.log(10))
    assert loss_with_dead(1, classes=4) == pytest.approx(0.75 * 0.36 + 0.25 * math.log(4))


def _at(count: int, nonzero: list[int]) -> Progress:
    progress = Progress(steps=10, epochs=1, steps_per_epoch=10)
    progress.epoch_totals = Totals(count=count, predicted=[1, 1, 1], nonzero=nonzero)
    return progress


def test_dead_classes_are_told_when_they_change() -> None:
    watch = ClassWatch(NAMES)
    assert watch.at_point(_at(499, [0, 9, 9])) is None  # too few to say
    first = watch.at_point(_at(1000, [0, 9, 9]))
    assert first is not None
    assert first.splitlines()[0] == "dead: shirt: logit 0 for all of the 1,000 training images since the epoch began."
    assert f"With 1 of 3 dead the loss comes to rest near {loss_with_dead(1, 3):.2f}." in first
    assert "--recipe dependable" in first
    assert "--final-relu off" in first
    assert watch.at_point(_at(2000, [0, 9, 9])) is None
    more = watch.at_point(_at(3000, [0, 9, 0]))
    assert more is not None
    assert more.startswith("dead: shirt, bag: ")
    assert "no class is dead any more" in (watch.at_point(_at(4000, [1, 9, 1])) or "")


def test_classes_never_predicted_are_told_at_the_end_of_an_epoch() -> None:
    watch, progress = ClassWatch(NAMES), _at(1000, [9, 9, 9])
    progress.test_counts = ClassCounts((600, 0, 0), (600, 600, 0))
    # In training, with dropout, the bag is alive.
    assert watch.at_epoch(progress) == "never predicted for the test images: shoe, bag"
    assert watch.at_epoch(progress) is None
    watch, progress.epoch_totals = ClassWatch(NAMES), Totals(count=1000)  # on resident images
    told = watch.at_epoch(progress)
    assert told is not None
    assert told.startswith("dead: bag: logit 0 for all of the test images.")
    assert told.splitlines()[-1] == "never predicted for the test images: shoe"
    assert watch.at_epoch(progress) is None


@pytest.fixture
def job(tiny: Architecture) -> Job:
    data = synthetic_dataset(600, 500)
    return Job(NumpyBackend(), "cpu", "fp64", tiny, data, Recipe(epochs=2, batch_size=50, lr=0.01))


def _shut(monkeypatch: pytest.MonkeyPatch, classes: list[int]) -> None:
    draw = randomness.initial_parameters

    def shut(*arguments: Any) -> Any:
        params = draw(*arguments)
        params["block1.mlp2.bias"][classes] = -1e3
        return params

    monkeypatch.setattr(randomness, "initial_parameters", shut)


def test_a_run_that_has_lost_classes_says_so(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _shut(monkeypatch, [1, 7])
    notes = Notes()
    result = train(job, RunDirectory.create(tmp_path / "run"), notes)
    said = [line for line in notes.lines if line.startswith("dead: ")]
    assert all({"Trouser", "Sneaker"} <= set(line.partition(": logit")[0][6:].split(", ")) for line in said)
    assert {1, 7} <= set(result["dead_classes"]) <= set(result["never_predicted"])
    names = ", ".join(job.dataset.classes[index] for index in result["dead_classes"])
    assert said[-1].startswith(f"dead: {names}: logit 0 for all of ")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    counted = [event for event in events if event["event"] != "layers"]
    assert all({1, 7} <= set(event["dead_classes"]) for event in counted)
    assert events[-1]["test_dead_classes"] == result["dead_classes"]


def test_a_healthy_run_says_nothing(job: Job, tmp_path: Path) -> None:
    notes = Notes()
    healthy = Job(job.backend, "cpu", "fp64", job.architecture, job.dataset, replace(job.recipe, final_relu=False))
    assert train(healthy, RunDirectory.create(tmp_path / "run"), notes)["dead_classes"] == []
    assert not [line for line in notes.lines if "dead" in line]
    assert healthy.architecture.layers[0].final_relu is False  # type: ignore[union-attr]


def test_the_counts_of_a_broken_epoch_are_those_of_the_whole(job: Job, tmp_path: Path, data: Dataset) -> None:
    class Stops(Silent):
        def step(self, progress: Progress) -> None:
            if progress.step == 17:
                signal.raise_signal(signal.SIGTERM)

    whole = train(job, RunDirectory.create(tmp_path / "whole"), Silent())
    train(job, RunDirectory.create(tmp_path / "broken"), Stops())
    assert resume(job, RunDirectory.open(tmp_path / "broken"), Silent())["dead_classes"] == whole["dead_classes"]
    ends = [
        [json.loads(line) for line in (tmp_path / name / "events.jsonl").read_text().splitlines()]
        for name in ("whole", "broken")
    ]
    for a, b in zip(*ends, strict=True):
        for key in ("dead_classes", "never_predicted"):
            assert a.get(key) == b.get(key)
