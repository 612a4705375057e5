"""Downloads through a real proxy, as the environment names one: files, ranges, and each way to be refused."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nin_multi.data import download
from nin_multi.data.download import download_fashion_mnist
from nin_multi.data.fashion_mnist import read_fashion_mnist
from nin_multi.errors import DataError

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"


class _Forwarding(BaseHTTPRequestHandler):
    """A plain HTTP proxy that finds every host at one port."""

    def do_GET(self) -> None:
        self.server.passed.append((self.path, self.headers.get("Proxy-Authorization")))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.origin)
        connection.request(
            self.command, self.path, headers={"Range": self.headers["Range"]} if "Range" in self.headers else {}
        )
        answer = connection.getresponse()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer.read())
        connection.close()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(server, monkeypatch) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Forwarding)
    made.origin, made.passed = server.port, []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{made.server_port}")
    monkeypatch.setattr(download, "ADDRESSES", ("http://fashion.invalid/data/",))
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_files_come_through_it(server, proxy, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / f"{TRAIN_IMAGES}.part").write_bytes(server.files[TRAIN_IMAGES][:5000])
    download_fashion_mnist()
    read_fashion_mnist(cache)
    assert server.ranges_wanted == ["bytes=5000-", None, None, None]
    assert {path for path, _ in proxy.passed} == {f"http://fashion.invalid/data/{name}" for name in server.files}
    assert all(name_and_password for _, name_and_password in proxy.passed)


def test_no_proxy(server, proxy, monkeypatch) -> None:
    monkeypatch.setattr(download, "ADDRESSES", (server.address,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    download_fashion_mnist()
    assert proxy.passed == []


@pytest.mark.parametrize(("status", "words"), [(407, "Proxy Authentication Required"), (502, "Bad Gateway")])
def test_refuses(status: int, words: str, server, proxy, refused) -> None:
    server.plan(TRAIN_IMAGES, status=status)
    with refused(f"fashion.invalid: HTTP status {status} ({words}) through the proxy 127.0.0.1:{proxy.server_port}"):
        download_fashion_mnist()


@pytest.mark.parametrize("status", [403, 407, 502])
def test_refuses_a_tunnel(status: int, server, monkeypatch, refused) -> None:
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{server.port}/")
    monkeypatch.setattr(download, "ADDRESSES", ("https://fashion.invalid/data/",))
    server.connect_status = status
    with refused(f"fashion.invalid: HTTP status {status} (", f") through the proxy 127.0.0.1:{server.port})"):
        download_fashion_mnist()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_is_not_there(scheme: str, server, monkeypatch, refused) -> None:
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://me:secret@127.0.0.1:9")
    monkeypatch.setattr(download, "ADDRESSES", (f"{scheme}://fashion.invalid/data/",))
    if scheme == "http":  # curl's convention: a CGI script's HTTP_PROXY is a visitor's header
        monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with refused("fashion.invalid: no connection through the proxy 127.0.0.1:9)"):
        download_fashion_mnist()


@pytest.mark.parametrize("proxy", ["http://me:secret@[bad", "socks5://me:secret@127.0.0.1:9", "me:secret@:x"])
def test_is_no_address(proxy: str, server, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(DataError) as caught:
        download_fashion_mnist()
    assert "secret" not in str(caught.value)
