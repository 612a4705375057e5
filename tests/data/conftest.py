"""A tiny "published" Fashion-MNIST with pins of its own, so that no test needs the real one or a network."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from nin_multi.data import download, fashion_mnist
from nin_multi.data.fashion_mnist import DataFile
from nin_multi.data.idx import idx_header
from nin_multi.errors import DataError

Refused = Callable[..., AbstractContextManager[None]]


@contextmanager
def _refused(*fragments: str) -> Iterator[None]:
    with pytest.raises(DataError) as caught:
        yield
    text = str(caught.value)
    assert 1 <= len(text.splitlines()) <= 2, text
    for fragment in fragments:
        assert fragment in text


@pytest.fixture
def refused() -> Refused:
    """A context that demands a DataError of at most two lines with all these fragments."""
    return _refused


class Published:
    """Four small files by name: arrays, raw contents, gzip contents, and their pins."""

    def __init__(self) -> None:
        random = np.random.RandomState(0)
        self.arrays: dict[str, np.ndarray] = {}
        for name, count in (("train", 40), ("t10k", 20)):
            images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
            self.arrays[f"{name}-images-idx3-ubyte"] = images
            self.arrays[f"{name}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
        self.raw = {name: self.idx_bytes(array) for name, array in self.arrays.items()}
        self.gz = {name: gzip.compress(content, mtime=0) for name, content in self.raw.items()}
        self.files = tuple(
            DataFile(
                name,
                array.shape,
                hashlib.sha256(self.raw[name]).hexdigest(),
                hashlib.sha256(self.gz[name]).hexdigest(),
                len(self.gz[name]),
            )
            for name, array in self.arrays.items()
        )

    @staticmethod
    def idx_bytes(array: np.ndarray) -> bytes:
        return idx_header(array.shape) + array.tobytes()

    def write(self, folder: Path, form: str = "gz") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.arrays:
            if form == "gz":
                (folder / f"{name}.gz").write_bytes(self.gz[name])
            else:
                (folder / name).write_bytes(self.raw[name])
        return folder


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    made = Published()
    monkeypatch.setattr(fashion_mnist, "FILES", made.files)
    monkeypatch.setattr(download, "FILES", made.files)
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no environment, and no address that answers."""
    folder = tmp_path / "cache" / "nin-multi" / "fashion-mnist"
    monkeypatch.setattr(download.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(download, "ADDRESSES", ("http://127.0.0.1:9/", "http://127.0.0.1:9/again/"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("NIN_MULTI_DATA", raising=False)
    return folder
