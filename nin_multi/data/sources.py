"""From a data set's name to the data set: where to look, and what may stand in; not about file formats.

`fashion-mnist` never becomes anything else. `auto` is for a first try on any machine: it takes the built-in
synthetic set, and says so, where the real files are nowhere; files that are there and wrong stay an error.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from nin_multi.data.dataset import Dataset
from nin_multi.data.download import cache_folder, download_fashion_mnist
from nin_multi.data.fashion_mnist import has_fashion_mnist, read_fashion_mnist
from nin_multi.data.synthetic import SYNTHETIC_EXAMPLES, synthetic_dataset
from nin_multi.errors import DataError

__all__ = ["DATASET_NAMES", "DATA_VARIABLE", "load_dataset"]

DATASET_NAMES = ("auto", "fashion-mnist", "synthetic")
DATA_VARIABLE = "NIN_MULTI_DATA"

_WAYS_OUT = (
    f"Give the folder of its four files with --data-dir, or in {DATA_VARIABLE}, "
    "or take the built-in data with --dataset synthetic."
)


def load_dataset(
    name: str = "auto",
    data_dir: Path | None = None,
    *,
    train_examples: int | None = None,
    test_examples: int | None = None,
    report: Callable[[str], None],
) -> Dataset:
    """Load a data set by name: `fashion-mnist`, `synthetic`, or `auto` (the first of these to be had).

    Fashion-MNIST is looked for in `data_dir`, else in $NIN_MULTI_DATA, else in the user's cache, else it is
    downloaded there. Of each split the first examples are taken, or all; synthetic ones that are not asked for are
    never drawn. `report` is called with a sentence for people when a download starts and when `auto` goes on without
    what was named. Raises DataError for an unknown name, for fewer than 1 example or more than there are, and as the
    module's first lines say.
    """
    if name not in DATASET_NAMES:
        nearest = difflib.get_close_matches(name.lower(), DATASET_NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        raise DataError(f"unknown dataset '{name}': expected one of {', '.join(DATASET_NAMES)}.{hint}")
    real = None if name == "synthetic" else _fashion_mnist(name == "fashion-mnist", data_dir, report)
    if real is not None:
        return real.head(train_examples, test_examples)
    counts = zip((train_examples, test_examples), SYNTHETIC_EXAMPLES, strict=True)
    drawn = [most if count is None or not 1 <= count <= most else count for count, most in counts]
    return synthetic_dataset(*drawn).head(train_examples, test_examples)


def _fashion_mnist(strict: bool, data_dir: Path | None, report: Callable[[str], None]) -> Dataset | None:
    """The real set; None only where `auto` goes on without it, and that is reported."""
    for folder, origin in _named_folders(data_dir):
        dataset = _from_named(folder, origin, strict, report)
        if dataset is not None:
            return dataset
    try:
        return _from_cache_or_network(report)
    except DataError as error:
        if strict:
            raise DataError(f"{error}\n{_WAYS_OUT}") from None
        report(
            f"{error} Going on with the built-in synthetic images: "
            "accuracies on them do not compare with published ones."
        )
        return None


def _named_folders(data_dir: Path | None) -> list[tuple[Path, str]]:
    """The folders the user named, with the words by which the user knows them."""
    named = [] if data_dir is None else [(data_dir, "--data-dir")]
    variable = os.environ.get(DATA_VARIABLE, "")
    return [*named, (Path(variable), DATA_VARIABLE)] if variable else named


def _from_named(folder: Path, origin: str, strict: bool, report: Callable[[str], None]) -> Dataset | None:
    """The set in a folder the user named; None only where `auto` may look further, and that is reported."""
    folder = folder.expanduser()
    if folder.is_dir() and has_fashion_mnist(folder):
        return read_fashion_mnist(folder)
    if folder.is_dir():
        problem = f"the folder named by {origin}, {folder}, has none of the Fashion-MNIST files"
    elif folder.exists():
        problem = f"{origin} names {folder}, which is not a folder"
    else:
        problem = f"{origin} names the folder {folder}, which does not exist"
    # An option was typed for this very run; a variable may be left over from another day.
    if strict or (origin == "--data-dir" and not folder.is_dir()):
        raise DataError(f"{problem}.\n{_WAYS_OUT}")
    report(f"{problem[0].upper() if origin == '--data-dir' else problem[0]}{problem[1:]}: looking further.")
    return None


def _from_cache_or_network(report: Callable[[str], None]) -> Dataset:
    """The cached set where it is complete and verifies; otherwise the download mends what is lacking."""
    folder = cache_folder()
    if has_fashion_mnist(folder):
        try:
            return read_fashion_mnist(folder)
        except DataError:
            report(f"The cached Fashion-MNIST in {folder} is incomplete or damaged: fetching what it lacks.")
    else:
        report(f"Fetching Fashion-MNIST (31 MB) into {folder}.")
    return read_fashion_mnist(download_fashion_mnist(folder))
