"""The four files: found in every layout, verified by content, and told from what only looks like them."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from nin_multi.data import fashion_mnist
from nin_multi.data.fashion_mnist import CLASSES, has_fashion_mnist, read_fashion_mnist

TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize("form", ["gz", "raw"])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw", "raw"])
def test_reads_every_layout(tmp_path: Path, published, form: str, layout: str) -> None:
    published.write(tmp_path / layout, form)
    dataset = read_fashion_mnist(tmp_path)
    assert (dataset.name, dataset.title, dataset.synthetic) == ("fashion-mnist", "Fashion-MNIST", False)
    assert dataset.source == str(tmp_path)
    assert dataset.classes == CLASSES
    np.testing.assert_array_equal(dataset.train.labels, published.arrays[TRAIN_LABELS])
    np.testing.assert_array_equal(dataset.test.images, published.arrays[TEST_IMAGES])


def test_compressed_anew_is_as_good(tmp_path: Path, published) -> None:
    published.write(tmp_path)
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(published.raw[TEST_LABELS], 1, mtime=7))
    read_fashion_mnist(tmp_path)


@pytest.mark.parametrize("wrong", ["raw", "gz"])
def test_of_raw_and_gz_the_one_that_verifies(tmp_path: Path, published, wrong: str) -> None:
    published.write(tmp_path, "raw")
    published.write(tmp_path, "gz")
    name = TEST_IMAGES if wrong == "raw" else f"{TEST_IMAGES}.gz"
    (tmp_path / name).write_bytes(b"\x1f\x8bnonsense")
    np.testing.assert_array_equal(read_fashion_mnist(tmp_path).test.images, published.arrays[TEST_IMAGES])


def test_missing_file(tmp_path: Path, published, refused) -> None:
    assert not has_fashion_mnist(tmp_path)
    published.write(tmp_path)
    (tmp_path / f"{TEST_IMAGES}.gz").unlink()
    assert has_fashion_mnist(tmp_path)
    with refused(f"no {TEST_IMAGES}", str(tmp_path)):
        read_fashion_mnist(tmp_path)


@pytest.mark.parametrize("form", ["gz", "raw"])
@pytest.mark.parametrize("place", [30, -1])
def test_one_flipped_bit(tmp_path: Path, published, form: str, place: int, refused) -> None:
    published.write(tmp_path, form)
    altered = bytearray(published.raw[TEST_IMAGES])
    altered[place] ^= 1
    path = tmp_path / (f"{TEST_IMAGES}.gz" if form == "gz" else TEST_IMAGES)
    path.write_bytes(gzip.compress(altered) if form == "gz" else altered)
    with refused(str(path), "not the published file", "SHA-256"):
        read_fashion_mnist(tmp_path)


def test_truncated(tmp_path: Path, published, refused) -> None:
    published.write(tmp_path)
    (tmp_path / f"{TEST_IMAGES}.gz").write_bytes(published.gz[TEST_IMAGES][:-100])
    with refused(TEST_IMAGES, "truncated"):
        read_fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (TRAIN_LABELS, TEST_LABELS, "another shape"),
        ("train-images-idx3-ubyte", TEST_IMAGES, "another shape"),
        (TEST_IMAGES, TEST_LABELS, "not an IDX file of unsigned bytes in 1 dimension"),
    ],
)
def test_swapped_files(tmp_path: Path, published, one: str, other: str, words: str, refused) -> None:
    published.write(tmp_path)
    (tmp_path / f"{one}.gz").write_bytes(published.gz[other])
    (tmp_path / f"{other}.gz").write_bytes(published.gz[one])
    with refused(words):
        read_fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "first"),
    [(TRAIN_LABELS, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]), (TEST_LABELS, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])],
)
def test_digits_are_named_by_their_first_labels(tmp_path: Path, published, name, first, refused) -> None:
    published.write(tmp_path)
    labels = published.arrays[name].copy()
    labels[:10] = first
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(published.idx_bytes(labels)))
    with refused("this is the digit MNIST, not Fashion-MNIST", name):
        read_fashion_mnist(tmp_path)


def test_digit_images_are_named_by_checksum(tmp_path: Path, published, monkeypatch, refused) -> None:
    published.write(tmp_path)
    content = published.idx_bytes(255 - published.arrays[TEST_IMAGES])
    (tmp_path / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(fashion_mnist, "_DIGIT_MD5", {hashlib.md5(content).hexdigest()})
    with refused("this is the digit MNIST, not Fashion-MNIST"):
        read_fashion_mnist(tmp_path)


def test_label_out_of_range(tmp_path: Path, published, refused) -> None:
    published.write(tmp_path, "raw")
    labels = published.arrays[TEST_LABELS].copy()
    labels[7] = 10
    (tmp_path / TEST_LABELS).write_bytes(published.idx_bytes(labels))
    with refused("label 10 at position 7", "expected 0 to 9"):
        read_fashion_mnist(tmp_path)


def test_real_data() -> None:
    folder = os.environ.get("NIN_MULTI_DATA")
    if not folder:
        pytest.skip("NIN_MULTI_DATA is not set")
    dataset = read_fashion_mnist(Path(folder))
    assert (dataset.train.images.shape, dataset.test.images.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert round(float(dataset.train.images.mean()) / 255, 4) == 0.2860  # as the literature's normalisation
