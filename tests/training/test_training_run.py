"""One run from beginning to end: what lies in its directory, that it can be repeated, and how it ends early."""

from __future__ import annotations

import json
import re
import signal
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nin_multi import machine
from nin_multi.architecture_file import load_architecture
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.drawing.curve import draw_curve
from nin_multi.errors import BackendUnavailable, DataError
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Architecture
from nin_multi.training import run as run_module
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.preparation import header
from nin_multi.training.progress import Progress, start
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import train
from nin_multi.training.run_directory import RunDirectory
from nin_multi.tuning import Choice

FILES = {"run.json", "events.jsonl", "result.json", "weights.safetensors", "curve.svg", "lock"}
CHECKPOINTS = {"checkpoints"}  # from the end of the first epoch on, or from an interruption
RESULT = {
    *("backend", "framework_version", "device", "precision", "arch", "dataset", "train_examples", "test_examples"),
    *("epochs", "steps", "seed", "loss", "train_acc", "test_acc", "examples_per_sec", "compute_examples_per_sec"),
    *("peak_memory_bytes", "run_dir", "status", "tuning", "confusion", "startup_seconds", "first_step_seconds"),
}  # the contract; more may be there
STEP = {
    *("event", "step", "progress", "loss", "train_acc", "examples_per_sec", "compute_examples_per_sec", "seconds"),
    *("dead_classes", "never_predicted"),
}
EPOCH = {"epoch", "test_loss", "test_acc", "test_dead_classes", "test_never_predicted", "confusion"}
LAYERS = {"event", "step", "progress", "evaluated", "layers"}
SVG = "{http://www.w3.org/2000/svg}"


