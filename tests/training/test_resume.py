"""A run that was stopped and taken up again is the run that was never stopped; where it cannot be, nothing changes."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from strategies import refused

from nin_multi import randomness
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.errors import BackendUnavailable, CheckpointError, NinMultiError, RunError
from nin_multi.oracle import NumpyBackend, NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Progress
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory
from nin_multi.weights import save_weights

STEPS = 7  # an epoch: 64 images in batches of 10
MOVING = {
    *("examples_per_sec", "compute_examples_per_sec", "seconds", "peak_memory_bytes", "run_dir"),
    *("startup_seconds", "first_step_seconds"),
}


class Float32Network(NumpyNetwork):
    """The oracle with its state in float32, as frameworks have it: then a checkpoint loses nothing."""

    def train_step(self, *arguments: Any, **more: Any) -> Any:
        result = super().train_step(*arguments, **more)
        self.restore(self.params(), self.velocities())
        return result


class Float32Backend(NumpyBackend):
    def build(self, architecture: Any, params: Any, *, seed: int | None = None, **_: Any) -> Any:
        return Float32Network(architecture, params, seed)


class At(Silent):
    """Does something after a certain step."""

    def __init__(self, step: int, act: Callable[[], object] = lambda: signal.raise_signal(signal.SIGTERM)) -> None:
        self._when, self._act = step, act

    def step(self, progress: Progress) -> None:
        if progress.step == self._when:
            self._act()


@dataclass(frozen=True)
class Desk:
    """Trains, stops and resumes one recipe below a folder."""

    folder: Path
    job: Job

    def whole(self, name: str = "whole", epochs: int | None = None) -> Path:
        job = self.job if epochs is None else replace(self.job, recipe=replace(self.job.recipe, epochs=epochs))
        assert train(job, RunDirectory.create(self.folder / name), Silent())["status"] == "done"
        return self.folder / name

    def stopped(self, step: int, name: str = "run") -> Path:
        result = train(self.job, RunDirectory.create(self.folder / name), At(step))
        assert (result["status"], result["steps"]) == ("interrupted", step)
        return self.folder / name

    def resume(self, path: Path, display: Any = None, **changed: Any) -> dict[str, Any]:
        return resume(replace(self.job, **changed), RunDirectory.open(path), display or Silent())


@pytest.fixture
def desk(tmp_path: Path, tiny: Architecture, data: Dataset) -> Desk:
    recipe = Recipe(epochs=3, batch_size=10, momentum=0.9, lr=0.2, init="he", seed=5)
    return Desk(tmp_path, Job(Float32Backend(), "cpu", "fp64", tiny, data, recipe))


def _events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def _fixed(values: dict[str, Any]) -> dict[str, Any]:
    """Without what clocks and folders decide."""
    return {key: value for key, value in values.items() if key not in MOVING}


def _content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _assert_same_run(found: Path, whole: Path) -> None:
    for name in ("weights.safetensors", "curve.svg"):
        assert (found / name).read_bytes() == (whole / name).read_bytes(), name
    assert list(map(_fixed, _events(found))) == list(map(_fixed, _events(whole)))
    a, b = (_fixed(json.loads((path / "result.json").read_text())) for path in (found, whole))
    assert a == b
    seconds = [event["seconds"] for event in _events(found) if "seconds" in event]
    assert seconds == sorted(seconds)
    last = [sorted((path / "checkpoints").iterdir())[-1] for path in (found, whole)]
    assert last[0].name == last[1].name
    assert {name: value.tobytes() for name, value in load_file(last[0]).items()} == {
        name: value.tobytes() for name, value in load_file(last[1]).items()
    }


class TestLikeTheUnbrokenRun:
    @pytest.mark.parametrize(
        "step",
        [1, STEPS - 1, STEPS, STEPS + 1, 10, 2 * STEPS, 3 * STEPS - 1, 3 * STEPS],
        ids=lambda step: f"step {step}" + (", not evaluated" if step % STEPS == 0 else ""),
    )
    def test_stopped_once(self, desk: Desk, step: int) -> None:
        run = desk.stopped(step)
        result = desk.resume(run)
        assert (result["status"], result["steps"], result["epochs"]) == ("done", 21, 3)
        _assert_same_run(run, desk.whole())

    def test_stopped_again_and_again(self, desk: Desk) -> None:
        run = desk.stopped(3)
        for step in (4, STEPS, 16, 20):
            assert desk.resume(run, At(step))["steps"] == step
        assert desk.resume(run)["status"] == "done"
        _assert_same_run(run, desk.whole())
        facts = json.loads((run / "run.json").read_text())
        assert [taken["step"] for taken in facts["resumed"]] == [3, 4, STEPS, 16, 20]

    def test_trained_longer_after_the_last_epoch(self, desk: Desk) -> None:
        run = desk.whole("run", epochs=1)
        assert desk.resume(run)["steps"] == 21
        _assert_same_run(run, desk.whole())
        assert json.loads((run / "run.json").read_text())["recipe"]["epochs"] == 3

    def test_the_averages_of_a_broken_epoch_are_those_of_the_whole_epoch(self, desk: Desk) -> None:
        run = desk.stopped(10)
        before = _events(run)
        desk.resume(run)
        after = _events(run)
        assert after[: len(before)] == before
        (second,) = [event for event in after if event.get("epoch") == 2]
        (expected,) = [event for event in _events(desk.whole()) if event.get("epoch") == 2]
        assert (second["loss"], second["train_acc"]) == (expected["loss"], expected["train_acc"])

    def test_without_momentum(self, desk: Desk) -> None:
        plain = replace(desk, job=replace(desk.job, recipe=replace(desk.job.recipe, momentum=0.0)))
        run = plain.stopped(10)
        plain.resume(run)
        _assert_same_run(run, plain.whole())

    def test_in_float64_only_nearly(self, desk: Desk) -> None:
        """A checkpoint holds float32."""
        exact = replace(desk, job=replace(desk.job, backend=NumpyBackend()))
        run = exact.stopped(10)
        exact.resume(run)
        a, b = (load_file(path / "weights.safetensors") for path in (run, exact.whole()))
        for name, value in b.items():
            np.testing.assert_allclose(a[name], value, rtol=1e-5, atol=1e-6)


class Notes(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def _cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def _flip(path: Path, _: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


class TestAfterAProcessThatDied:
    @pytest.mark.parametrize(
        ("damage", "length", "word"),
        [*((_cut, length, "not a complete safetensors file") for length in (0, 100, 1500, -1)), (_flip, 0, "altered")],
    )
    def test_a_damaged_checkpoint_is_passed_over(self, desk: Desk, damage, length: int, word: str) -> None:
        run, notes = desk.stopped(10), Notes()
        damage(run / "checkpoints" / "step-000010.safetensors", length)
        assert desk.resume(run, notes)["status"] == "done"
        (said,) = [line for line in notes.lines if line.startswith("passed over: ")]
        assert "step-000010.safetensors" in said
        assert word in said
        _assert_same_run(run, desk.whole())

    def test_before_its_first_checkpoint_it_begins_again(self, desk: Desk) -> None:
        run = desk.stopped(3)
        shutil.rmtree(run / "checkpoints")
        for name in ("weights.safetensors", "result.json"):
            (run / name).unlink()
        notes = Notes()
        desk.resume(run, notes)
        assert "this run has no checkpoint yet: it begins again at its first step" in notes.lines
        _assert_same_run(run, desk.whole())

    @pytest.mark.parametrize("lacking", [["result.json"], ["weights.safetensors", "curve.svg", "result.json"]])
    def test_after_its_last_checkpoint_it_is_brought_to_its_end(self, desk: Desk, lacking: list[str]) -> None:
        run = desk.whole("run")
        for name in lacking:
            (run / name).unlink()
        assert desk.resume(run)["status"] == "done"
        _assert_same_run(run, desk.whole())

    def test_what_it_was_writing_is_taken_away(self, desk: Desk) -> None:
        run = desk.stopped(10)
        left = [run / ".events.jsonl.a1b2c3d4", run / "checkpoints" / ".step-000012.safetensors.abcdefgh"]
        others = [run / ".notes", run / "checkpoints" / "mine.txt"]
        for path in left + others:
            path.write_text("half")
        desk.resume(run)
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in others)

    def test_from_the_checkpoint_before_no_event_is_there_twice(self, desk: Desk) -> None:
        run = desk.stopped(12)
        (run / "checkpoints" / "step-000012.safetensors").unlink()
        assert len([event for event in _events(run) if event["step"] > STEPS]) == 5
        desk.resume(run)
        _assert_same_run(run, desk.whole())

    def test_between_the_end_of_an_epoch_and_its_checkpoint(self, desk: Desk) -> None:
        """The event has the very step of the checkpoint that is gone on from."""
        run, whole = desk.stopped(STEPS), desk.whole()
        (ended,) = [event for event in _events(whole) if event.get("epoch") == 1]
        with (run / "events.jsonl").open("a") as file:
            file.write(json.dumps(ended) + "\n")
        desk.resume(run)
        _assert_same_run(run, whole)

    def test_within_an_event(self, desk: Desk) -> None:
        run = desk.stopped(10)
        with (run / "events.jsonl").open("a") as file:
            file.write('{"event": "st')
        desk.resume(run)
        _assert_same_run(run, desk.whole())

    def test_before_result_and_weights_were_written(self, desk: Desk) -> None:
        run = desk.stopped(10)
        for name in ("result.json", "weights.safetensors", "curve.svg"):
            (run / name).unlink()
        desk.resume(run)
        _assert_same_run(run, desk.whole())


class TestFacts:
    def test_run_json_tells_who_took_it_up(self, desk: Desk) -> None:
        run = desk.stopped(10)
        before = json.loads((run / "run.json").read_text())
        desk.resume(run)
        after = json.loads((run / "run.json").read_text())
        (taken,) = after.pop("resumed")
        assert after == before
        assert taken.keys() == {
            *("step", "backend", "device", "precision", "workers", "tuning", "tuning_from"),
            *("versions", "machine", "environment", "started"),
        }
        assert (taken["step"], taken["backend"], taken["device"], taken["precision"]) == (10, "numpy", "cpu", "fp64")

    def test_the_header_says_where_it_goes_on(self, desk: Desk) -> None:
        said: list[str] = []

        class Hears(Silent):
            def note(self, text: str) -> None:
                said.append(text)

        run = desk.stopped(10)
        desk.resume(run, Hears())
        assert "learning rate 0.2, momentum 0.9, He initialisation, seed 5, from step 10; run directory" in said[2]

    def test_another_backend(self, desk: Desk) -> None:
        class Other(Float32Backend):
            name = "other"

        run = desk.stopped(10)
        assert desk.resume(run, backend=Other())["backend"] == "other"
        facts = json.loads((run / "run.json").read_text())
        assert (facts["backend"], facts["resumed"][0]["backend"]) == ("numpy", "other")
        # Here only the name differs; that real ones go on from each other's state is in tests/conformance.
        a, b = (load_file(path / "weights.safetensors") for path in (run, desk.whole()))
        assert {name: value.tobytes() for name, value in a.items()} == {
            name: value.tobytes() for name, value in b.items()
        }


def test_draws_of_its_own_go_on_by_seed_and_step(desk: Desk) -> None:
    native = replace(desk, job=replace(desk.job, recipe=replace(desk.job.recipe, dropout="native")))
    run = native.stopped(10)
    shutil.copytree(run, desk.folder / "copy")
    shutil.copytree(run, desk.folder / "elsewhere")
    native.resume(run)
    native.resume(desk.folder / "copy")
    weights = (run / "weights.safetensors").read_bytes()
    assert (desk.folder / "copy" / "weights.safetensors").read_bytes() == weights
    # The draws are not the first ones over again.
    first, second = (native.job.build(randomness.initial_parameters(native.job.architecture, 0), at) for at in (0, 10))
    assert first._draw(3)["dropout1"].tobytes() != second._draw(3)["dropout1"].tobytes()  # type: ignore[attr-defined]
    assert native.resume(desk.folder / "elsewhere", At(15))["status"] == "interrupted"


class TestRefused:
    """With nothing in the run directory changed."""

    @pytest.fixture
    def run(self, desk: Desk) -> Path:
        return desk.stopped(10)

    @pytest.fixture
    def refuses(self, desk: Desk) -> Callable[..., None]:
        def check(path: Path, error: type[NinMultiError], *fragments: str, **changed: Any) -> None:
            before = _content(desk.folder)
            with refused(error, *fragments):
                desk.resume(path, **changed)
            assert _content(desk.folder) == before

        return check

    def test_other_images(self, desk: Desk, run: Path, refuses) -> None:
        dataset = synthetic_dataset(64, 23)
        dataset.test.images[3, 4, 5] ^= 1
        refuses(run, CheckpointError, "step-000010.safetensors", "other images", dataset=dataset)

    def test_another_recipe(self, desk: Desk, run: Path, refuses) -> None:
        recipe = replace(desk.job.recipe, lr=0.3)
        refuses(run, CheckpointError, "written with lr 0.2, and the run has 0.3", recipe=recipe)

    def test_nothing_left_to_do(self, desk: Desk, refuses) -> None:
        whole = desk.whole()
        refuses(whole, RunError, f"{whole}: all of its 3 epochs are done", "--epochs")

    def test_fewer_epochs_than_are_done(self, desk: Desk, run: Path, refuses) -> None:
        refuses(run, RunError, "--epochs", recipe=replace(desk.job.recipe, epochs=1))

    def test_no_checkpoint(self, run: Path, refuses) -> None:
        shutil.rmtree(run / "checkpoints")
        refuses(run, RunError, f"{run}: it has no checkpoint", "from the beginning")

    @pytest.mark.parametrize("length", [0, 100, 1500, -1])
    def test_truncated_all(self, run: Path, refuses, length: int) -> None:
        for path in (run / "checkpoints").iterdir():
            path.write_bytes(path.read_bytes()[:length])
        said = "not a complete safetensors file", "without its checkpoints the run begins again"
        refuses(run, CheckpointError, "step-000010.safetensors", *said)

    def test_truncated_where_there_is_no_other(self, desk: Desk, refuses) -> None:
        early = desk.stopped(3, "early")
        (path,) = (early / "checkpoints").iterdir()
        path.write_bytes(path.read_bytes()[:-1])
        refuses(early, CheckpointError, "step-000003.safetensors", "not a complete safetensors file")
        shutil.rmtree(early / "checkpoints")
        for name in ("weights.safetensors", "result.json"):
            (early / name).unlink()
        desk.resume(early)
        _assert_same_run(early, desk.whole())

    def test_a_pickle_in_disguise(self, run: Path, refuses) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path(run / "ran").touch, ())

        path = run / "checkpoints" / "step-000010.safetensors"
        path.write_bytes(pickle.dumps(Evil()))
        refuses(run, CheckpointError, str(path), "pickle")

    def test_weights_without_state(self, run: Path, refuses) -> None:
        path = run / "checkpoints" / "step-000010.safetensors"
        shutil.copy(run / "weights.safetensors", path)
        refuses(run, CheckpointError, str(path), "without the state of a run")

    def test_a_checkpoint_of_another_architecture(self, run: Path, refuses) -> None:
        layers = [{"type": "flatten"}, {"type": "linear", "out_features": 10}]
        other = Architecture.model_validate({"name": "other", "input": (1, 8, 8), "layers": layers})
        path = run / "checkpoints" / "step-000010.safetensors"
        save_weights(path, randomness.initial_parameters(other, 0), other)
        missing = "missing: block1.conv.weight, block1.conv.bias, block1.mlp1.weight and 3 more"
        unexpected = "unexpected: linear1.bias, linear1.weight"
        refuses(run, CheckpointError, str(path), "'tiny'", missing, unexpected)

    def test_a_checkpoint_with_other_shapes(self, run: Path, refuses, tiny: Architecture) -> None:
        fields = tiny.model_dump()
        fields["layers"][0]["kernel_size"] = (2, 2)
        other = Architecture.model_validate(fields)
        path = run / "checkpoints" / "step-000010.safetensors"
        save_weights(path, randomness.initial_parameters(other, 0), other)
        refuses(run, CheckpointError, str(path), "misshapen: block1.conv.weight (10, 1, 2, 2) for (10, 1, 3, 3)")

    def test_events_that_are_damaged(self, run: Path, refuses) -> None:
        (run / "events.jsonl").write_text("{}\n" + (run / "events.jsonl").read_text())
        refuses(run, RunError, str(run / "events.jsonl"), "damaged")

    def test_a_backend_that_cannot_start(self, run: Path, refuses) -> None:
        class Missing(Float32Backend):
            def build(self, *_: Any, **__: Any) -> Any:
                raise BackendUnavailable("missing: no such device")

        refuses(run, BackendUnavailable, "no such device", backend=Missing())

    def test_interrupted_before_it_begins(self, desk: Desk, run: Path) -> None:
        class Leaves(Silent):
            def note(self, text: str) -> None:
                raise KeyboardInterrupt

        before = _content(desk.folder)
        with pytest.raises(KeyboardInterrupt):
            desk.resume(run, Leaves())
        assert _content(desk.folder) == before


class TestNotInterrupted:
    def test_a_state_that_is_no_number_is_not_kept(self, desk: Desk) -> None:
        class Diverges(Float32Network):
            steps = 0

            def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> Any:
                result = super().train_step(x, y, masks, lr, momentum)
                self.steps += lr > 0
                if self.steps == 10:
                    signal.raise_signal(signal.SIGTERM)
                    return replace(result, loss=math.nan)
                return result

        class Backend(Float32Backend):
            def build(self, architecture: Any, params: Any, *, seed: int | None = None, **_: Any) -> Any:
                return Diverges(architecture, params, seed)

        job = replace(desk.job, backend=Backend())
        result = train(job, RunDirectory.create(desk.folder / "run"), Silent())
        assert result["status"] == "diverged"
        names = [path.name for path in (desk.folder / "run" / "checkpoints").iterdir()]
        assert names == ["step-000007.safetensors"]

    def test_a_signal_in_the_last_evaluation_comes_too_late(self, desk: Desk) -> None:
        class Late(Silent):
            def epoch(self, progress: Progress) -> None:
                if progress.epoch == progress.epochs:
                    signal.raise_signal(signal.SIGTERM)

        result = train(desk.job, RunDirectory.create(desk.folder / "run"), Late())
        assert result["status"] == "done"
        assert "signal" not in result
