"""The book's own code (d2l 1.0.3) at work on our files: its loader, its `train_ch6`, its speed; not our training."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nin_multi.adapter import import_framework
from nin_multi.book import BookRound, LoaderClock, image_size, printed_rate
from nin_multi.spec import Architecture
from nin_torch.layers import compile_architecture


def book_loop(architecture: Architecture, files: Path, device: str, batch_size: int) -> Callable[[], BookRound]:
    """A function that has `train_ch6` train for an epoch, from new weights: shuffled images, four worker processes.

    The clock stops when the loader is exhausted, so the evaluation that follows does not count. The drawing of the
    curve does, six times an epoch however short, without what a notebook needs to show it.
    """
    size, tab = image_size(architecture), import_book()
    train_iter, test_iter = load_data(tab, files, batch_size, size)
    net = compile_architecture(architecture)

    def run() -> BookRound:
        clock, said = LoaderClock(train_iter), io.StringIO()
        with contextlib.redirect_stdout(said):
            tab.train_ch6(net, clock, test_iter, 1, 0.1, torch.device(device))
        tab.plt.close("all")
        return BookRound(len(train_iter.dataset), clock.seconds, printed_rate(said.getvalue()))

    return run


def import_book() -> ModuleType:
    """The book's code for PyTorch. Raises BackendUnavailable where it or torchvision is missing."""
    with contextlib.suppress(ModuleNotFoundError):  # of d2l itself, then; and of torchvision d2l's import tells
        _import_torchvision()
    return import_framework("d2l.torch", extra="d2l")


def _import_torchvision() -> None:
    """Import it also where its compiled part does not fit torch, as the published one does not fit a CPU build.

    The book needs its data sets and transforms only, and they are Python. What is in the way is that torchvision
    describes two operators of the compiled part: with their signatures declared, it imports.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        global _declared  # what a Library declares goes when the Library goes
        _declared = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            _declared.define(  # type: ignore[no-untyped-call]
                f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        importlib.import_module("torchvision")


_declared: object = None


def load_data(tab: ModuleType, files: Path, batch_size: int, size: int | None) -> tuple[Any, Any]:
    """The book's own loaders, for training and test, of the four files in a folder. The book looks in ../data."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data" / "FashionMNIST").mkdir(parents=True)
        (Path(folder) / "data" / "FashionMNIST" / "raw").symlink_to(files.resolve())
        (Path(folder) / "notebook").mkdir()
        os.chdir(Path(folder) / "notebook")
        try:
            train_iter, test_iter = tab.load_data_fashion_mnist(batch_size, resize=size)
        finally:
            os.chdir(before)
    return train_iter, test_iter
