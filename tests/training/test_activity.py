"""What a run records of its layers: the numbers themselves, and that a resumed run has each record once."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import randomness
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.data.batches import prepare
from nin_multi.oracle import NumpyBackend, NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.training import activity
from nin_multi.training.activity import describe_layers
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Progress
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory

AT = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@pytest.fixture
def network(tiny: Architecture) -> NumpyNetwork:
    return NumpyNetwork(tiny, randomness.initial_parameters(tiny, 1))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return synthetic_dataset(1, 70).test.images


def _by_hand(network: NumpyNetwork, tiny: Architecture, images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: value.ravel() for name, value in network.activations(prepare(images, tiny)) if "." not in name}


class TestFigures:
    def test_are_those_of_the_values(self, network: NumpyNetwork, tiny: Architecture, images: np.ndarray) -> None:
        found = describe_layers(network, tiny, images)
        expected = _by_hand(network, tiny, images[:64])
        assert list(found) == ["block1", "dropout1", "global_avg_pool1", "flatten1"]
        for name, values in expected.items():
            layer = found[name]
            np.testing.assert_allclose(layer["quantiles"], np.quantile(values, AT), rtol=1e-5, atol=1e-12)
            assert layer["zeros"] == pytest.approx((values == 0).mean(), rel=1e-5)
            assert (layer["mean"], layer["std"]) == pytest.approx((values.mean(), values.std()), rel=1e-5)
        assert 0 < found["block1"]["zeros"] < 1
        assert found["block1"]["quantiles"] == found["dropout1"]["quantiles"]  # in evaluation mode

    def test_six_digits(self, network: NumpyNetwork, tiny: Architecture, images: np.ndarray) -> None:
        text = json.dumps(describe_layers(network, tiny, images), allow_nan=False)
        numbers = [float(word) for word in text.replace("[", " ").replace("]", " ").replace(",", " ").split()
                   if word.replace(".", "").replace("e-", "").isdigit()]  # fmt: skip
        assert len(numbers) > 20
        assert all(float(f"{number:.6g}") == number for number in numbers)

    def test_in_parts_they_are_the_same(
        self, network: NumpyNetwork, tiny: Architecture, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, told = describe_layers(network, tiny, images), []
        monkeypatch.setattr(activity, "BYTES", 4 * 17 * 10 * 9)  # the widest layer is 10 x 3 x 3
        assert describe_layers(network, tiny, images, lambda: told.append(1)) == whole
        assert len(told) == 4  # 16 images each

    def test_of_many_values_some_are_sorted(
        self, network: NumpyNetwork, tiny: Architecture, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = describe_layers(network, tiny, images)["block1"]
        monkeypatch.setattr(activity, "SAMPLED", 1000)  # of 5,760
        some = describe_layers(network, tiny, images)["block1"]
        assert some["quantiles"] != whole["quantiles"]
        np.testing.assert_allclose(some["quantiles"], whole["quantiles"], atol=0.25 * whole["std"])
        for exact in (0, -1):
            assert some["quantiles"][exact] == whole["quantiles"][exact]
        assert {key: some[key] for key in ("zeros", "mean", "std")} == {
            key: whole[key] for key in ("zeros", "mean", "std")
        }

    @pytest.mark.parametrize("count", [1, 2**18, 2**18 + 1, 64 * 48 * 28 * 28, 64 * 64 * 224 * 224])
    def test_the_step_takes_all_places_in_turn(self, count: int) -> None:
        step = activity._step(count)
        assert math.gcd(step, count) == 1
        assert activity.SAMPLED / 2 < -(-count // step) <= activity.SAMPLED or step == 1

    def test_fewer_images(self, network: NumpyNetwork, tiny: Architecture, images: np.ndarray) -> None:
        one = describe_layers(network, tiny, images[:1])
        values = _by_hand(network, tiny, images[:1])["block1"]
        assert one["block1"]["mean"] == pytest.approx(values.mean(), rel=1e-5)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_none(self, tiny: Architecture, images: np.ndarray, bad: float) -> None:
        class Overflows(NumpyNetwork):
            def activations(self, x: Any) -> Iterator[tuple[str, np.ndarray]]:
                for name, value in super().activations(x):
                    seen = value.copy()
                    if name == "block1":
                        seen[3, 2, 1, 0] = bad
                    yield name, seen

        network = Overflows(tiny, randomness.initial_parameters(tiny, 1))
        found = describe_layers(network, tiny, images)
        json.dumps(found, allow_nan=False)
        block = found["block1"]
        assert (block["mean"], block["std"]) == (None, None)
        ends = {np.inf: (False, True), -np.inf: (True, False)}.get(bad, (True, True))
        assert (block["quantiles"][0] is None, block["quantiles"][-1] is None) == ends
        assert found["flatten1"]["mean"] is not None


@pytest.fixture
def job(tiny: Architecture, data: Dataset) -> Job:
    recipe = Recipe(epochs=2, batch_size=10, momentum=0.5, init="he")
    return Job(NumpyBackend(), "cpu", "fp64", tiny, data, recipe)


class _Stops(Silent):
    def __init__(self, step: int) -> None:
        self._when = step

    def step(self, progress: Progress) -> None:
        if progress.step == self._when:
            signal.raise_signal(signal.SIGTERM)


def _layers(directory: RunDirectory) -> list[tuple[int, int]]:
    return [(event["evaluated"], event["step"]) for event in directory.events() if event["event"] == "layers"]


ALL = [(0, 0), (1, 7), (2, 14)]


class TestInARun:
    """That all events of resumed runs are those of the unbroken one is in test_resume.py."""

    def test_they_are_those_of_the_weights_at_that_time(self, job: Job, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        train(job, directory, Silent())
        begun = NumpyNetwork(job.architecture, randomness.initial_parameters(job.architecture, 0, "he"))
        (first, *_, last) = (event["layers"] for event in directory.events() if event["event"] == "layers")
        images = job.dataset.test.images
        assert first == describe_layers(begun, job.architecture, images)
        assert first != last

    @pytest.mark.parametrize("step", [1, 6, 7, 8, 13, 14])
    def test_stopped_and_resumed_each_is_there_once(self, job: Job, tmp_path: Path, step: int) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        train(job, directory, _Stops(step))
        assert _layers(directory) == ALL[: 1 + (step - 1) // 7]
        resume(job, directory, Silent())
        assert _layers(directory) == ALL

    def test_written_after_the_checkpoint_it_is_forgotten(self, job: Job, tmp_path: Path) -> None:
        """It has the very step of the checkpoint that was written before the epoch was evaluated."""
        directory = RunDirectory.create(tmp_path / "run")
        train(job, directory, _Stops(7))
        directory.append({"event": "layers", "step": 7, "progress": 1.0, "evaluated": 1, "layers": {}})
        resume(job, directory, Silent())
        assert _layers(directory) == ALL

    def test_a_run_that_begins_again_has_its_first_once(self, job: Job, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        train(job, directory, _Stops(3))
        for path in (*directory.checkpoints(), directory.path / "weights.safetensors"):
            path.unlink()
        resume(job, directory, Silent())
        assert _layers(directory) == ALL

    def test_an_older_run_gets_them_from_here_on(self, job: Job, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        train(job, directory, _Stops(10))
        old = [event for event in directory.events() if event["event"] != "layers"]
        (directory.path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in old))
        resume(job, directory, Silent())
        assert _layers(directory) == ALL[2:]
