"""What a data set is to the rest of the program: two splits of images and labels; not where it comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nin_multi.errors import DataError

__all__ = ["Dataset", "Split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (N, h, w), 0 black to 255 white, and labels uint8 (N,); DataError if they do not fit."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Refuse arrays that cannot be images with labels."""
        shapes_fit = self.images.ndim == 3 and self.labels.shape == self.images.shape[:1]
        if not shapes_fit or self.images.dtype != np.uint8 or self.labels.dtype != np.uint8:
            raise DataError(
                "a split needs images uint8 (N, h, w) and labels uint8 (N,), got "
                f"{self.images.dtype} {self.images.shape} and {self.labels.dtype} {self.labels.shape}."
            )

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split, the class names by label, and where they came from.

    `name` is the word used on the command line, `title` is for people, `source` is a folder or a description,
    `synthetic` says that the images were drawn and are not real data.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    source: str
    synthetic: bool

    def identity(self) -> dict[str, str]:
        """SHA-256 of each array's bytes, by `train_images`, `train_labels`, `test_images`, `test_labels`."""
        return {
            f"{split_name}_{array_name}": hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
            for split_name, split in (("train", self.train), ("test", self.test))
            for array_name, array in (("images", split.images), ("labels", split.labels))
        }

    def head(self, train_examples: int | None = None, test_examples: int | None = None) -> Dataset:
        """The first examples of each split (None: all); DataError for fewer than 1 or more than there are."""
        return replace(
            self,
            train=_first(self.train, train_examples, "training", self.title),
            test=_first(self.test, test_examples, "test", self.title),
        )


def _first(split: Split, count: int | None, what: str, title: str) -> Split:
    if count is None or count == len(split):
        return split
    if not 1 <= count <= len(split):
        raise DataError(f"{title} has {len(split):,} {what} examples: expected a number from 1 to that, got {count:,}.")
    return Split(split.images[:count], split.labels[:count])
