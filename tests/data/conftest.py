"""A tiny "published" Fashion-MNIST with pins of its own, and a server that does as planned: no test needs a network."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nin_multi.data import download, fashion_mnist, transfer
from nin_multi.data.fashion_mnist import DataFile
from nin_multi.data.idx import idx_header
from nin_multi.errors import DataError

Refused = Callable[..., AbstractContextManager[None]]


@contextmanager
def _refused(*fragments: str) -> Iterator[None]:
    with pytest.raises(DataError) as caught:
        yield
    text = str(caught.value)
    assert 1 <= len(text.splitlines()) <= 2, text
    for fragment in fragments:
        assert fragment in text


@pytest.fixture
def refused() -> Refused:
    """A context that demands a DataError of at most two lines with all these fragments."""
    return _refused


class Published:
    """Four small files by name: arrays, raw contents, gzip contents, and their pins."""

    def __init__(self) -> None:
        random = np.random.RandomState(0)
        self.arrays: dict[str, np.ndarray] = {}
        for name, count in (("train", 40), ("t10k", 20)):
            images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
            self.arrays[f"{name}-images-idx3-ubyte"] = images
            self.arrays[f"{name}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
        self.raw = {name: self.idx_bytes(array) for name, array in self.arrays.items()}
        self.gz = {name: gzip.compress(content, mtime=0) for name, content in self.raw.items()}
        self.files = tuple(
            DataFile(
                name,
                array.shape,
                hashlib.sha256(self.raw[name]).hexdigest(),
                hashlib.sha256(self.gz[name]).hexdigest(),
                len(self.gz[name]),
            )
            for name, array in self.arrays.items()
        )

    @staticmethod
    def idx_bytes(array: np.ndarray) -> bytes:
        return idx_header(array.shape) + array.tobytes()

    def write(self, folder: Path, form: str = "gz") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.arrays:
            if form == "gz":
                (folder / f"{name}.gz").write_bytes(self.gz[name])
            else:
                (folder / name).write_bytes(self.raw[name])
        return folder


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    made = Published()
    monkeypatch.setattr(fashion_mnist, "FILES", made.files)
    monkeypatch.setattr(download, "FILES", made.files)
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no environment, and no address that answers."""
    folder = tmp_path / "cache" / "nin-multi" / "fashion-mnist"
    monkeypatch.setattr(download.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(download, "ADDRESSES", ("http://127.0.0.1:9/", "http://127.0.0.1:9/again/"))
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    monkeypatch.delenv("NIN_MULTI_DATA", raising=False)
    return folder


@dataclass
class Plan:
    """What becomes of one GET: the file, or another answer; cut after `stop` bytes, or held there until released."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    stop: int | None = None
    hold: threading.Event | None = None
    endless: bool = False


@dataclass
class Seen:
    """One GET as the server met it: the path's last part, the Range header, how much of a body was sent."""

    name: str
    wanted: str | None
    sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.send_error(self.server.owner.connect_status)

    def do_GET(self) -> None:
        owner, name = self.server.owner, self.path.rpartition("/")[2]
        seen = Seen(name, self.headers.get("Range"))
        owner.seen.append(seen)
        owner.hosts.append(self.headers["Host"])
        plans = owner.plans.get(name)
        plan = plans.pop(0) if plans else Plan()
        status, headers, body = self.answer(plan, name)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.send(plan, body, seen)

    def answer(self, plan: Plan, name: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body: those planned, otherwise those of an honest server."""
        if plan.status is not None:
            return plan.status, plan.headers, plan.body or b""
        content = self.server.owner.files.get(name)
        if content is None:
            return 404, {}, b"no such thing"
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not wanted or not self.server.owner.ranges:
            return 200, {"Content-Length": str(len(content))} | plan.headers, content
        begin = int(wanted[1])
        headers = {
            "Content-Length": str(len(content) - begin),
            "Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}",
        }
        return 206, headers | plan.headers, content[begin:] if plan.body is None else plan.body

    def send(self, plan: Plan, body: bytes, seen: Seen) -> None:
        first = body[: plan.stop]
        seen.sent = len(first)
        self.wfile.write(first)
        if plan.hold:
            self.wfile.flush()
            plan.hold.wait(60)
            seen.sent = len(body)
            self.wfile.write(body[len(first) :])
        while plan.endless and seen.sent < 1 << 28:
            self.wfile.write(bytes(1 << 16))
            seen.sent += 1 << 16

    def log_message(self, *_: object) -> None:
        pass


class _Http(ThreadingHTTPServer):
    owner: Server

    def handle_error(self, *_: object) -> None:
        """A client that has left is what is tested here."""


class Server:
    """A real server on the loopback interface, for `files` (name to content); a plan counts for one GET."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.connect_status = 405
        self.plans: dict[str, list[Plan]] = {}
        self.seen: list[Seen] = []
        self.hosts: list[str] = []
        self.http = _Http(("127.0.0.1", 0), _Handler)
        self.http.owner = self
        self.port = self.http.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}/data/"

    def plan(self, name: str, times: int = 1, **what: object) -> Plan:
        """Do this at the next GET (or `times` GETs) of `name` that nothing is planned for yet."""
        plan = Plan(**what)  # type: ignore[arg-type]
        self.plans.setdefault(name, []).extend([plan] * times)
        return plan

    @property
    def fetched(self) -> list[str]:
        return [seen.name for seen in self.seen]

    @property
    def ranges_wanted(self) -> list[str | None]:
        return [seen.wanted for seen in self.seen]


@pytest.fixture
def serve() -> Iterator[Callable[[], Server]]:
    """Make servers that run until the test ends."""
    running: list[tuple[Server, threading.Thread]] = []

    def start() -> Server:
        server = Server()
        thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


@pytest.fixture
def server(serve: Callable[[], Server], published: Published, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The only address of the tiny published files."""
    made = serve()
    made.files = {f"{name}.gz": content for name, content in published.gz.items()}
    monkeypatch.setattr(download, "ADDRESSES", (made.address,))
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0)
    return made
