"""Downloads from a small real server on the loopback interface: success, resumption, and each way to fail."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nin_multi.data import download
from nin_multi.data.download import download_fashion_mnist
from nin_multi.data.fashion_mnist import read_fashion_mnist

TEST_IMAGES = "t10k-images-idx3-ubyte.gz"


class Server:
    """Serves `files` (name to content); `short` names are announced in full but cut in the middle."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.short: set[str] = set()
        self.fetched: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                outer.fetched.append(self.path)
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                name = self.path.rpartition("/")[2]
                content = outer.files.get(name)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content[: len(content) // 2] if name in outer.short else content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/data/"


@pytest.fixture
def server(published, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    made.files = {f"{name}.gz": content for name, content in published.gz.items()}
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(download, "ADDRESSES", (made.address,))
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_fetches_four_files_once(server: Server, cache: Path, capsys) -> None:
    assert download_fashion_mnist() == cache
    read_fashion_mnist(cache)
    assert names(cache) == set(server.files)
    assert len(server.fetched) == 4
    download_fashion_mnist()
    assert len(server.fetched) == 4
    assert capsys.readouterr() == ("", "")


def test_fetches_only_what_lacks_or_is_damaged(server: Server, cache: Path, published) -> None:
    published.write(cache)
    (cache / TEST_IMAGES).write_bytes(b"half a file")
    download_fashion_mnist()
    assert server.fetched == [f"/data/{TEST_IMAGES}"]
    read_fashion_mnist(cache)


def test_second_address_goes_on_where_the_first_failed(server: Server, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(download, "ADDRESSES", ("http://127.0.0.1:9/", server.address))
    download_fashion_mnist()
    read_fashion_mnist(cache)


def test_truncated_transfer_leaves_nothing_behind(server: Server, cache: Path, refused) -> None:
    server.short = {TEST_IMAGES}
    with refused("could not be downloaded", "127.0.0.1"):
        download_fashion_mnist()
    assert names(cache) == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}
    server.short = set()
    download_fashion_mnist()
    assert sum(TEST_IMAGES in path for path in server.fetched) == 2
    assert len(server.fetched) == 5


def test_altered_transfer(server: Server, cache: Path, refused) -> None:
    server.files[TEST_IMAGES] = server.files[TEST_IMAGES][:-1] + b"\xff"
    with refused("not the published file", "SHA-256"):
        download_fashion_mnist()
    assert TEST_IMAGES not in names(cache)


def test_not_found(server: Server, refused) -> None:
    server.files.clear()
    with refused("HTTP status 404"):
        download_fashion_mnist()


def test_nobody_there(published, cache: Path, refused) -> None:
    with refused("127.0.0.1:9: no connection; 127.0.0.1:9: no connection"):
        download_fashion_mnist()


def test_a_silent_server_is_given_up_in_time(published, cache: Path, monkeypatch, refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(download, "ADDRESSES", (f"http://127.0.0.1:{silent.getsockname()[1]}/",) * 2)
        monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
        start = time.monotonic()
        with refused("no answer"):
            download_fashion_mnist()
        assert time.monotonic() - start < 2


def test_both_addresses_together_stay_below_fifteen_seconds() -> None:
    assert len(download.ADDRESSES) * download.ANSWER_SECONDS < 15


def test_unwritable_folder(server: Server, tmp_path: Path, refused) -> None:
    (tmp_path / "file").write_text("in the way")
    with refused("could not be downloaded", "exists", str(tmp_path / "file")):
        download_fashion_mnist(tmp_path / "file")


def test_progress_on_a_terminal(server: Server, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(download.sys, "stderr", terminal)
    download_fashion_mnist()
    text = terminal.getvalue()
    assert f"{TEST_IMAGES} [#########################] 100 %" in text
    assert text.count("\n") == 4
