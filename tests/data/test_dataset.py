"""Splits and data sets as values: identity and first examples."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from nin_multi.data import Dataset, Split


@pytest.fixture
def dataset() -> Dataset:
    train = Split(np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3), np.arange(5, dtype=np.uint8))
    test = Split(np.ones((3, 2, 3), np.uint8), np.zeros(3, np.uint8))
    return Dataset("name", "Title", ("a", "b"), train, test, "here", False)


def test_identity_is_the_content(dataset: Dataset) -> None:
    identity = dataset.identity()
    assert set(identity) == {"train_images", "train_labels", "test_images", "test_labels"}
    assert identity["train_images"] == hashlib.sha256(bytes(range(30))).hexdigest()
    assert identity["train_labels"] == hashlib.sha256(bytes(range(5))).hexdigest()
    assert dataset.head(4).identity()["train_images"] == hashlib.sha256(bytes(range(24))).hexdigest()


def test_identity_of_a_view(dataset: Dataset) -> None:
    view = Split(dataset.train.images[:, :, ::-1], dataset.train.labels)
    expected = hashlib.sha256(np.ascontiguousarray(view.images).tobytes()).hexdigest()
    assert Dataset("n", "t", (), view, view, "", False).identity()["train_images"] == expected


def test_head(dataset: Dataset) -> None:
    first = dataset.head(2, None)
    assert (len(first.train), len(first.test)) == (2, 3)
    np.testing.assert_array_equal(first.train.images, dataset.train.images[:2])
    assert (len(dataset.head().train), len(dataset.head(5, 1).test)) == (5, 1)


@pytest.mark.parametrize(
    ("counts", "words"),
    [((0, 1), "training"), ((6, 1), "got 6"), ((None, 4), "3 test"), ((None, -1), "got -1")],
)
def test_head_out_of_range(dataset: Dataset, counts, words: str, refused) -> None:
    with refused("Title has", words):
        dataset.head(*counts)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((3, 2, 2), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((3, 4), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((3, 2, 2), np.float32), np.zeros(3, np.uint8)),
        (np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int64)),
    ],
)
def test_arrays_that_are_no_split(images, labels, refused) -> None:
    with refused("uint8 (N, h, w)"):
        Split(images, labels)


def test_importing_is_light() -> None:
    code = "import sys, nin_multi.data; sys.exit('requests' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
