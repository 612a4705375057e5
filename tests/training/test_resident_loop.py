"""The loop on images that stay on the device: stretches, points, totals, masks and stops, by a stand-in in NumPy."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import randomness
from nin_multi.backend import StepResult
from nin_multi.data import Dataset
from nin_multi.data.batches import prepare
from nin_multi.oracle import NumpyBackend, NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.training import loop, residents
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import NotFinite, Progress, Watcher, start
from nin_multi.training.recipe import Recipe
from nin_multi.training.residents import rehearse, settle
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory


class _Split:
    """Steps of the network itself, on images it was given once."""

    def __init__(self, network: _Holder, images: np.ndarray, labels: np.ndarray) -> None:
        self.network, self.images, self.labels = network, images, labels

    def train(
        self, batches: Sequence[Any], masks: Any, lr: float | Sequence[float], momentum: float = 0.0
    ) -> StepResult:
        self.network.stretches.append(len(batches))
        results = []
        rates = [lr] * len(batches) if isinstance(lr, float) else lr
        for chosen, rate in zip(batches, rates, strict=True):
            x = prepare(self.images[chosen], self.network.architecture)
            drawn = None if masks is None else next(masks)
            results.append(self.network.train_step(x, self.labels[chosen], drawn, rate, momentum))
        sums = (sum(getattr(result, name) for result in results) for name in ("loss", "correct", "count"))
        return StepResult(*sums)

    def logits(self, count: int | None = None) -> np.ndarray:
        return self.network.logits(prepare(self.images[:count], self.network.architecture))

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        before = self.network.params(), self.network.velocities()
        yield
        self.network.restore(*before)


class _Holder(NumpyNetwork):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.stretches: list[int] = []

    def resident(self, images: np.ndarray, labels: np.ndarray, resampling: Any) -> _Split:
        assert labels.dtype == np.int32
        assert all(axis is not None for axis in resampling)
        return _Split(self, images, labels)


class _HoldingBackend(NumpyBackend):
    def build(self, architecture: Architecture, params: Any, **rest: Any) -> _Holder:
        self.last = _Holder(architecture, params)
        return self.last


def _fit(network: NumpyNetwork, architecture: Architecture, data: Dataset, recipe: Recipe) -> list[tuple[Any, ...]]:
    """What a watcher is told at every point of the curve, and after every epoch."""
    told: list[tuple[Any, ...]] = []

    def step(p: Progress) -> None:
        if p.is_point():
            told.append((p.step, p.epoch, p.epoch_totals.mean_loss(), p.epoch_totals.accuracy(), p.run_totals.count))

    def epoch(p: Progress) -> None:
        told.append((p.step, p.epoch, p.test_loss, p.test_acc))

    loop.fit(network, architecture, data, recipe, start(data, recipe), Watcher(step, epoch, lambda: False))
    return told


@pytest.mark.parametrize("batch_size", [3, 10, 64, 100])
def test_the_same_steps_points_and_tests_as_from_the_host(tiny: Architecture, data: Dataset, batch_size: int) -> None:
    recipe = Recipe(epochs=2, batch_size=batch_size, momentum=0.5)
    params = randomness.initial_parameters(tiny, 0)
    fed, held = NumpyNetwork(tiny, params), _Holder(tiny, params)
    told = _fit(held, tiny, data, recipe)
    np.testing.assert_allclose(np.concatenate(told), np.concatenate(_fit(fed, tiny, data, recipe)), rtol=1e-12)
    for name, value in fed.params().items():
        assert value.tobytes() == held.params()[name].tobytes()
    assert sum(held.stretches) == 2 * -(-64 // batch_size)
    if batch_size == 3:
        assert held.stretches[:2] == [1, 3]  # one to see how fast it is, then to the point


@pytest.mark.parametrize("steps", [469, 235, 10, 7, 3, 1])
def test_to_next_point(steps: int) -> None:
    progress = Progress(2 * steps, 2, steps)
    for step in range(2 * steps):
        progress.step = step
        wanted = progress.to_next_point()
        found = 0
        while True:
            progress.step += 1
            found += 1
            if progress.is_point():
                break
        assert found == wanted


def test_slow_steps_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch, tiny: Architecture, data: Dataset) -> None:
    monkeypatch.setattr(residents, "STRETCH_SECONDS", 0.0)
    held = _Holder(tiny, randomness.initial_parameters(tiny, 0))
    _fit(held, tiny, data, Recipe(epochs=1, batch_size=3))
    assert held.stretches == [1] * 22


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_stops_the_loop(tiny: Architecture, data: Dataset) -> None:
    held = _Holder(tiny, randomness.initial_parameters(tiny, 0))
    with pytest.raises(NotFinite, match=r"^the loss is (nan|inf) (at|in the \d+ steps up to) step \d+ \(epoch 1\): "):
        _fit(held, tiny, data, Recipe(epochs=2, batch_size=3, lr=1e100))


def test_stopped_and_resumed_is_the_run_that_was_never_stopped(
    tmp_path: Path, tiny: Architecture, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residents, "STRETCH_SECONDS", 0.0)
    recipe = Recipe(epochs=2, batch_size=10, momentum=0.5)
    job = Job(_HoldingBackend(), "cpu", "fp64", tiny, data, recipe)

    class Stops(Silent):
        def step(self, progress: Progress) -> None:
            if progress.step == 9:
                signal.raise_signal(signal.SIGTERM)

    whole, stopped = RunDirectory.create(tmp_path / "whole"), RunDirectory.create(tmp_path / "stopped")
    assert train(job, whole, Silent())["status"] == "done"
    assert train(job, stopped, Stops())["status"] == "interrupted"
    result = resume(job, stopped, Silent())
    assert (result["status"], result["steps"]) == ("done", 14)
    np.testing.assert_allclose(*(
        [event["loss"] for event in directory.events() if "loss" in event] for directory in (whole, stopped)
    ), rtol=1e-6)  # fmt: skip


def test_measuring_changes_nothing(tiny: Architecture, data: Dataset) -> None:
    recipe = Recipe(epochs=1, batch_size=10, momentum=0.5)
    held = _Holder(tiny, randomness.initial_parameters(tiny, 0))
    before = held.params()
    residents = settle(held, tiny, data)
    assert residents is not None
    pace = rehearse(residents, tiny, data, recipe, seconds=0.01)
    assert pace.examples_per_sec > 0
    assert pace.first_step_seconds > 0
    for name, value in held.params().items():
        assert value.tobytes() == before[name].tobytes()


def test_networks_that_want_batches_get_them(tiny: Architecture, data: Dataset) -> None:
    assert settle(NumpyNetwork(tiny, randomness.initial_parameters(tiny, 0)), tiny, data) is None
