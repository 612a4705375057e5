"""The loop against one written out by hand in float64, and what its clocks and averages count."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nin_multi import randomness
from nin_multi.data import Dataset
from nin_multi.data.batches import training_batches
from nin_multi.data.dataset import Split
from nin_multi.oracle import NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.training import loop
from nin_multi.training.progress import NotFinite, Progress, Totals, Watcher, start
from nin_multi.training.recipe import Recipe
from nin_multi.training.scores import evaluate


def _pixels(split: Split) -> np.ndarray:
    """(N, 64) float64: 8 x 8 by Pillow, then value / 255 in float32 as the specification has it."""
    pictures = [Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR) for image in split.images]
    scaled = np.stack([np.asarray(picture) for picture in pictures]).astype(np.float32) / np.float32(255)
    return scaled.reshape(len(split), 64).astype(np.float64)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    return z - z.max(1, keepdims=True) - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True))


def _by_hand(
    architecture: Architecture, data: Dataset, recipe: Recipe
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], np.ndarray, np.ndarray]:
    """Softmax regression behind dropout: averages after each step, test loss and accuracy per epoch, W, b."""
    start = randomness.initial_parameters(architecture, recipe.seed)
    weight = start["linear1.weight"].astype(np.float64)
    bias = start["linear1.bias"].astype(np.float64)
    pixels, labels = _pixels(data.train), data.train.labels.astype(int)
    steps, tests = [], []
    number = 0
    for epoch in range(recipe.epochs):
        order = randomness.order(len(labels), recipe.seed, epoch).tolist()
        loss_sum, right, seen = 0.0, 0, 0
        while order:
            chosen, order = order[: recipe.batch_size], order[recipe.batch_size :]
            n = len(chosen)
            mask = randomness.dropout_masks(architecture, n, recipe.seed, number)["dropout1"].reshape(n, 64)
            x = pixels[chosen] * mask
            log_p = _log_softmax(x @ weight.T + bias)
            truth = np.eye(10)[labels[chosen]]
            loss_sum -= (log_p * truth).sum()
            right += int((log_p.argmax(1) == labels[chosen]).sum())
            seen += n
            by_logits = (np.exp(log_p) - truth) / n
            weight = weight - recipe.lr * by_logits.T @ x
            bias = bias - recipe.lr * by_logits.sum(0)
            steps.append((loss_sum / seen, right / seen))
            number += 1
        log_p = _log_softmax(_pixels(data.test) @ weight.T + bias)
        truth = data.test.labels.astype(int)
        tests.append((-log_p[np.arange(len(truth)), truth].mean(), (log_p.argmax(1) == truth).mean()))
    return steps, tests, weight, bias


def _network(architecture: Architecture, seed: int = 0) -> NumpyNetwork:
    return NumpyNetwork(architecture, randomness.initial_parameters(architecture, seed))


def _watch(**told: Any) -> Watcher:
    silent: dict[str, Any] = {"step": lambda _: None, "epoch": lambda _: None, "stop": lambda: False}
    return Watcher(**{**silent, **told})


def test_the_loop_is_the_one_written_out_by_hand(softmax: Architecture, data: Dataset) -> None:
    recipe = Recipe(epochs=3, batch_size=10, lr=0.5, seed=4)  # 64 images: six batches of 10 and one of 4
    steps, tests, weight, bias = _by_hand(softmax, data, recipe)
    network, progress = _network(softmax, 4), start(data, recipe)
    assert (progress.steps, progress.steps_per_epoch, progress.step) == (21, 7, 0)
    seen: list[tuple[float, float]] = []
    tested: list[tuple[float, float]] = []
    counts: list[tuple[int, int, int]] = []

    def step(p: Progress) -> None:
        seen.append((p.epoch_totals.mean_loss(), p.epoch_totals.accuracy()))
        counts.append((p.epoch, p.epoch_totals.count, p.run_totals.count))

    def epoch(p: Progress) -> None:
        tested.append((p.test_loss, p.test_acc))

    loop.fit(network, softmax, data, recipe, progress, _watch(step=step, epoch=epoch))
    np.testing.assert_allclose(seen, steps, rtol=1e-12)
    np.testing.assert_allclose(tested, tests, rtol=1e-12)
    np.testing.assert_array_equal(network.params()["linear1.weight"], weight.astype(np.float32))
    np.testing.assert_array_equal(network.params()["linear1.bias"], bias.astype(np.float32))
    assert tested[-1][0] < tested[0][0] < np.log(10)  # it learns: the comparison is not between two standstills
    within = [10, 20, 30, 40, 50, 60, 64]
    assert counts == [(e + 1, within[i], 64 * e + within[i]) for e in range(3) for i in range(7)]


@pytest.mark.parametrize(
    ("steps", "points"),
    [
        (469, [93, 186, 279, 372, 465, 469]),  # the chapter: 60,000 images in batches of 128
        (235, [47, 94, 141, 188, 235]),
        (10, [2, 4, 6, 8, 10]),
        (7, [1, 2, 3, 4, 5, 6, 7]),
        (3, [1, 2, 3]),
        (1, [1]),
    ],
)
def test_points_of_the_curve(steps: int, points: list[int]) -> None:
    """d2l.train_ch6: `(i + 1) % (num_batches // 5) == 0 or i == num_batches - 1`."""
    progress = Progress(2 * steps, 2, steps)
    found = []
    for progress.step in range(1, 2 * steps + 1):
        if progress.is_point():
            found.append(progress.step)
    assert found == points + [steps + point for point in points]


class _SlowImages(np.ndarray):
    """Images on a slow disk: reading a batch takes a tenth of a second."""

    def __getitem__(self, key: Any) -> Any:
        time.sleep(0.1)
        return np.asarray(super().__getitem__(key))


class _SlowNetwork(NumpyNetwork):
    """A net that counts for itself how long its steps take."""

    spent = 0.0

    def train_step(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        time.sleep(0.02)
        result = super().train_step(*arguments)
        self.spent += time.perf_counter() - began
        return result


def test_examples_per_sec_counts_preparation_and_compute_alone_does_not(softmax: Architecture, data: Dataset) -> None:
    slow = replace(data, train=Split(data.train.images.view(_SlowImages), data.train.labels))
    recipe = Recipe(epochs=1, batch_size=16)
    network = _SlowNetwork(softmax, randomness.initial_parameters(softmax, 0))
    progress = start(slow, recipe)
    began = time.perf_counter()
    loop.fit(network, softmax, slow, recipe, progress, _watch())
    whole = time.perf_counter() - began
    totals = progress.run_totals
    assert totals.count == 64
    assert 0.36 < totals.seconds < whole  # four batches a tenth each, less the thread's head start
    assert 0.08 < network.spent <= totals.compute_seconds < network.spent + 0.1
    assert totals.examples_per_sec() == 64 / totals.seconds
    assert totals.compute_examples_per_sec() == 64 / totals.compute_seconds
    assert totals.compute_examples_per_sec() > totals.examples_per_sec()


def test_evaluation_is_not_in_the_training_clock(softmax: Architecture, data: Dataset) -> None:
    slow = replace(data, test=Split(data.test.images.view(_SlowImages), data.test.labels))
    progress = start(slow, Recipe(epochs=3))
    began = time.perf_counter()
    loop.fit(_network(softmax), softmax, slow, Recipe(epochs=3), progress, _watch())
    assert progress.run_totals.seconds < time.perf_counter() - began - 0.3


def test_native_dropout_leaves_the_draws_to_the_network(softmax: Architecture, data: Dataset) -> None:
    given: list[Any] = []

    class Sees(NumpyNetwork):
        def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> Any:
            given.append((masks, momentum))
            return super().train_step(x, y, masks, lr, momentum)

    for dropout in ("native", "shared"):
        recipe = Recipe(epochs=1, batch_size=64, momentum=0.5, dropout=dropout)
        network = Sees(softmax, randomness.initial_parameters(softmax, 0))
        loop.fit(network, softmax, data, recipe, start(data, recipe), _watch())
    (native, momentum), (shared, _) = given
    assert (native, momentum) == (None, 0.5)
    assert shared.keys() == {"dropout1"}


def test_totals_of_nothing() -> None:
    assert np.isnan(Totals().mean_loss())
    assert np.isnan(Totals().accuracy())
    assert Totals().examples_per_sec() == Totals().compute_examples_per_sec() == 0.0


@pytest.mark.parametrize("batch_size", [1, 10, 23, 100])
def test_evaluate(softmax: Architecture, data: Dataset, batch_size: int) -> None:
    network = _network(softmax, 3)
    params = network.params()
    z = _pixels(data.test) @ params["linear1.weight"].astype(np.float64).T + params["linear1.bias"]
    labels = data.test.labels.astype(int)
    expected = -np.log(np.exp(z[np.arange(23), labels]) / np.exp(z).sum(1)).mean()
    found = evaluate(network, softmax, data.test, batch_size)
    loss, accuracy = found.loss, found.accuracy
    assert loss == pytest.approx(expected, rel=1e-12)
    assert accuracy == (z.argmax(1) == labels).sum() / 23
    for name, value in network.params().items():
        assert value.tobytes() == params[name].tobytes()


def test_evaluate_survives_large_logits(softmax: Architecture, data: Dataset) -> None:
    params = {name: value.copy() for name, value in randomness.initial_parameters(softmax, 0).items()}
    params["linear1.bias"][:2] = 5000.0, -5000.0
    found = evaluate(NumpyNetwork(softmax, params), softmax, data.test, 10)
    loss, accuracy = found.loss, found.accuracy
    zeros = (data.test.labels == 0).mean()
    assert accuracy == zeros
    ones = (data.test.labels == 1).mean()
    assert loss == pytest.approx(10000 * ones + 5000 * (1 - ones - zeros), rel=1e-3)


class TestMeasure:
    def test_weights_stay_bit_for_bit(self, tiny: Architecture, data: Dataset) -> None:
        network = _network(tiny)
        before = {name: value.copy() for name, value in network._params.items()}
        pace = loop.measure(network, training_batches(data.train, tiny, 10, seed=0, epoch=0))
        assert pace.examples_per_sec > 0
        for name, value in network._params.items():
            assert value.tobytes() == before[name].tobytes()

    def test_the_first_step_does_not_count_and_few_are_made(self, tiny: Architecture, data: Dataset) -> None:
        class Compiles(NumpyNetwork):
            calls = 0

            def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> Any:
                self.calls += 1
                assert (lr, momentum) == (0.0, 0.9)
                time.sleep(1.0 if self.calls == 1 else 0.02)
                return super().train_step(x, y, masks, lr, momentum)

        network = Compiles(tiny, randomness.initial_parameters(tiny, 0))
        pace = loop.measure(network, training_batches(data.train, tiny, 4, seed=0, epoch=0), 0.9)
        assert 20.0 < pace.examples_per_sec <= 4 / 0.02
        assert pace.first_step_seconds >= 1.0
        assert 2 <= network.calls < 16

    def test_a_first_step_of_any_length_is_followed_by_another(self, tiny: Architecture, data: Dataset) -> None:
        """Else the time a framework compiles for is taken for the time of every step."""

        class Compiles(NumpyNetwork):
            calls = 0

            def train_step(self, *given: Any, **more: Any) -> Any:
                self.calls += 1
                time.sleep(0.5 if self.calls == 1 else 0.0)
                return super().train_step(*given, **more)

        network = Compiles(tiny, randomness.initial_parameters(tiny, 0))
        pace = loop.measure(network, training_batches(data.train, tiny, 4, seed=0, epoch=0), seconds=0.1)
        assert network.calls >= 2
        assert pace.first_step_seconds >= 0.5
        assert pace.examples_per_sec > 4 / 0.5

    def test_one_slow_step_is_enough(self, tiny: Architecture, data: Dataset) -> None:
        batches = training_batches(data.train, tiny, 64, seed=0, epoch=0)
        assert loop.measure(_network(tiny), batches, seconds=0.0).examples_per_sec > 0


def test_stop_is_asked_after_every_step(softmax: Architecture, data: Dataset) -> None:
    recipe, epochs = Recipe(epochs=2, batch_size=10), []
    progress = start(data, recipe)
    watcher = _watch(stop=lambda: progress.step == 9, epoch=lambda p: epochs.append(p.epoch))
    loop.fit(_network(softmax), softmax, data, recipe, progress, watcher)
    assert (progress.step, progress.epoch, epochs) == (9, 2, [1])
    assert progress.run_totals.count == 64 + 20


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_stops_the_loop(tiny: Architecture, data: Dataset) -> None:
    told: list[float] = []
    recipe = Recipe(epochs=2, batch_size=10, lr=1e100)
    progress = start(data, recipe)
    watcher = _watch(step=lambda p: told.append(p.epoch_totals.mean_loss()))
    with pytest.raises(NotFinite, match=r"^the loss is (nan|inf) at step \d+ \(epoch 1\): .*layer '.+'") as caught:
        loop.fit(_network(tiny), tiny, data, recipe, progress, watcher)
    assert f"step {progress.step} " in str(caught.value)
    assert 1 < progress.step < 7
    assert len(told) == progress.step - 1  # the steps before it were good, and nobody was shown the bad one
    assert np.isfinite(told).all()
