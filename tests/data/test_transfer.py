"""One file from one real server: gone on with where it can be, refused where it is wrong, never half there."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from pathlib import Path

import pytest

from nin_multi.data import transfer
from nin_multi.data.fashion_mnist import DataFile
from nin_multi.data.transfer import TransferFailed, fetch

SIZE = 50_000
CONTENT = random.Random(0).randbytes(SIZE)
WRONG = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
NAME = "train-images.gz"
PART = "train-images.gz.part"
FILE = DataFile("train-images", (1,), "", hashlib.sha256(CONTENT).hexdigest(), SIZE)


def span(begin: int, end: int = SIZE - 1, size: int = SIZE) -> dict[str, str]:
    return {"Content-Range": f"bytes {begin}-{end}/{size}", "Content-Length": str(end - begin + 1)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cache) -> None:
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0)


@pytest.fixture
def server(serve):
    made = serve()
    made.files[NAME] = CONTENT
    return made


@pytest.fixture
def get(server, tmp_path: Path):
    """Fetch, and demand that the file is there alone; what was shown."""

    def call() -> list[int]:
        shown: list[int] = []
        fetch(server.address + NAME, FILE, tmp_path, shown.append)
        assert contents(tmp_path) == {NAME: CONTENT}
        assert shown == sorted(shown) or 0 in shown[1:]
        assert max(shown, default=0) <= SIZE
        return shown

    return call


@pytest.fixture
def fails(server, tmp_path: Path):
    """Fetch, and demand a failure with these words and nothing under the file's own name."""

    def call(*fragments: str) -> None:
        with pytest.raises(TransferFailed) as caught:
            fetch(server.address + NAME, FILE, tmp_path, lambda done: None)
        text = str(caught.value)
        assert len(text.splitlines()) == 1
        for fragment in fragments:
            assert fragment in text
        assert NAME not in contents(tmp_path)

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_whole(server, get) -> None:
    shown = get()
    assert shown[0] == 0
    assert shown[-1] == SIZE
    assert server.ranges_wanted == [None]


def test_on_disk_before_it_has_its_name(get, tmp_path: Path, monkeypatch) -> None:
    named: list[bool] = []
    fsync = transfer.os.fsync
    monkeypatch.setattr(transfer.os, "fsync", lambda file: (named.append((tmp_path / NAME).exists()), fsync(file)))
    get()
    assert named == [False, True]  # the file, then the folder


class TestBreaks:
    def test_goes_on_in_the_same_attempt(self, server, get) -> None:
        server.plan(NAME, stop=20_000)
        get()
        assert server.ranges_wanted == [None, "bytes=20000-"]
        assert [seen.sent for seen in server.seen] == [20_000, SIZE - 20_000]

    def test_goes_on_in_the_next_attempt(self, server, get, fails, tmp_path: Path) -> None:
        server.plan(NAME, times=transfer.TRIES, stop=10_000)
        fails(f"{NAME} broke off after 30,000 of 50,000 bytes, which are kept")
        assert contents(tmp_path) == {PART: CONTENT[:30_000]}
        assert len(server.seen) == transfer.TRIES
        assert get()[0] == 30_000
        assert server.ranges_wanted[-1] == "bytes=30000-"
        assert server.seen[-1].sent == 20_000

    def test_stalls(self, server, get, monkeypatch) -> None:
        monkeypatch.setattr(transfer, "STALL_SECONDS", 0.2)
        monkeypatch.setattr(transfer, "CHUNK", 1000)
        hold = threading.Event()
        server.plan(NAME, stop=20_000, hold=hold)
        get()
        hold.set()
        assert server.ranges_wanted == [None, "bytes=20000-"]

    def test_all_there_and_no_end(self, server, get, monkeypatch) -> None:
        monkeypatch.setattr(transfer, "STALL_SECONDS", 0.2)
        monkeypatch.setattr(transfer, "CHUNK", 1000)
        hold = threading.Event()
        server.plan(NAME, status=200, body=CONTENT, hold=hold)
        get()
        hold.set()
        assert len(server.seen) == 1

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_interrupted(self, kind: type[BaseException], server, get, tmp_path: Path, monkeypatch) -> None:
        def show(done: int) -> None:
            if done >= 7000:
                raise kind

        monkeypatch.setattr(transfer, "CHUNK", 1000)
        with pytest.raises(kind):
            fetch(server.address + NAME, FILE, tmp_path, show)
        assert contents(tmp_path) == {PART: CONTENT[:7000]}
        get()
        assert server.ranges_wanted == [None, "bytes=7000-"]

    def test_left_complete(self, server, get, tmp_path: Path) -> None:
        (tmp_path / PART).write_bytes(CONTENT)
        get()
        assert server.seen == []

    @pytest.mark.parametrize("left", [CONTENT[1:9000], WRONG, CONTENT + b"x", b""])
    def test_left_wrong(self, left: bytes, server, get, tmp_path: Path) -> None:
        (tmp_path / PART).write_bytes(left)
        get()
        assert server.ranges_wanted[-1] is None
        assert len(server.seen) == (2 if 0 < len(left) < SIZE else 1)


