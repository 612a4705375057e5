"""The architectures that come with the project, one YAML file each; not how such a file is read."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
# The chapter's net first, the authors' nets, then for comparison the book's neighbours, the net of its day, rivals and
# heirs of nin-mnist.
_ORDER = (
    "nin",
    "nin-mnist",
    "nin-cifar10",
    "nin-cifar100",
    "nin-svhn",
    "nin-imagenet",
    "alexnet",
    "vgg11",
    "alexnet-2012",
    "conv-mnist",
    "maxout-mnist",
    "nin-mnist-se",
    "nin-mnist-sk",
)


def names() -> tuple[str, ...]:
    """Every architecture of the zoo, the chapter's own first."""
    return _ORDER


def path(name: str) -> Path:
    """The file of one of `names()`."""
    return _FOLDER / f"{name}.yaml"
