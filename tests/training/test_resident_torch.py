"""Images on the network's device, with PyTorch on the CPU: the same pixels, steps and answers as with batches fed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import randomness, registry
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend, Params
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.data.batches import batch_order, prepare, training_batches
from nin_multi.data.dataset import Split
from nin_multi.data.resize import resampling
from nin_multi.errors import BackendUnavailable
from nin_multi.spec import Architecture
from nin_multi.training import residents
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Watcher
from nin_multi.training.recipe import Recipe
from nin_multi.training.residents import rehearse, settle
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory
from nin_multi.training.scores import evaluate, score

QUIET = Watcher(lambda _: None, lambda _: None, lambda: False)


@pytest.fixture(scope="module")
def torch_backend() -> Backend:
    backend = registry.load("torch")
    try:
        backend.version()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    return backend


@pytest.fixture(scope="module")
def small() -> Architecture:
    """Two blocks with a pool and a dropout between them, at another size than the images'."""
    layers: list[dict[str, Any]] = [
        {"type": "nin_block", "out_channels": 16, "kernel_size": 5, "stride": 2},
        {"type": "max_pool2d", "kernel_size": 3, "stride": 2},
        {"type": "dropout", "rate": 0.5},
        {"type": "nin_block", "out_channels": 10, "kernel_size": 3, "stride": 1, "padding": 1},
        {"type": "global_avg_pool2d"},
        {"type": "flatten"},
    ]
    return Architecture.model_validate({"name": "small", "input": (1, 40, 36), "layers": layers})


def _build(backend: Backend, architecture: Architecture, params: Params, precision: str = "fp32", **tuning: str) -> Any:
    return backend.build(architecture, params, device="cpu", precision=precision, seed=3, tuning=tuning)


