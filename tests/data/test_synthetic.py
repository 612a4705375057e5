"""The synthetic set is the same bytes everywhere and for ever, balanced, and can be learnt."""

from __future__ import annotations

import numpy as np
import pytest

from nin_multi.data import CLASSES, synthetic_dataset

# A change of these is a change of the data set: results from before and after do not compare.
IDENTITY = {
    "train_images": "6c3f0fe0f98a8003af960ef1377f690e67b517f7d90b18b10295703ebe01bac8",
    "train_labels": "08ed5186fd4f00fde06beab33f53737496569cb4c7156b155203079b7a120987",
    "test_images": "b1ea3190a8c232ad9a88978176da5236271a66d71d2ed0584bd3f482303873ab",
    "test_labels": "b7abff1d523c3720e8b3bcb181d9668923adb95bb0601c3f22957aa5a6b9b23b",
}


@pytest.fixture(scope="module")
def dataset():
    return synthetic_dataset()


def test_content_is_pinned(dataset) -> None:
    assert dataset.identity() == IDENTITY


def test_shape_and_names(dataset) -> None:
    assert dataset.train.images.shape == (60000, 28, 28)
    assert dataset.test.images.shape == (10000, 28, 28)
    assert dataset.synthetic
    assert "synthetic" in dataset.title
    assert dataset.classes == CLASSES


def test_classes_are_balanced_and_mixed(dataset) -> None:
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert len({tuple(run) for run in dataset.train.labels[:500].reshape(-1, 10).tolist()}) == 50


def test_fewer_are_the_first_of_more(dataset) -> None:
    few = synthetic_dataset(613, 7)
    np.testing.assert_array_equal(few.train.images, dataset.train.images[:613])
    np.testing.assert_array_equal(few.train.labels, dataset.train.labels[:613])
    np.testing.assert_array_equal(few.test.images, dataset.test.images[:7])


def test_no_image_is_empty_or_repeated(dataset) -> None:
    assert dataset.train.images.any(axis=(1, 2)).all()
    images = dataset.test.images.reshape(10000, -1)
    assert len(np.unique(images, axis=0)) == 10000
    known = {image.tobytes() for image in dataset.train.images}
    assert not any(image.tobytes() in known for image in dataset.test.images)


def test_a_linear_model_learns_much_but_not_all(dataset) -> None:
    """Least squares on the pixels gets about four in five, as on the real set; guessing gets one in ten."""

    def features(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1) / 255.0
        return np.hstack([flat, np.ones((len(images), 1))])

    train, test = dataset.head(6000, 2000).train, dataset.head(6000, 2000).test
    x = features(train.images)
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ np.eye(10)[train.labels])
    predicted = (features(test.images) @ weights).argmax(axis=1)
    right = predicted == test.labels
    assert 0.70 < right.mean() < 0.90
    tops = np.isin(test.labels, [CLASSES.index(name) for name in ("Pullover", "Coat", "Shirt")])
    assert right[tops].mean() < 0.8 < right[~tops].mean()


@pytest.mark.parametrize("counts", [(0, 10), (10, 0), (-1, 1)])
def test_refuses_no_examples(counts: tuple[int, int], refused) -> None:
    with refused("at least 1 example"):
        synthetic_dataset(*counts)
