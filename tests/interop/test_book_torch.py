"""PyTorch: the book's `train_ch6` trains our net, its loader has our batches, its loop has our curve."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import book
import numpy as np
import pytest

from nin_multi import randomness
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend, Network
from nin_multi.data.batches import Batch, evaluation_batches, steps_per_epoch, training_batches
from nin_multi.spec import Architecture
from nin_multi.training.scores import evaluate

LR = 0.1


def _build(backend: Backend, architecture: Architecture, seed: int = 0) -> Network:
    params = randomness.initial_parameters(architecture, seed)
    return backend.build(architecture, params, device="cpu", precision="fp32")


def _tensors(batch: Batch) -> tuple[Any, Any]:
    import torch  # not above: the file is also collected where only other backends are

    return torch.from_numpy(batch.x), torch.from_numpy(batch.y).long()


def _pairs(count: int, architecture: Architecture) -> list[tuple[Any, Any]]:
    """Five batches of so many images, every one the same: any net learns them."""
    data = book.small_dataset().head(count, 1)
    return [_tensors(batch) for batch in evaluation_batches(data.train, architecture, count)] * book.STEPS


@pytest.mark.parametrize(
    ("architecture", "count", "lr"),
    [
        pytest.param(load_architecture("nin"), 2, 0.01, id="nin"),
        pytest.param(load_architecture("nin-mnist"), 8, LR, id="nin-mnist"),
        pytest.param(book.small_architecture(dropout=True, ceil_mode=True), 32, LR, id="small"),
    ],
)
def test_train_ch6_trains_our_net(
    backend: Backend,
    d2l: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    architecture: Architecture,
    count: int,
    lr: float,
) -> None:
    network = _build(backend, architecture)
    net = network.module
    assert isinstance(net, d2l.nn.Module)
    assert {type(part).__module__.partition(".nn.")[0] for part in net.modules()} == {"torch"}  # nothing of ours in it
    plot = book.Plot(network.params)
    monkeypatch.setattr(d2l, "Animator", plot)
    batches = _pairs(count, architecture)
    d2l.torch.manual_seed(0)
    d2l.train_ch6(net, batches, batches, 2, lr, d2l.torch.device("cpu"))
    assert [epochs for epochs, _, _ in plot.train] == pytest.approx([step / 5 for step in range(1, 11)])
    assert plot.train[-1][1] < plot.train[4][1]
    output = capsys.readouterr().out
    assert output.startswith("training on cpu\n")
    assert output.endswith(" examples/sec on cpu\n")
    # What it trained is what our Network holds, and both count the same images as right.
    for name, value in network.params().items():
        assert (value != plot.start[name]).any(), name
    split = book.small_dataset().head(count, 1).train
    assert evaluate(network, architecture, split, count).accuracy == pytest.approx(plot.test[-1][1], abs=1e-12)


@pytest.mark.parametrize("name", book.DATASETS)
@pytest.mark.parametrize(("zoo_name", "size"), [("nin-mnist", None), ("nin", 224)], ids=["28", "224"])
def test_the_books_loader_has_our_batches(
    backend: Backend,
    d2l: ModuleType,
    tmp_path: Path,
    name: str,
    zoo_name: str,
    size: int | None,
) -> None:
    from nin_torch.book import load_data

    data, architecture = book.load(name), load_architecture(zoo_name)
    book.write_files(data, tmp_path / "files")
    train_iter, test_iter = load_data(d2l, tmp_path / "files", 64, size)
    order = randomness.order(len(data.train), 3, 1)
    in_our_order = d2l.torch.utils.data.DataLoader(train_iter.dataset, train_iter.batch_size, sampler=order.tolist())
    pairs = (
        (training_batches(data.train, architecture, 64, seed=3, epoch=1), train_iter, in_our_order),
        (evaluation_batches(data.test, architecture, 64), test_iter, test_iter),
    )
    for ours, loader, theirs in pairs:
        assert len(loader) == steps_per_epoch(len(loader.dataset), 64)  # the last partial batch is kept
        compared = 0
        first_four = zip(itertools.islice(ours, 4), itertools.islice(theirs, 4), strict=True)
        for batch, (x, y) in first_four:
            compared += 1
            assert x.dtype == d2l.torch.float32
            assert batch.x.shape == x.shape
            assert batch.x.tobytes() == x.numpy().tobytes()
            np.testing.assert_array_equal(batch.y, y.numpy())
        assert compared == min(len(loader), 4)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_our_loop_has_the_books_loss_curve(
    backend: Backend, d2l: ModuleType, monkeypatch: pytest.MonkeyPatch, ceil_mode: bool
) -> None:
    """20 steps from the weights that train_ch6 drew, in the same order, without dropout."""
    architecture = book.small_architecture(dropout=False, ceil_mode=ceil_mode)
    data, network = book.small_dataset(), _build(backend, architecture)
    given, plot = network.params(), book.Plot(network.params)
    monkeypatch.setattr(d2l, "Animator", plot)
    test = [_tensors(batch) for batch in evaluation_batches(data.test, architecture, book.BATCH_SIZE)]
    d2l.torch.manual_seed(0)
    d2l.train_ch6(network.module, book.Epochs(data, architecture, _tensors), test, 4, LR, d2l.torch.device("cpu"))
    book.assert_drawn_anew(plot.start, given)

    ours = backend.build(architecture, plot.start, device="cpu", precision="fp32")
    curves = book.our_curve(ours, architecture, data, 4, LR)
    assert len(plot.train) == 20
    # The steps are equal bit for bit. The book multiplies each mean loss by the count in float32, we in float64.
    for name, value in ours.params().items():
        np.testing.assert_array_equal(value, network.params()[name], err_msg=name)
    book.assert_same_curves(curves, plot, relative=1e-8)