def _events(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


class At(Silent):
    """Does something after a certain step."""

    def __init__(self, step: int, act: Any) -> None:
        self._when, self._act = step, act

    def step(self, progress: Progress) -> None:
        if progress.step == self._when:
            self._act()


class TestDone:
    @pytest.fixture
    def done(self, make_run, tiny: Architecture) -> tuple[dict[str, Any], Path]:
        return make_run()

    def test_files(self, done, read_json) -> None:
        result, directory = done
        assert {path.name for path in directory.iterdir()} == FILES | CHECKPOINTS
        assert read_json((directory / "result.json").read_text()) == result
        kept = {"step-000007.safetensors", "step-000014.safetensors"}
        assert {path.name for path in (directory / "checkpoints").iterdir()} == kept

    def test_result(self, done, tmp_path: Path) -> None:
        result, directory = done
        assert result.keys() >= RESULT
        facts = {
            "backend": "numpy",
            "framework_version": np.__version__,
            "device": "cpu",
            "precision": "fp64",
            "arch": "tiny",
            "dataset": "synthetic",
            "synthetic": True,
            "train_examples": 64,
            "test_examples": 23,
            "epochs": 2,
            "steps": 14,
            "seed": 0,
            "run_dir": str(directory),
            "status": "done",
        }
        assert {key: result[key] for key in facts} == facts
        assert result["compute_examples_per_sec"] > result["examples_per_sec"] > 0
        last = _events(directory)[-1]
        for key in ("loss", "train_acc", "test_acc", "test_loss", "confusion"):
            assert result[key] == last[key]
        assert result["first_step_seconds"] > 0
        age = machine.process_age_seconds()
        assert (result["startup_seconds"] is None) == (age is None)
        assert age is None or 0 < result["startup_seconds"] < age

    def test_confusion_over_the_test_images(self, done, data: Dataset) -> None:
        result, _ = done
        table = np.array(result["confusion"])
        assert table.shape == (10, 10)
        assert table.sum(1).tolist() == np.bincount(data.test.labels, minlength=10).tolist()
        assert np.trace(table) / 23 == result["test_acc"]
        assert np.flatnonzero(table.sum(0) == 0).tolist() == result["never_predicted"]

    def test_events(self, done, read_json, tiny: Architecture) -> None:
        _, directory = done
        events = [read_json(line) for line in (directory / "events.jsonl").read_text().splitlines()]
        kinds = [event["event"] for event in events]
        # Before training the layers; then seven steps an epoch, each a point.
        assert kinds == ["layers", *[*["step"] * 7, "layers", "epoch"] * 2]
        steps = [event for event in events if event["event"] == "step"]
        assert all(event.keys() == STEP for event in steps)
        assert [event["step"] for event in steps] == list(range(1, 15))
        np.testing.assert_allclose([event["progress"] for event in steps], np.arange(1, 15) / 7)
        seconds = [event["seconds"] for event in steps]
        assert seconds == sorted(seconds)
        layers = [event for event in events if event["event"] == "layers"]
        assert all(event.keys() == LAYERS for event in layers)
        stand = [(event["evaluated"], event["step"], event["progress"]) for event in layers]
        assert stand == [(0, 0, 0.0), (1, 7, 1.0), (2, 14, 2.0)]
        assert all(list(event["layers"]) == [row.name for row in tiny.trace()] for event in layers)
        ends = [event for event in events if event["event"] == "epoch"]
        assert all(event.keys() == STEP | EPOCH for event in ends)
        assert [(event["epoch"], event["step"], event["progress"]) for event in ends] == [(1, 7, 1.0), (2, 14, 2.0)]
        for event in ends:  # an epoch's figures are those at its last step
            assert event["loss"] == steps[event["step"] - 1]["loss"]

    def test_run_json_is_enough_to_repeat_the_run(self, done, read_json, tmp_path: Path, data: Dataset) -> None:
        _, directory = done
        facts = read_json((directory / "run.json").read_text())
        assert facts["dataset"]["sha256"] == data.identity()
        assert facts["versions"].keys() >= {"python", "nin_multi", "numpy", "safetensors"}
        assert facts["machine"].keys() >= {"processor", "cores", "memory_bytes", "system"}
        assert facts["environment"] == facts["tuning"] == facts["tuning_from"] == {}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["started"])
        assert (facts["backend"], facts["dataset"]["name"]) == ("numpy", "synthetic")
        job = Job(
            NumpyBackend(),
            facts["device"],
            facts["precision"],
            Architecture.model_validate(facts["architecture"]),
            synthetic_dataset(facts["dataset"]["train_examples"], facts["dataset"]["test_examples"]),
            Recipe(**facts["recipe"]),
        )
        train(job, RunDirectory.create(tmp_path / "again"), Silent())
        for name in ("weights.safetensors", "curve.svg"):
            assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes()

    def test_weights(self, done, tiny: Architecture) -> None:
        _, directory = done
        weights = load_file(directory / "weights.safetensors")
        assert {name: value.shape for name, value in weights.items()} == {
            "block1.conv.weight": (10, 1, 3, 3),
            "block1.conv.bias": (10,),
            "block1.mlp1.weight": (10, 10, 1, 1),
            "block1.mlp1.bias": (10,),
            "block1.mlp2.weight": (10, 10, 1, 1),
            "block1.mlp2.bias": (10,),
        }
        assert all(value.dtype == np.float32 and value.any() for value in weights.values())

    def test_curve_has_three_lines(self, done) -> None:
        _, directory = done
        root = ET.fromstring((directory / "curve.svg").read_bytes())
        assert root.tag == f"{SVG}svg"
        axes = root.find(f".//{SVG}g[@id='axes_1']")
        assert axes is not None
        drawn = [path for group in axes.findall(f"{SVG}g") for path in group.findall(f"{SVG}path")]
        styles = {}
        for path in drawn:
            if colour := re.search(r"stroke: (#1f77b4|#9467bd|#2ca02c)", path.get("style", "")):
                styles[colour[1]] = ("stroke-dasharray" in path.get("style", ""), len(path.get("d", "").split("L")))
        # Loss a full line, the accuracies dashed; 14 points of the first two (and two ends for the test accuracy).
        assert {colour: dashed for colour, (dashed, _) in styles.items()} == {
            "#1f77b4": False,
            "#9467bd": True,
            "#2ca02c": True,
        }
        assert styles["#2ca02c"][1] == 2
        assert styles["#1f77b4"][1] > 7


