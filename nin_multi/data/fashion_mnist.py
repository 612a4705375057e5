"""The four Fashion-MNIST files: names, checksums, reading, verifying; not about finding or fetching them.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", arXiv:1708.07747; https://github.com/zalandoresearch/fashion-mnist
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nin_multi.data.dataset import Dataset, Split
from nin_multi.data.idx import content_digest, read_idx
from nin_multi.errors import DataError

__all__ = ["CLASSES", "FILES", "DataFile", "has_fashion_mnist", "read_fashion_mnist"]

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class DataFile:
    """One published file: its shape, and the SHA-256 of its content and of the gzip file it is published as.

    The content decides when files are read, so a raw copy or one compressed anew is as good as the original.
    """

    name: str
    shape: tuple[int, ...]
    content_sha256: str
    gz_sha256: str
    gz_bytes: int

    @property
    def gz_name(self) -> str:
        """The name under which the authors publish the file."""
        return self.name + ".gz"


FILES = (
    DataFile(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        26421880,
    ),
    DataFile(
        "train-labels-idx1-ubyte",
        (60000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        29515,
    ),
    DataFile(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        4422102,
    ),
    DataFile(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        5148,
    ),
)

# torchvision keeps the files in FashionMNIST/raw below the folder that it is given.
_LAYOUTS = (".", "FashionMNIST/raw", "raw")

# The digit MNIST has the same file names and shapes, so that it is the likeliest wrong set to be met.
_DIGIT_MD5 = {
    "6bbc9ace898e44ae57da46a324031adb",  # train images
    "a25bea736e30d166cdddb491f175f624",  # train labels
    "2646ac647ad5339dbf082846283269ea",  # t10k images
    "27ae3e4e09519cfbb04c329615203637",  # t10k labels
}
# An edited copy has other checksums, but still begins with these labels.
_DIGIT_LABELS = {bytes([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]), bytes([7, 2, 1, 0, 4, 1, 4, 9, 5, 9])}


def has_fashion_mnist(folder: Path) -> bool:
    """Whether any of the four files lies in `folder`, complete and right or not."""
    return any(_candidates(folder, file) for file in FILES)


def read_fashion_mnist(folder: Path) -> Dataset:
    """Read and verify the four files in `folder` (or in FashionMNIST/raw in it), each raw or gzipped.

    Returns 60,000 training and 10,000 test examples of shape (28, 28). Where a file is there raw and gzipped,
    the one that verifies is used. Raises DataError where one is missing or is not the published one.
    """
    # Labels first: they are small, and they tell the digit MNIST from an altered Fashion-MNIST.
    arrays = {file.name: _read_verified(folder, file) for file in sorted(FILES, key=lambda file: len(file.shape))}
    train_images, train_labels, test_images, test_labels = (arrays[file.name] for file in FILES)
    return Dataset(
        name="fashion-mnist",
        title="Fashion-MNIST",
        classes=CLASSES,
        train=Split(train_images, train_labels),
        test=Split(test_images, test_labels),
        source=str(folder),
        synthetic=False,
    )


def _candidates(folder: Path, file: DataFile) -> list[Path]:
    """Raw before gzipped, because it need not be decompressed."""
    paths = (folder / layout / name for layout in _LAYOUTS for name in (file.name, file.gz_name))
    return [path for path in paths if path.exists()]


def _read_verified(folder: Path, file: DataFile) -> NDArray[np.uint8]:
    """The first copy of `file` that verifies, otherwise the first copy's error."""
    first_error: DataError | None = None
    for path in _candidates(folder, file):
        try:
            array = read_idx(path, file.shape)
            _verify(path, file, array)
            return array
        except DataError as error:
            first_error = first_error or error
    raise first_error or DataError(
        f"{folder} has no {file.name} and no {file.gz_name}.\n"
        f"Fashion-MNIST consists of {', '.join(file.name for file in FILES)}, each raw or with .gz."
    )


def _verify(path: Path, file: DataFile, array: NDArray[np.uint8]) -> None:
    """DataError, as telling as can be, where the content is not the published one."""
    digest = content_digest(array)
    if digest == file.content_sha256:
        return
    if array[:10].tobytes() in _DIGIT_LABELS or content_digest(array, "md5") in _DIGIT_MD5:
        raise DataError(
            f"{path}: this is the digit MNIST, not Fashion-MNIST (both use the same file names).\n"
            "Put the four Fashion-MNIST files in a folder of their own and name that one."
        )
    if array.ndim == 1 and int(array.max()) >= len(CLASSES):
        place = int(np.argmax(array >= len(CLASSES)))
        raise DataError(
            f"{path}: label {int(array[place])} at position {place} is out of range: expected 0 to {len(CLASSES) - 1}."
        )
    raise DataError(
        f"{path} is not the published file: expected SHA-256 {file.content_sha256[:12]}... of its content, "
        f"got {digest[:12]}...\nIt was altered or damaged: copy or download it again."
    )
