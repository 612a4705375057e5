"""One published file from one address, by HTTP: resumed, bounded, verified, put in place; not about which address.

What has come lies in `NAME.gz.part` beside its target, however the process ended, and the next attempt asks for
the rest. No If-Range goes with that: whether the pieces belong together is what the SHA-256 of the whole says.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.client import responses
from pathlib import Path
from typing import Any

from nin_multi import heartbeat
from nin_multi.data.fashion_mnist import DataFile
from nin_multi.files import flush_folder

__all__ = ["TransferFailed", "fetch", "is_published", "require_answer"]

TRIES = 3  # of a transfer that breaks off
PAUSE_SECONDS = 1.0  # before the next of them
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0  # without a single byte, once the transfer runs
CHUNK = 1 << 16


class TransferFailed(Exception):
    """An address that does not yield the file; the text says why, in a few words."""


class _BrokeOff(TransferFailed):
    """A body that ended before the file did."""


def require_answer(url: str, seconds: float) -> None:
    """Raise TransferFailed unless the server answers anything at all in time.

    It is asked in a daemon thread: the resolver and the list of a host's addresses have no common limit, and may
    hang there without holding up the exit.
    """
    import requests  # here, because it is slow to import and most runs download nothing

    failures: list[Exception] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=seconds, allow_redirects=True).close()
        except Exception as error:  # handed to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TransferFailed(f"no answer within {seconds:g} s{_through(url)}")
    if failures:
        raise TransferFailed(_words(failures[0], url))


def is_published(path: Path, file: DataFile) -> bool:
    """Whether the gzip file as published lies at `path`."""
    if not path.is_file() or path.stat().st_size != file.gz_bytes:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == file.gz_sha256


def fetch(url: str, file: DataFile, folder: Path, show: Callable[[int], None]) -> None:
    """Bring `file` into `folder`, going on with what an earlier attempt has left there.

    `show` is called with the number of bytes there are. Raises TransferFailed for what the address or the network
    does wrong, and OSError for what the folder does; then nothing lies under the file's own name.
    """
    part = folder / f"{file.gz_name}.part"
    try:
        for _ in range(2):
            in_pieces = _complete(url, part, file, show)
            if is_published(part, file):
                _put_in_place(part, folder / file.gz_name)
                return
            part.unlink()
            if not in_pieces:
                break
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # whatever comes next needs the room
            part.unlink(missing_ok=True)
        raise
    raise TransferFailed(f"what came as {file.gz_name} is not the published file, its SHA-256 differs")


def _complete(url: str, part: Path, file: DataFile, show: Callable[[int], None]) -> bool:
    """Fill `part` up to the published size; whether its bytes come from more than one answer."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(_BrokeOff):
            return _receive(url, part, file, show) > 0
        time.sleep(PAUSE_SECONDS)
    return _receive(url, part, file, show) > 0


def _receive(url: str, part: Path, file: DataFile, show: Callable[[int], None]) -> int:
    """Let one answer fill `part` up; the byte at which that answer began."""
    size = file.gz_bytes
    there = part.stat().st_size if part.exists() else 0
    if there == size:
        return there
    response, begin = _ask(url, there if there < size else 0, file)
    done = begin
    with response, part.open("ab" if begin else "wb") as stream:
        show(done)
        for chunk in _chunks(response):
            heartbeat.beat(heartbeat.STARTING)
            stream.write(chunk[: size - done])
            stream.flush()  # so that it is there, whatever ends this process
            if len(chunk) > size - done:
                part.unlink()
                raise TransferFailed(f"what came as {file.gz_name} is longer than the published file")
            done += len(chunk)
            show(done)
    if done < size:
        raise _BrokeOff(f"the transfer of {file.gz_name} broke off after {done:,} of {size:,} bytes, which are kept")
    return begin


def _chunks(response: Any) -> Iterator[bytes]:
    """The body as it is sent, until it ends or breaks off: some servers call the .gz itself an encoding."""
    from urllib3.exceptions import HTTPError

    with contextlib.suppress(HTTPError, OSError):
        yield from response.raw.stream(CHUNK, decode_content=False)


def _ask(url: str, there: int, file: DataFile) -> tuple[Any, int]:
    """The server's answer, and the byte of the file that its body begins at: `there`, or 0 for the whole."""
    import requests

    # Without the first header a server may wrap the .gz in another gzip.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS))
    except Exception as error:  # requests lets some of what lies below it through
        raise TransferFailed(_words(error, url)) from None
    rest = f"bytes {there}-{file.gz_bytes - 1}/{file.gz_bytes}"
    if there and response.status_code in (206, 416) and response.headers.get("Content-Range") != rest:
        response.close()
        return _ask(url, 0, file)
    begin = there if response.status_code == 206 else 0
    if problem := _problem(response, begin, file):
        response.close()
        raise TransferFailed(problem + (_through(url) if response.status_code >= 400 else ""))
    return response, begin


def _problem(response: Any, begin: int, file: DataFile) -> str:
    """Why the body of an answer is not worth reading; empty where it is."""
    if response.status_code != (206 if begin else 200):
        return _status(response.status_code)
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        return f"a web page came as {file.gz_name}, not the published file: does this network want a login?"
    length = response.headers.get("Content-Length")
    if length not in (None, str(file.gz_bytes - begin)):
        return f"what is offered as {file.gz_name} is not the published file, its size differs"
    return ""


def _status(code: int) -> str:
    return f"HTTP status {code}" + (f" ({responses[code]})" if code in responses else "")


def _words(error: Exception, url: str) -> str:
    """A failure of requests in a few words: the text of its own errors is a nest of objects."""
    from requests import exceptions as kinds

    if tunnel := re.search(r"Tunnel connection failed: (\d{3})", str(error)):
        return _status(int(tunnel[1])) + _through(url)
    # In this order: a ConnectTimeout is both a Timeout and a ConnectionError.
    for kind, words in (
        (kinds.Timeout, "no answer in time"),
        (kinds.SSLError, "no TLS connection: a certificate, a clock or a proxy is not right"),
        (kinds.ConnectionError, "no connection"),
        (kinds.TooManyRedirects, "redirected too often"),
    ):
        if isinstance(error, kind):
            return words + _through(url)
    if isinstance(error, kinds.InvalidSchema):  # a proxy or a redirection of another protocol
        return str(error).splitlines()[0].rstrip(".") + _through(url)
    # Not the text: it may name a proxy together with its password.
    return f"an address or a proxy that cannot be read ({type(error).__name__})"


def _through(url: str) -> str:
    """Which proxy of the environment stands between, without the name and password it may be given with."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    return f" through the proxy {proxy.rpartition('//')[2].rpartition('@')[2].rstrip('/')}" if proxy else ""


def _put_in_place(part: Path, target: Path) -> None:
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(target)
    with contextlib.suppress(OSError):  # the file is there; not every file system can flush a folder
        flush_folder(target.parent)