def _nearly(found: Params, wanted: Params, allowed: float = 1e-6) -> None:
    """To so much of the largest: the fused SGD may round a product and a sum as one."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=allowed * max(np.abs(value).max(), 1e-9))


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(28, 28), (224, 224), (32, 56), (28, 31), (20, 28), (13, 9), (97, 300)], ids=str)
def test_pixels_are_the_harness_s_bit_for_bit(
    torch_backend: Backend, size: tuple[int, int], channels_last: bool, once: bool
) -> None:
    import torch

    from nin_torch.pictures import Pictures

    random = np.random.default_rng(sum(size))
    images = random.integers(0, 256, (9, 28, 28), np.uint8)
    images[0], images[1] = 255, np.indices((28, 28)).sum(0) % 2 * 255
    for channels in (1, 3):
        net = Architecture.model_validate(
            {"name": "x", "input": (channels, *size), "layers": [{"type": "global_avg_pool2d"}, {"type": "flatten"}]}
        )
        axes = resampling(28, size[0]), resampling(28, size[1])
        cpu = torch.device("cpu")
        pictures = Pictures(images, channels, axes, cpu, channels_last=channels_last, once=once)
        chosen = np.array([8, 0, 1, 1, 5])
        found = pictures.take(torch.from_numpy(chosen))
        assert found.dtype == torch.float32
        assert not channels_last or found.stride(1) == 1
        assert found.numpy().tobytes() == prepare(images[chosen], net).tobytes()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("precision", "tuning"),
    [("fp32", {}), ("bf16", {}), ("fp32", {"resize": "once"}), ("fp32", {"micro_batch": "8"})],
    ids=str,
)
def test_steps_are_those_of_batches_from_the_host(
    torch_backend: Backend, small: Architecture, momentum: float, precision: str, tuning: dict[str, str]
) -> None:
    data = synthetic_dataset(50, 10)
    params = randomness.initial_parameters(small, 0, "he")
    fed = _build(torch_backend, small, params, precision, **tuning)
    held = _build(torch_backend, small, params, precision, data="resident", **tuning)
    residents = settle(held, small, data)
    assert residents is not None
    assert settle(fed, small, data) is None
    for epoch in range(2):
        batches = list(training_batches(data.train, small, 16, seed=1, epoch=epoch))
        steps = [fed.train_step(b.x, b.y, b.masks, 0.05, momentum) for b in batches]
        order = batch_order(50, 16, seed=1, epoch=epoch)
        found = residents.train.train(order, iter([b.masks for b in batches]), 0.05, momentum)
        assert found.loss == pytest.approx(sum(step.loss for step in steps), rel=1e-6)
        assert (found.correct, found.count) == (sum(step.correct for step in steps), 50)
    allowed = 1e-5 if "micro_batch" in tuning else 1e-6  # sums of gradients in another order
    _nearly(held.params(), fed.params(), allowed)
    _nearly(held.velocities(), fed.velocities(), allowed)
    assert bool(held.velocities()) == bool(momentum)
    wanted = evaluate(fed, small, data.test, 10)
    found = score(residents.test.logits(), data.test.labels)
    rel = 1e-5 if precision == "fp32" else 1e-2
    assert (found.loss, found.accuracy) == pytest.approx((wanted.loss, wanted.accuracy), rel=rel)
    np.testing.assert_array_equal(residents.test.logits(3), residents.test.logits()[:3])


def test_masks_given_are_not_written_to(torch_backend: Backend, small: Architecture) -> None:
    data = synthetic_dataset(32, 10)
    held = _build(torch_backend, small, randomness.initial_parameters(small, 0), data="resident")
    residents = settle(held, small, data)
    assert residents is not None
    masks = [randomness.dropout_masks(small, 16, 0, step) for step in range(2)]
    before = [mask["dropout1"].copy() for mask in masks]
    residents.train.train(batch_order(32, 16, seed=0, epoch=0), iter(masks), 0.1)
    for mask, value in zip(masks, before, strict=True):
        np.testing.assert_array_equal(mask["dropout1"], value)


def test_each_step_takes_its_own_rate(torch_backend: Backend, small: Architecture) -> None:
    data = synthetic_dataset(48, 10)
    params = randomness.initial_parameters(small, 0, "he")
    fed, held = _build(torch_backend, small, params), _build(torch_backend, small, params, data="resident")
    residents = settle(held, small, data)
    assert residents is not None
    batches = list(training_batches(data.train, small, 16, seed=0, epoch=0))
    rates = [0.01, 0.05, 0.02]
    for batch, rate in zip(batches, rates, strict=True):
        fed.train_step(batch.x, batch.y, batch.masks, rate, 0.9)
    order = batch_order(48, 16, seed=0, epoch=0)
    residents.train.train(order, iter([batch.masks for batch in batches]), rates, 0.9)
    _nearly(held.params(), fed.params())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_from_a_loss_that_is_no_number_on_nothing_moves(
    torch_backend: Backend, small: Architecture, momentum: float
) -> None:
    data = synthetic_dataset(48, 10)
    params = randomness.initial_parameters(small, 0, "he")
    held = _build(torch_backend, small, params, data="resident")
    residents = settle(held, small, data)
    assert residents is not None
    order = batch_order(48, 16, seed=0, epoch=0)
    masks = [dict(randomness.dropout_masks(small, 16, 0, step)) for step in range(3)]
    residents.train.train(order[:1], iter(masks), 0.05, momentum)
    before = held.params(), held.velocities()
    masks[1] = {name: np.full_like(mask, np.nan) for name, mask in masks[1].items()}
    assert not np.isfinite(residents.train.train(order[1:], iter(masks[1:]), 0.05, momentum).loss)
    for found, expected in zip((held.params(), held.velocities()), before, strict=True):
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def test_restored_it_goes_on_from_there(torch_backend: Backend, small: Architecture) -> None:
    """Also with velocities, and where there were none."""
    data = synthetic_dataset(48, 10)
    params = randomness.initial_parameters(small, 0, "he")
    held = _build(torch_backend, small, params, data="resident")
    residents = settle(held, small, data)
    assert residents is not None
    order = batch_order(48, 16, seed=0, epoch=0)
    masks = [randomness.dropout_masks(small, 16, 0, step) for step in range(3)]
    residents.train.train(order[:2], iter(masks), 0.05, 0.9)
    middle = held.params(), held.velocities()
    residents.train.train(order[2:], iter(masks[2:]), 0.05, 0.9)
    wanted = held.params(), held.velocities()
    held.restore(*middle)
    residents.train.train(order[2:], iter(masks[2:]), 0.05, 0.9)
    for found, expected in zip((held.params(), held.velocities()), wanted, strict=True):
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
    held.restore(params, {})
    assert held.velocities() == {}
    residents.train.train(order, iter(masks), 0.05, 0.9)
    _nearly(held.params(), wanted[0])


def test_a_rehearsal_leaves_weights_and_draws(torch_backend: Backend, small: Architecture) -> None:
    data = synthetic_dataset(40, 10)
    params = randomness.initial_parameters(small, 0, "he")
    order = batch_order(40, 16, seed=0, epoch=0)
    ended = []
    for rehearsed in (False, True):
        held = _build(torch_backend, small, params, data="resident")
        residents = settle(held, small, data)
        assert residents is not None
        if rehearsed:
            recipe = Recipe(batch_size=16, dropout="native", lr=0.05, momentum=0.9)
            assert rehearse(residents, small, data, recipe, seconds=0.01).examples_per_sec > 0
        residents.train.train(order, None, 0.05, 0.9)
        ended.append(held.params())
    for name, value in ended[0].items():
        np.testing.assert_array_equal(ended[1][name], value)


def test_more_steps_than_fit_at_once(
    torch_backend: Backend, small: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nin_torch import resident

    monkeypatch.setattr(resident, "_MOST_INDICES", 0)
    data = synthetic_dataset(20, 10)
    held = _build(torch_backend, small, randomness.initial_parameters(small, 0), data="resident")
    residents = settle(held, small, data)
    assert residents is not None
    order = batch_order(20, 8, seed=0, epoch=0)
    assert residents.train.train(order * 3, None, 0.01).count == 60


@pytest.fixture(scope="module")
def sixty() -> Dataset:
    return synthetic_dataset(60, 20)


class TestRuns:
    def _job(self, backend: Backend, net: Architecture, data: Dataset, how: str, **recipe: Any) -> Job:
        settings = Recipe(**{"epochs": 2, "batch_size": 16, "momentum": 0.5, "lr": 0.05, "init": "he", **recipe})
        return Job(backend, "cpu", "fp32", net, data, settings, {"data": how})

    def _events(self, directory: RunDirectory) -> list[list[float]]:
        keys = ("step", "loss", "train_acc", "test_loss", "test_acc")
        return [[event.get(key, 0.0) for key in keys] for event in directory.events()]

    def test_a_run_is_the_one_with_batches_from_the_host(
        self, torch_backend: Backend, small: Architecture, sixty: Dataset, tmp_path: Path
    ) -> None:
        made = {}
        for how in ("fed", "resident"):
            directory = RunDirectory.create(tmp_path / how)
            result = train(self._job(torch_backend, small, sixty, how), directory, Silent())
            assert result["status"] == "done"
            assert json.loads((tmp_path / how / "run.json").read_text())["tuning"]["data"] == how
            made[how] = np.array(self._events(directory))
        np.testing.assert_allclose(made["resident"], made["fed"], rtol=1e-5)

    def test_resumed_in_the_middle_of_an_epoch(
        self,
        torch_backend: Backend,
        small: Architecture,
        sixty: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Bit for bit, with shared masks."""
        import signal

        monkeypatch.setattr(residents, "STRETCH_SECONDS", 0.0)
        job = self._job(torch_backend, small, sixty, "resident")

        class Stops(Silent):
            def step(self, progress: Any) -> None:
                if progress.step == 6:
                    signal.raise_signal(signal.SIGTERM)

        whole, stopped = (RunDirectory.create(tmp_path / name) for name in ("whole", "stopped"))
        train(job, whole, Silent())
        assert train(job, stopped, Stops())["steps"] == 6
        resume(job, stopped, Silent())
        first, second = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped"))
        assert first == second

    def test_dropout_by_default(self, torch_backend: Backend, small: Architecture, sixty: Dataset) -> None:
        for how in ("fed", "resident"):
            job = self._job(torch_backend, small, sixty, how)
            assert job.with_default_dropout().recipe.dropout == "shared"  # on a CPU

        class OnGpu(type(torch_backend)):  # type: ignore[misc]
            def knobs(self, architecture: Architecture, **_: Any) -> Any:
                return super().knobs(architecture, device="cuda:0", precision="bf16")

        for how, wanted in (("fed", "shared"), ("resident", "native")):
            job = replace(self._job(OnGpu(), small, sixty, how), device="cuda:0")
            assert job.with_default_dropout().recipe.dropout == wanted


def test_the_chapter_s_net_takes_its_images(torch_backend: Backend) -> None:
    nin = load_architecture("nin")
    data = synthetic_dataset(5, 4)
    held = _build(torch_backend, nin, randomness.initial_parameters(nin, 0), "bf16", data="resident")
    residents = settle(held, nin, data)
    assert residents is not None
    found = residents.train.train(batch_order(5, 4, seed=0, epoch=0), None, 0.1)
    assert found.count == 5
    assert found.loss / 5 == pytest.approx(np.log(10), rel=0.05)
    small_split = Split(data.test.images[:2], data.test.labels[:2])
    wanted = held.logits(prepare(small_split.images, nin))
    np.testing.assert_allclose(residents.test.logits(2), wanted, rtol=0.05, atol=1e-3)
