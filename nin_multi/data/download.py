"""Fetch the four published files into the user's cache; not about reading them, nor about when to fetch.

An address is asked first whether it answers at all, in a thread with a time limit: the resolver and the list
of a host's addresses have no common limit, and a machine without network must fall back in seconds.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import platformdirs

from nin_multi.data.fashion_mnist import FILES, DataFile
from nin_multi.errors import DataError

__all__ = ["ADDRESSES", "cache_folder", "download_fashion_mnist"]

# As the authors publish them, and their repository.
ADDRESSES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
ANSWER_SECONDS = 7.0  # for each address, so that both together stay below 15
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0  # without a single byte, once the transfer runs


def cache_folder() -> Path:
    """Where downloads are kept: `nin-multi/fashion-mnist` in the user's cache folder."""
    return Path(platformdirs.user_cache_path("nin-multi")) / "fashion-mnist"


def download_fashion_mnist(folder: Path | None = None) -> Path:
    """Fetch the published .gz files that `folder` (default: the user's cache) lacks, and return the folder.

    Each is written under a temporary name, verified by SHA-256 and only then renamed; files that are there
    and verify are kept. The second address is tried where the first fails. Raises DataError, in one line,
    where no address yields all files; at most about 14 seconds pass where none answers.
    """
    folder = cache_folder() if folder is None else folder
    failures = []
    for address in ADDRESSES:
        try:
            _fetch_all(address, folder)
            return folder
        except (OSError, ValueError) as error:  # all of requests' are OSErrors; ValueError: pooch's checksum
            failures.append(f"{urlsplit(address).netloc}: {_reason(error)}")
    raise DataError(f"Fashion-MNIST could not be downloaded ({'; '.join(failures)}).")


def _fetch_all(address: str, folder: Path) -> None:
    import pooch  # here, because it is slow to import and most runs download nothing

    lacking = [file for file in FILES if not _is_verified(folder / file.gz_name, file)]
    if lacking:
        _require_answer(address + lacking[0].gz_name)
        folder.mkdir(parents=True, exist_ok=True)
    logger: logging.Logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would announce every file on stderr, beside the progress bar
    try:
        for file in lacking:
            _fetch(address, file, folder)
    finally:
        logger.setLevel(level)


def _is_verified(path: Path, file: DataFile) -> bool:
    import pooch

    return path.is_file() and pooch.file_hash(str(path)) == file.gz_sha256


def _fetch(address: str, file: DataFile, folder: Path) -> None:
    import pooch

    bar = _Bar(file.gz_name, file.gz_bytes, sys.stderr) if sys.stderr.isatty() else None
    downloader = pooch.HTTPDownloader(
        progressbar=bar or False,
        chunk_size=1 << 16,
        timeout=(CONNECT_SECONDS, STALL_SECONDS),
        headers={"Accept-Encoding": "identity"},  # or a server may wrap the .gz in another gzip
    )
    pooch.retrieve(
        address + file.gz_name,
        known_hash=f"sha256:{file.gz_sha256}",
        fname=file.gz_name,
        path=folder,
        downloader=downloader,
    )


def _require_answer(url: str) -> None:
    """Raise OSError unless the server answers anything at all within ANSWER_SECONDS."""
    import pooch

    errors: list[Exception] = []

    def ask() -> None:
        try:
            pooch.HTTPDownloader(timeout=ANSWER_SECONDS)(url, None, None, check_only=True)
        except Exception as error:  # handed to the caller's thread
            errors.append(error)

    _within(ask, ANSWER_SECONDS)
    if errors:
        raise errors[0] if isinstance(errors[0], OSError) else OSError(str(errors[0]))


def _within(action: Callable[[], None], seconds: float) -> None:
    """Run `action` in a daemon thread (which may hang in the resolver without holding up the exit)."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")


def _reason(error: Exception) -> str:
    """A failure in a few words: the text of requests' own errors is a nest of objects.

    They are told apart by name, because requests belongs to pooch and is not imported here.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP status {status}"
    kinds = [kind.__name__ for kind in type(error).__mro__]
    for kind, words in _REASONS:
        if kind in kinds:
            return words
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    return (str(error).splitlines() or [type(error).__name__])[0]


# In this order: a ConnectTimeout is both a Timeout and a ConnectionError; a ValueError is pooch's checksum.
_REASONS = (
    ("Timeout", "no answer in time"),
    ("ChunkedEncodingError", "the transfer broke off"),
    ("ConnectionError", "no connection"),
    ("ValueError", "what came is not the published file, its SHA-256 differs"),
)


class _Bar:
    """A progress line for one file, with the methods pooch calls."""

    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self.label, self.total, self.stream = label, total, stream
        self.done = 0
        self.shown = -1

    def reset(self) -> None:
        self.done = 0

    def update(self, size: int) -> None:
        self.done += size
        percent = min(100, 100 * self.done // self.total) if self.total else 0
        if percent != self.shown:
            self.shown = percent
            self.stream.write(
                f"\r{self.label} [{'#' * (percent // 4):<25}] {percent:3d} % of {self.total / 1e6:.1f} MB"
            )
            self.stream.flush()

    def close(self) -> None:
        self.stream.write("\n")
        self.stream.flush()
