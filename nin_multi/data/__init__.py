"""Pixels and labels: Fashion-MNIST, a built-in synthetic set, exact resize; not about batches or training."""

from __future__ import annotations

from nin_multi.data.dataset import Dataset, Split
from nin_multi.data.fashion_mnist import CLASSES, read_fashion_mnist
from nin_multi.data.resize import resize, to_float
from nin_multi.data.sources import DATASET_NAMES, load_dataset
from nin_multi.data.synthetic import synthetic_dataset

__all__ = [
    "CLASSES",
    "DATASET_NAMES",
    "Dataset",
    "Split",
    "load_dataset",
    "read_fashion_mnist",
    "resize",
    "synthetic_dataset",
    "to_float",
]
