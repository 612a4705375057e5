"""What `bench` asks of an adapter beside its network: the book's loop, layers one by one, products, the bare loop."""

from __future__ import annotations

import math
from pathlib import Path

import book
import numpy as np
import pytest

from nin_multi import randomness, registry
from nin_multi.architecture_file import load_architecture, parse_architecture
from nin_multi.backend import Backend
from nin_multi.bench.figures import layers_of
from nin_multi.errors import BackendUnavailable, UsageError

SMALL = book.small_architecture(dropout=True, ceil_mode=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    book.write_files(book.small_dataset(), tmp_path / "files")
    return tmp_path / "files"


def _has_book(backend: Backend, request: pytest.FixtureRequest) -> None:
    if backend.name == "numpy":
        pytest.skip("the book has no code for it")
    if backend.name == "mindspore":  # whose adapter writes the chapter's loop itself
        backend.matrix_product(2, device="cpu", precision="fp32")  # threads are set first, for the other tests
    else:
        request.getfixturevalue("d2l")


@pytest.mark.filterwarnings("ignore")  # the book's plots and loaders give many
def test_the_books_loop_trains_what_the_files_hold(
    backend: Backend, files: Path, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    _has_book(backend, request)
    before = Path.cwd()
    try:
        run = backend.book_loop(SMALL, files, device="cpu", batch_size=book.BATCH_SIZE)
        found = [run(), run()]
    finally:
        if backend.name == "mxnet":
            request.getfixturevalue("d2l").npx.reset_np()
    assert Path.cwd() == before
    for each in found:
        assert each.images == (8 if backend.name == "mindspore" else book.EXAMPLES)
        assert each.seconds > 0
        assert each.says is None if backend.name == "mindspore" else (each.says or 0) > 0
    assert "examples/sec" not in capfd.readouterr().out


def test_numpy_has_no_book(files: Path) -> None:
    with pytest.raises(BackendUnavailable, match="numpy: the book has no code"):
        registry.load("numpy").book_loop(SMALL, files, device="cpu", batch_size=16)


def test_images_that_the_books_loader_cannot_make(
    backend: Backend, files: Path, request: pytest.FixtureRequest
) -> None:
    _has_book(backend, request)
    coloured = load_architecture("nin-imagenet").with_input((3, 224, 224))
    with pytest.raises(UsageError, match="3x224x224"):
        backend.book_loop(coloured, files, device="cpu", batch_size=8)


@pytest.mark.parametrize("zoo_name", ["nin-mnist", "small"])
def test_every_layer_is_timed_in_its_place(backend: Backend, zoo_name: str) -> None:
    architecture = SMALL if zoo_name == "small" else load_architecture(zoo_name)
    x = np.random.default_rng(0).random((2, *architecture.input), np.float32)
    params = randomness.initial_parameters(architecture, 0)
    found = list(backend.layer_times(architecture, params, x, device="cpu", precision=backend.precisions[0], repeats=1))
    assert [name for name, _, _ in found] == [traced.name for traced in layers_of(architecture)]
    for _, forward, backward in found:
        assert forward > 0
        assert backward >= 0
        assert math.isfinite(forward + backward)


def test_a_first_layer_without_parameters_has_no_way_back(backend: Backend) -> None:
    architecture = parse_architecture("""
name: pooled
input: [1, 8, 8]
layers:
  - {type: max_pool2d, kernel_size: 2, stride: 2}
  - {type: flatten}
  - {type: linear, out_features: 3}
""")
    x = np.ones((2, 1, 8, 8), np.float32)
    params = randomness.initial_parameters(architecture, 0)
    found = list(backend.layer_times(architecture, params, x, device="cpu", precision=backend.precisions[0], repeats=1))
    assert len(found) == 3
    if backend.name != "numpy":  # which always goes back
        assert found[0][2] == 0.0


def test_products_take_time(backend: Backend) -> None:
    for precision in backend.precisions:
        multiply = backend.matrix_product(64, device="cpu", precision=precision)
        assert multiply() > 0
        assert multiply() > 0
    with pytest.raises(BackendUnavailable, match="fp8"):
        backend.matrix_product(64, device="cpu", precision="fp8")
