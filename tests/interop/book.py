"""What stands for the notebook around the book's own code (d2l 1.0.3) in a test: images, files, plot, curves."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nin_multi.architecture_file import parse_architecture
from nin_multi.backend import Network, Params
from nin_multi.bench import job
from nin_multi.data import Dataset, load_dataset, synthetic_dataset
from nin_multi.data.batches import Batch, training_batches
from nin_multi.data.fashion_mnist import FILES
from nin_multi.data.sources import DATA_VARIABLE
from nin_multi.spec import Architecture
from nin_multi.training import loop
from nin_multi.training.progress import Progress, Watcher, start
from nin_multi.training.recipe import Recipe

# The real images take part where they are at hand; nothing is fetched for a test.
DATASETS = ("synthetic", "fashion-mnist") if os.environ.get(DATA_VARIABLE) else ("synthetic",)

# Five steps an epoch, the last of them with 6 images: the book then plots every step, and a short batch counts.
EXAMPLES, TESTS, BATCH_SIZE, STEPS = 70, 50, 16, 5

Curve = list[tuple[float, float, float]]  # epochs done, loss and accuracy, both averaged over the epoch so far


def small_architecture(*, dropout: bool, ceil_mode: bool) -> Architecture:
    """One block under a linear layer, which learns within a few steps; deeper nets take hundreds."""
    return parse_architecture(f"""
name: small
input: [1, 28, 28]
layers:
  - {{type: nin_block, out_channels: 32, kernel_size: 5, stride: 2, padding: 2, mlp_channels: [32]}}
  - {{type: max_pool2d, kernel_size: 3, stride: 2, ceil_mode: {str(ceil_mode).lower()}}}
  {"- {type: dropout, rate: 0.5}" if dropout else ""}
  - {{type: flatten}}
  - {{type: linear, out_features: 10}}
""")


def smooth_architecture() -> Architecture:
    """Without ReLU and max pooling nothing decides, and a rounding stays as small as it is (docs/architecture.md)."""
    return parse_architecture("""
name: smooth
input: [1, 28, 28]
layers:
  - {type: conv2d, out_channels: 32, kernel_size: 5, stride: 2, padding: 2}
  - {type: conv2d, out_channels: 32, kernel_size: 1}
  - {type: avg_pool2d, kernel_size: 3, stride: 2}
  - {type: flatten}
  - {type: linear, out_features: 10}
""")


def small_dataset() -> Dataset:
    return synthetic_dataset(EXAMPLES, TESTS)


def load(name: str) -> Dataset:
    """A data set by its name in DATASETS."""
    return small_dataset() if name == "synthetic" else load_dataset(name, report=print)


def write_files(data: Dataset, folder: Path) -> None:
    """The four IDX files, uncompressed. Of real data the published bytes: our own reader has no part in them."""
    folder.mkdir(parents=True)
    if data.synthetic:
        job.write_files(data, folder)
        return
    for file in FILES:
        published = min(Path(os.environ[DATA_VARIABLE]).rglob(f"{file.name}*"))
        content = published.read_bytes()
        (folder / file.name).write_bytes(gzip.decompress(content) if published.suffix == ".gz" else content)


@dataclass
class Plot:
    """Stands for the book's Animator and keeps what it is to draw.

    `train_ch6` makes its plot when it has drawn the initial weights and before its first step, which is the moment to
    look at them: `start` is what `look` saw.
    """

    look: Callable[[], Params]
    start: Params = field(default_factory=dict)
    train: Curve = field(default_factory=list)
    test: list[tuple[float, float]] = field(default_factory=list)  # epochs done, accuracy

    def __call__(self, **settings: object) -> Plot:
        self.start = self.look()
        return self

    def add(self, x: float, y: tuple[float | None, float | None, float | None]) -> None:
        loss, accuracy, test_accuracy = y
        if test_accuracy is not None:
            self.test.append((x, test_accuracy))
        if loss is not None and accuracy is not None:
            self.train.append((x, loss, accuracy))


@dataclass
class Epochs:
    """The harness's training batches as a loader of the book's: every pass is the next epoch, in its own order."""

    data: Dataset
    architecture: Architecture
    convert: Callable[[Batch], object]
    seed: int = 0
    passes: int = 0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[object]:
        epoch, self.passes = self.passes, self.passes + 1
        batches = training_batches(self.data.train, self.architecture, BATCH_SIZE, seed=self.seed, epoch=epoch)
        return map(self.convert, batches)


def our_curve(
    network: Network, architecture: Architecture, data: Dataset, epochs: int, lr: float
) -> tuple[Curve, list[tuple[float, float]]]:
    """The points that `Plot` has of the book's loop, of ours."""
    train: Curve = []
    test: list[tuple[float, float]] = []

    def step(progress: Progress) -> None:
        totals = progress.epoch_totals
        train.append((progress.step / STEPS, totals.mean_loss(), totals.accuracy()))

    watcher = Watcher(
        step=step,
        epoch=lambda progress: test.append((progress.epoch, progress.test_acc)),
        stop=lambda: False,
    )
    recipe = Recipe(epochs=epochs, batch_size=BATCH_SIZE, lr=lr, seed=0)
    loop.fit(network, architecture, data, recipe, start(data, recipe), watcher)
    return train, test


def assert_drawn_anew(start: Params, given: Params) -> None:
    """The book draws from the distribution that we draw from: Xavier uniform, biases zero; and it did draw."""
    assert list(start) == list(given)
    for name, value in start.items():
        if value.ndim == 1:
            assert not value.any(), name
            continue
        bound = np.sqrt(6 / ((value.shape[0] + value.shape[1]) * np.prod(value.shape[2:])))
        assert 0.9 * bound < np.abs(value).max() <= np.float32(bound), name
        assert (value != given[name]).any(), name


def assert_same_curves(ours: tuple[Curve, list[tuple[float, float]]], plot: Plot, *, relative: float) -> None:
    """Loss within `relative`; epochs, training accuracy and test accuracy are counts, and equal."""
    train, test = np.array(ours[0]), np.array(ours[1])
    expected, expected_test = np.array(plot.train), np.array(plot.test)
    np.testing.assert_allclose(train[:, 1], expected[:, 1], rtol=relative)
    np.testing.assert_allclose(train[:, [0, 2]], expected[:, [0, 2]], rtol=1e-12)
    np.testing.assert_allclose(test, expected_test, rtol=1e-12)
    # The averages of the first and the last epoch: it learns, so this is no comparison of two standstills.
    assert expected[-1, 1] < expected[STEPS - 1, 1] - 0.1