def test_six_points_an_epoch(make_run, softmax: Architecture) -> None:
    """469 steps, as in the chapter."""
    _, directory = make_run(architecture=softmax, dataset=synthetic_dataset(469, 5), epochs=2, batch_size=1, lr=0.001)
    steps = [event["step"] for event in _events(directory) if event["event"] == "step"]
    points = [93, 186, 279, 372, 465, 469]
    assert steps == points + [469 + point for point in points]


def test_equal_runs_give_equal_files_and_another_seed_does_not(make_run) -> None:
    runs = [make_run(name, seed=seed)[1] for name, seed in (("a", 5), ("b", 5), ("c", 6))]
    for name in ("weights.safetensors", "curve.svg"):
        a, b, c = ((run / name).read_bytes() for run in runs)
        assert a == b
        assert a != c


def test_the_header_tells_what_will_happen(make_run) -> None:
    said: list[str] = []

    class Hears(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    make_run(display=Hears())
    text = "\n".join(said)
    for fact in ("tiny on numpy", "cpu, fp64", "320 parameters", "synthetic", "64 training", "23 test", "8 x 8"):
        assert fact in text
    assert re.search(r"2 epochs of 7 steps, batch 10, learning rate 0\.1, seed 0; run directory .*/run$", text, re.M)
    assert re.search(r"measured \d+\.\d images/s: this will take about [1-9]\d* s$", text, re.M)


@pytest.mark.parametrize(
    ("precision", "has", "device", "remark"),
    [
        ("fp32", True, "cpu", "  faster: --precision bf16"),
        ("fp32", False, "cpu", None),
        ("fp32", False, "cuda:0", "  faster: --precision bf16"),
        ("bf16", True, "cpu", None),
        ("bf16", False, "cpu", "  bf16 is no faster than fp32 on this processor, which has no some and no other"),
        ("bf16", False, "cuda:0", None),
    ],
)
def test_the_header_advises_bf16_where_the_framework_gains_by_it(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch, precision: str, has: bool,
    device: str, remark: str | None,
) -> None:  # fmt: skip
    class Backend(NumpyBackend):
        precisions = ("fp32", "bf16")
        bf16_sets = ("some", "other")

    monkeypatch.setattr(machine, "has_any", lambda sets: has and sets == ("some", "other"))
    job = Job(Backend(), device, precision, load_architecture("nin"), data, Recipe(epochs=500))
    lines = header(job, Choice({}, {}), 1.0, start(data, job.recipe), RunDirectory(tmp_path))
    assert [line for line in lines if line.startswith("  ") and "bf16" in line] == ([remark] if remark else [])


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_ends_after_the_step_with_weights_and_result(self, make_run, number: int, read_json) -> None:
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        result, directory = make_run(display=At(10, lambda: signal.raise_signal(number)))
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
        assert (result["status"], result["signal"], result["steps"]) == ("interrupted", number, 10)
        assert read_json((directory / "result.json").read_text()) == result
        assert {path.name for path in directory.iterdir()} == FILES | CHECKPOINTS
        events = _events(directory)
        assert [event["event"] for event in events] == ["layers", *["step"] * 7, "layers", "epoch", *["step"] * 3]
        assert (result["loss"], result["test_acc"]) == (events[-1]["loss"], events[9]["test_acc"])
        assert result["confusion"] == events[9]["confusion"]

    def test_weights_are_those_after_the_last_step(self, make_run) -> None:
        _, stopped = make_run("stopped", epochs=3, display=At(14, lambda: signal.raise_signal(signal.SIGTERM)))
        _, whole = make_run("whole", epochs=2)
        a, b = (load_file(run / "weights.safetensors") for run in (stopped, whole))
        for name, value in b.items():
            np.testing.assert_array_equal(a[name], value)

    def test_before_the_first_epoch_ends_there_is_no_test_accuracy(self, make_run, read_json) -> None:
        result, directory = make_run(display=At(1, lambda: signal.raise_signal(signal.SIGINT)))
        assert (result["steps"], result["test_acc"], result["test_loss"]) == (1, None, None)
        assert result["confusion"] is None
        assert read_json((directory / "result.json").read_text()) == result
        ET.fromstring((directory / "curve.svg").read_bytes())

    def test_the_second_signal_leaves_at_once(self, make_run, tmp_path: Path) -> None:
        def twice() -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            make_run(display=At(3, twice))
        assert not (tmp_path / "run" / "result.json").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_while_the_last_files_are_written_nothing_is_lost(
        self, make_run, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def draw_and_be_told(*given: Any) -> bytes:
            signal.raise_signal(number)
            return draw_curve(*given)

        monkeypatch.setattr(run_module, "draw_curve", draw_and_be_told)
        before = signal.getsignal(number)
        result, directory = make_run()
        assert signal.getsignal(number) == before
        assert result["status"] == "done"
        assert {path.name for path in directory.iterdir()} == FILES | CHECKPOINTS

    def test_in_another_thread_signals_are_left_alone(self, make_run) -> None:
        results: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: results.append(make_run()[0]))
        thread.start()
        thread.join(30)
        assert [result["status"] for result in results] == ["done"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
class TestDiverged:
    def test_in_a_step(self, make_run, read_json) -> None:
        result, directory = make_run(lr=1e100)
        assert result["status"] == "diverged"
        assert re.fullmatch(
            r"the loss is (nan|inf) at step \d+ \(epoch 1\): .+; a smaller --lr may help\.\n.+", result["reason"]
        )
        assert result["loss"] is None
        assert read_json((directory / "result.json").read_text()) == result
        # Weights that led to it are nothing to evaluate.
        assert {path.name for path in directory.iterdir()} == FILES - {"weights.safetensors"}
        assert len(_events(directory)) == 1 + result["steps"] - 1  # the layers, and the good steps
        ET.fromstring((directory / "curve.svg").read_bytes())

    def test_in_the_last_step(self, make_run, softmax: Architecture) -> None:
        """The loss of that step was computed before it: only the test images show what became of the weights."""
        result, _ = make_run(architecture=softmax, epochs=1, batch_size=64, lr=1.7e308)
        assert result["test_loss"] is None
        assert result["status"] == "diverged"


class TestRefused:
    @pytest.mark.parametrize(("device", "precision"), [("cuda:0", "fp64"), ("cpu", "bf16")])
    def test_what_the_backend_does_not_offer(self, tiny, data, tmp_path, device, precision) -> None:
        job = Job(NumpyBackend(), device, precision, tiny, data, Recipe())
        with pytest.raises(BackendUnavailable, match=f"{'cuda:0' if device == 'cuda:0' else 'bf16'}.*(fp64|cpu)"):
            job.check()

    def test_an_architecture_with_fewer_classes_than_labels(self, tiny, data, tmp_path) -> None:
        layers = [{"type": "flatten"}, {"type": "linear", "out_features": 9}]
        small = Architecture.model_validate({"name": "nine", "input": (1, 8, 8), "layers": layers})
        job = Job(NumpyBackend(), "cpu", "fp64", small, data, Recipe())
        with pytest.raises(DataError, match=r"10 classes.*'nine'.*\b9\b.*at least 10"):
            train(job, RunDirectory.create(tmp_path / "run"), Silent())
        assert list((tmp_path / "run").iterdir()) == []

    def test_more_classes_than_labels_are_welcome(self, make_run) -> None:
        layers = [{"type": "flatten"}, {"type": "linear", "out_features": 12}]
        large = Architecture.model_validate({"name": "twelve", "input": (1, 8, 8), "layers": layers})
        result, _ = make_run(architecture=large)
        assert result["status"] == "done"
        assert np.array(result["confusion"]).shape == (10, 12)


def test_title_says_what_is_trained_on_what(tiny: Architecture, data: Dataset) -> None:
    job = Job(NumpyBackend(), "cpu", "fp64", tiny, replace(data, title="Ten things"), Recipe())
    assert job.title() == "tiny on Ten things, numpy"
