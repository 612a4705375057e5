"""MXNet: the book's `train_ch6` trains our net, its loader has our batches, its loop has our curve."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import book
import numpy as np
import pytest

from nin_multi import randomness
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend, Images, Params
from nin_multi.data.batches import Batch, evaluation_batches, steps_per_epoch, training_batches
from nin_multi.spec import Architecture
from nin_multi.training.scores import evaluate

LR = 0.1


@pytest.fixture(autouse=True)
def _numpy_arrays(d2l: ModuleType) -> Iterator[None]:
    """Every MXNet notebook of the book begins so; its code wants these arrays, and Gluon must be told beforehand."""
    d2l.npx.set_np()
    yield
    d2l.npx.reset_np()


def _arrays(batch: Batch) -> tuple[Any, Any]:
    from mxnet import np as mxnp  # not above: the file is also collected where only other backends are

    return mxnp.array(batch.x), mxnp.array(batch.y, dtype=batch.y.dtype)


def _compiled(backend: Backend, architecture: Architecture) -> Any:
    """The Gluon net itself, as the adapter makes it, before it has parameters."""
    from nin_mxnet.layers import compile_architecture

    return compile_architecture(architecture)


def _built(backend: Backend, architecture: Architecture) -> Any:
    """`network.module`, as a notebook gets it."""
    params = randomness.initial_parameters(architecture, 0)
    return backend.build(architecture, params, device="cpu", precision="fp32").module


def _params(net: Any) -> Params:
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def _pairs(count: int, architecture: Architecture) -> list[tuple[Any, Any]]:
    """Five batches of so many images, every one the same: any net learns them."""
    data = book.small_dataset().head(count, 1)
    return [_arrays(batch) for batch in evaluation_batches(data.train, architecture, count)] * book.STEPS


FLOOR = book.small_architecture(dropout=True, ceil_mode=False)
CEIL = book.small_architecture(dropout=True, ceil_mode=True)


@pytest.mark.parametrize(
    ("make", "architecture", "count", "lr"),
    [
        pytest.param(_compiled, load_architecture("nin"), 2, 0.01, id="compiled-nin"),
        pytest.param(_compiled, FLOOR, 32, LR, id="compiled-floor"),
        pytest.param(_compiled, CEIL, 32, LR, id="compiled-ceil"),
        pytest.param(_built, load_architecture("nin"), 2, 0.01, id="built-nin"),
        pytest.param(_built, FLOOR, 32, LR, id="built-floor"),
        pytest.param(_built, CEIL, 32, LR, id="built-ceil"),
    ],
)
def test_train_ch6_trains_our_net(
    backend: Backend,
    d2l: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Backend, Architecture], Any],
    architecture: Architecture,
    count: int,
    lr: float,
) -> None:
    import mxnet as mx

    net = make(backend, architecture)
    assert type(net) is d2l.nn.HybridSequential
    plot = book.Plot(lambda: _params(net))
    monkeypatch.setattr(d2l, "Animator", plot)
    batches = _pairs(count, architecture)
    mx.random.seed(0)
    d2l.train_ch6(net, batches, batches, 2, lr, mx.cpu())
    assert [epochs for epochs, _, _ in plot.train] == pytest.approx([step / 5 for step in range(1, 11)])
    assert plot.train[-1][1] < plot.train[4][1]
    assert capsys.readouterr().out.endswith(" examples/sec on cpu(0)\n")
    after = _params(net)
    assert list(after) == list(architecture.parameter_shapes())
    for name, value in after.items():
        assert (value != plot.start[name]).any(), name

    # With these weights our network counts the same images as right.
    d2l.npx.reset_np()
    network = backend.build(architecture, after, device="cpu", precision="fp32")
    split = book.small_dataset().head(count, 1).train
    assert evaluate(network, architecture, split, count).accuracy == pytest.approx(plot.test[-1][1], abs=1e-12)


def _differences(ours: Images, theirs: Any) -> set[int]:
    """By how many of 255 grey levels pixels differ. Both sides are whole levels, to float32's rounding."""
    levels = (ours.astype(np.float64) - theirs.asnumpy()) * 255
    assert np.abs(levels - levels.round()).max() < 1e-4
    return set(levels.round().astype(int).ravel().tolist())