class TestRanges:
    @pytest.fixture(autouse=True)
    def left(self, tmp_path: Path) -> None:
        (tmp_path / PART).write_bytes(CONTENT[:20_000])

    def test_server_that_has_none(self, server, get) -> None:
        server.ranges = False
        get()
        assert server.ranges_wanted == ["bytes=20000-"]
        assert server.seen[0].sent == SIZE

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (206, span(10_000)),
            (206, span(20_000, 29_999)),
            (206, span(20_000, SIZE, SIZE + 1)),
            (206, {}),
            (416, {"Content-Range": "bytes */10000"}),
        ],
    )
    def test_another_range_than_asked_for(self, status: int, headers: dict[str, str], server, get) -> None:
        server.plan(NAME, status=status, headers=headers, body=CONTENT[20_000:])
        get()
        assert server.ranges_wanted == ["bytes=20000-", None]

    def test_other_bytes_than_named(self, server, get) -> None:
        server.plan(NAME, body=CONTENT[:30_000])
        get()
        assert server.ranges_wanted == ["bytes=20000-", None]

    def test_fetched_whole_only_once_more(self, server, fails, tmp_path: Path) -> None:
        server.files[NAME] = WRONG
        fails("not the published file", "SHA-256")
        assert contents(tmp_path) == {}
        assert server.ranges_wanted == ["bytes=20000-", None]

    @pytest.mark.parametrize("status", [403, 404, 500, 503])
    def test_refused(self, status: int, server, fails, tmp_path: Path) -> None:
        server.plan(NAME, status=status)
        fails(f"HTTP status {status}")
        assert contents(tmp_path) == {PART: CONTENT[:20_000]}

    def test_web_page(self, server, get, fails, tmp_path: Path) -> None:
        server.plan(NAME, status=200, headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<html>Log in")
        fails("a web page", "login")
        assert contents(tmp_path) == {PART: CONTENT[:20_000]}
        get()
        assert server.ranges_wanted[-1] == "bytes=20000-"


class TestWrong:
    def test_altered(self, server, fails, tmp_path: Path) -> None:
        server.files[NAME] = WRONG
        fails("not the published file", "SHA-256")
        assert contents(tmp_path) == {}
        assert len(server.seen) == 1

    @pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1], b""])
    def test_announced_size(self, content: bytes, server, fails, tmp_path: Path) -> None:
        server.files[NAME] = content
        fails("not the published file", "size")
        assert contents(tmp_path) == {}

    def test_longer_than_announced(self, server, get) -> None:
        server.plan(NAME, status=200, headers={"Content-Length": str(SIZE)}, body=CONTENT + b"x" * 1000)
        get()

    @pytest.mark.parametrize("chunk", [999, 1 << 16])
    def test_endless(self, chunk: int, server, fails, tmp_path: Path, monkeypatch) -> None:
        written = []
        monkeypatch.setattr(transfer, "CHUNK", chunk)
        monkeypatch.setattr(Path, "unlink", lambda path, unlink=Path.unlink: (written.append(size(path)), unlink(path)))
        server.plan(NAME, status=200, body=CONTENT, endless=True)
        fails("longer than the published file")
        assert contents(tmp_path) == {}
        assert written == [SIZE]
        time.sleep(0.05)
        assert server.seen[0].sent < 1 << 26

    def test_longer_by_a_byte(self, server, fails, tmp_path: Path) -> None:
        server.plan(NAME, status=200, body=CONTENT + b"x")
        fails("longer than the published file")
        assert contents(tmp_path) == {}

    @pytest.mark.parametrize("status", [204, 206, 404, 500])
    def test_status(self, status: int, server, fails, tmp_path: Path) -> None:
        server.plan(NAME, status=status, body=CONTENT)
        fails(f"HTTP status {status}")
        assert contents(tmp_path) == {}

    def test_a_server_that_calls_gzip_an_encoding(self, server, get) -> None:
        server.plan(NAME, headers={"Content-Encoding": "gzip"})
        get()


def size(path: Path) -> int:
    return path.stat().st_size


class TestRedirected:
    def test_to_another_host(self, server, get, serve, tmp_path: Path) -> None:
        other = serve()
        other.files[NAME] = CONTENT
        (tmp_path / PART).write_bytes(CONTENT[:20_000])
        server.plan(NAME, status=302, headers={"Location": f"http://localhost:{other.port}/{NAME}"})
        get()
        assert other.ranges_wanted == ["bytes=20000-"]
        assert other.hosts == [f"localhost:{other.port}"]

    def test_in_a_circle(self, server, fails) -> None:
        server.plan(NAME, times=1000, status=302, headers={"Location": server.address + NAME})
        fails("redirected too often")
        assert len(server.seen) < 50

    @pytest.mark.parametrize(
        "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[bad/", "http://127.0.0.1:9/"]
    )
    def test_to_where_nothing_is(self, target: str, server, fails, tmp_path: Path) -> None:
        server.plan(NAME, status=302, headers={"Location": target})
        fails("")
        assert contents(tmp_path) == {}
