"""Fetch the four published files into the user's cache: from where, by whom; not about reading them, nor when."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import platformdirs

from nin_multi.data.fashion_mnist import FILES, DataFile
from nin_multi.data.transfer import TransferFailed, fetch, is_published, require_answer
from nin_multi.errors import DataError

__all__ = ["ADDRESSES", "cache_folder", "download_fashion_mnist"]

# As the authors publish them, and their repository.
ADDRESSES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
ANSWER_SECONDS = 7.0  # for each address, so that both together stay below 15


def cache_folder() -> Path:
    """Where downloads are kept: `nin-multi/fashion-mnist` in the user's cache folder."""
    return Path(platformdirs.user_cache_path("nin-multi")) / "fashion-mnist"


def download_fashion_mnist(folder: Path | None = None) -> Path:
    """Fetch the published .gz files that `folder` (default: the user's cache) lacks, and return the folder.

    Each is written under a temporary name, verified by SHA-256 and only then renamed; files that are there
    and verify are kept, and what an attempt that broke off has left is gone on with. The second address is tried
    where the first fails. Of several processes one fetches, the others say on stderr that they wait. Raises
    DataError, in one line, where no address yields all files or the folder cannot be written; at most about
    14 seconds pass where no address answers.
    """
    folder = cache_folder() if folder is None else folder
    failures = []
    try:
        for address in ADDRESSES:
            try:
                _fetch_all(address, folder)
                return folder
            except TransferFailed as failure:
                failures.append(f"{urlsplit(address).netloc}: {failure}")
    except OSError as error:  # the folder's; the network's are TransferFailed
        raise DataError(
            f"Fashion-MNIST could not be downloaded: {folder} cannot be written ({error.strerror or error})."
        ) from None
    raise DataError(f"Fashion-MNIST could not be downloaded ({'; '.join(failures)}).")


def _fetch_all(address: str, folder: Path) -> None:
    if not (lacking := _lacking(folder)):
        return
    # Before the lock: without network, several processes find that out at the same time and not in turn.
    require_answer(address + lacking[0].gz_name, ANSWER_SECONDS)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        for file in _lacking(folder):
            with _progress(file) as show:
                fetch(address + file.gz_name, file, folder, show)


def _lacking(folder: Path) -> list[DataFile]:
    return [file for file in FILES if not is_published(folder / file.gz_name, file)]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system takes back however a process ends."""
    from filelock import FileLock, Timeout  # here, because most runs download nothing

    lock = FileLock(folder / ".download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is fetching Fashion-MNIST into {folder}: waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _progress(file: DataFile) -> Iterator[Callable[[int], None]]:
    """What to call with the number of bytes there are; on a terminal it draws a line."""
    bar = _Bar(file.gz_name, file.gz_bytes, sys.stderr)
    try:
        yield bar.show if sys.stderr.isatty() else lambda done: None
    finally:
        bar.close()


class _Bar:
    """A progress line for one file."""

    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self.label, self.total, self.stream = label, total, stream
        self.shown = -1

    def show(self, done: int) -> None:
        percent = 100 * done // self.total
        if percent != self.shown:
            self.shown = percent
            self.stream.write(
                f"\r{self.label} [{'#' * (percent // 4):<25}] {percent:3d} % of {self.total / 1e6:.1f} MB"
            )
            self.stream.flush()

    def close(self) -> None:
        if self.shown >= 0:
            self.stream.write("\n")
            self.stream.flush()