@pytest.mark.parametrize("name", book.DATASETS)
@pytest.mark.parametrize(
    ("zoo_name", "size", "expected"),
    [
        pytest.param("nin-mnist", None, {0}, id="28"),
        # MXNet resizes as OpenCV does, we as Pillow does: they round differently.
        pytest.param("nin", 224, {-1, 0, 1}, id="224"),
    ],
)
def test_the_books_loader_has_our_batches(
    backend: Backend,
    d2l: ModuleType,
    tmp_path: Path,
    name: str,
    zoo_name: str,
    size: int | None,
    expected: set[int],
) -> None:
    from nin_mxnet.book import load_data

    data, architecture = book.load(name), load_architecture(zoo_name)
    book.write_files(data, tmp_path / "files")
    train_iter, test_iter = load_data(d2l, tmp_path / "files", 64, size)
    order = randomness.order(len(data.train), 3, 1)
    in_our_order = d2l.gluon.data.DataLoader(train_iter._dataset, 64, sampler=order.tolist())
    pairs = (
        (training_batches(data.train, architecture, 64, seed=3, epoch=1), train_iter, in_our_order),
        (evaluation_batches(data.test, architecture, 64), test_iter, test_iter),
    )
    for ours, loader, theirs in pairs:
        assert len(loader) == steps_per_epoch(len(loader._dataset), 64)  # the last partial batch is kept
        seen: set[int] = set()
        compared = 0
        first_four = zip(itertools.islice(ours, 4), itertools.islice(theirs, 4), strict=True)
        for batch, (x, y) in first_four:
            compared += 1
            assert x.dtype == np.float32
            assert batch.x.shape == x.shape
            seen |= _differences(batch.x, x)
            if size is None:
                assert batch.x.tobytes() == x.asnumpy().tobytes()
            np.testing.assert_array_equal(batch.y, y.asnumpy())
        assert compared == min(len(loader), 4)
        assert seen == expected


@pytest.mark.parametrize("make", [pytest.param(_compiled, id="compiled"), pytest.param(_built, id="built")])
def test_our_loop_has_the_books_loss_curve(
    backend: Backend,
    d2l: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Backend, Architecture], Any],
) -> None:
    """20 steps from the weights that train_ch6 drew, in the same order, without dropout."""
    import mxnet as mx

    architecture = book.smooth_architecture()
    data, net = book.small_dataset(), make(backend, architecture)
    plot = book.Plot(lambda: _params(net))
    monkeypatch.setattr(d2l, "Animator", plot)
    test = [_arrays(batch) for batch in evaluation_batches(data.test, architecture, book.BATCH_SIZE)]
    mx.random.seed(0)
    d2l.train_ch6(net, book.Epochs(data, architecture, _arrays), test, 4, LR, mx.cpu())
    book.assert_drawn_anew(plot.start, randomness.initial_parameters(architecture, 0))

    d2l.npx.reset_np()  # as in every process of the harness
    ours = backend.build(architecture, plot.start, device="cpu", precision="fp32")
    curves = book.our_curve(ours, architecture, data, 4, LR)
    assert len(plot.train) == 20
    after = _params(net)
    for name, value in ours.params().items():
        np.testing.assert_allclose(value, after[name], rtol=0, atol=1e-6, err_msg=name)
    # The book takes the loss in float32, where MXNet's log-softmax is off by 1e-6; we take it in float64.
    book.assert_same_curves(curves, plot, relative=2e-6)


def test_our_own_steps_where_arrays_are_numpys(d2l: ModuleType, backend: Backend) -> None:
    """In one notebook the book's code and ours may both compute, and the book has set the kind of arrays for all."""
    params = randomness.initial_parameters(FLOOR, 0, "he")
    batch = next(training_batches(book.small_dataset().train, FLOOR, 8, seed=0, epoch=0))
    stepped = []
    for set_kind in (d2l.npx.set_np, d2l.npx.reset_np):
        set_kind()
        network = backend.build(FLOOR, params, device="cpu", precision="fp32")
        for _ in range(2):
            network.train_step(batch.x, batch.y, batch.masks, LR, 0.9)
        stepped.append(network.params())
    for name, value in stepped[0].items():
        np.testing.assert_array_equal(value, stepped[1][name], err_msg=name)
        assert (value != params[name]).any(), name
