"""The book's own code (d2l 1.0.3) at work on our files: its loader, its `train_ch6`, its speed; not our training."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import mxnet as mx
from mxnet.gluon.data import vision

from nin_multi.adapter import import_framework
from nin_multi.book import BookRound, LoaderClock, image_size, printed_rate
from nin_multi.spec import Architecture
from nin_mxnet.layers import compile_architecture


def book_loop(architecture: Architecture, files: Path, device: str, batch_size: int) -> Callable[[], BookRound]:
    """A function that has `train_ch6` train for an epoch, from new weights: shuffled images, four worker processes.

    The clock stops when the loader is exhausted, so the evaluation that follows does not count. The drawing of the
    curve does, six times an epoch however short, without what a notebook needs to show it.
    """
    size, tab = image_size(architecture), import_book()
    tab.npx.set_np()  # as the book's notebooks begin, and before there is a net
    train_iter, test_iter = load_data(tab, files, batch_size, size)
    net = compile_architecture(architecture)
    kind, _, index = device.partition(":")

    def run() -> BookRound:
        clock, said = LoaderClock(train_iter, mx.nd.waitall), io.StringIO()
        with contextlib.redirect_stdout(said):
            tab.train_ch6(net, clock, test_iter, 1, 0.1, mx.Context(kind, int(index or 0)))
        tab.plt.close("all")
        return BookRound(len(train_iter._dataset), clock.seconds, printed_rate(said.getvalue()))

    return run


def import_book() -> ModuleType:
    """The book's code for MXNet. Raises BackendUnavailable where it is missing."""
    return import_framework("d2l.mxnet", extra="d2l")


def load_data(tab: ModuleType, files: Path, batch_size: int, size: int | None) -> tuple[Any, Any]:
    """The book's own loaders, for training and test, of the four files in a folder.

    MXNet's data set wants them compressed, and with its own checksums: it is led to believe that it fetched them.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path in files.iterdir():
            (Path(folder) / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
        there = functools.partial(vision.FashionMNIST, root=folder)
        with mock.patch.object(vision, "FashionMNIST", there), mock.patch.object(vision.datasets, "download", _found):
            train_iter, test_iter = tab.load_data_fashion_mnist(batch_size, resize=size)
    return train_iter, test_iter


def _found(url: str, path: str, sha1_hash: str) -> str:
    """Stands for MXNet's `download`: the file is in the folder already."""
    return str(Path(path) / url.rpartition("/")[2])
