"""Downloads from real servers on the loopback interface: what is fetched, from where, into which folder."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nin_multi.data import download, transfer
from nin_multi.data.download import download_fashion_mnist
from nin_multi.data.fashion_mnist import read_fashion_mnist

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
LOCK = ".download.lock"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()


def test_fetches_four_files_once(server, cache: Path, capsys) -> None:
    assert download_fashion_mnist() == cache
    read_fashion_mnist(cache)
    assert names(cache) == set(server.files)
    assert len(server.fetched) == 4
    download_fashion_mnist()
    assert len(server.fetched) == 4
    assert capsys.readouterr() == ("", "")


def test_fetches_only_what_lacks_or_is_damaged(server, cache: Path, published) -> None:
    published.write(cache)
    (cache / TEST_IMAGES).write_bytes(b"half a file")
    download_fashion_mnist()
    assert server.fetched == [TEST_IMAGES]
    read_fashion_mnist(cache)


def test_second_address_goes_on_where_the_first_failed(server, serve, cache: Path, monkeypatch) -> None:
    first = serve()
    first.files = dict(server.files)
    first.plan(TEST_IMAGES, stop=2000)
    first.plan(TEST_IMAGES, times=9, status=500)
    monkeypatch.setattr(download, "ADDRESSES", ("http://127.0.0.1:9/", first.address, server.address))
    download_fashion_mnist()
    assert (server.seen[0].name, server.seen[0].wanted) == (TEST_IMAGES, "bytes=2000-")
    read_fashion_mnist(cache)


def test_truncated_transfer_leaves_only_a_part(server, cache: Path, refused) -> None:
    server.plan(TEST_IMAGES, times=transfer.TRIES, stop=1000)
    with refused("could not be downloaded", "127.0.0.1", "broke off after 3,000 of"):
        download_fashion_mnist()
    assert names(cache) == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", f"{TEST_IMAGES}.part"}
    before = len(server.fetched)
    download_fashion_mnist()
    assert server.fetched[before:] == [TEST_IMAGES, "t10k-labels-idx1-ubyte.gz"]
    assert server.ranges_wanted[before] == "bytes=3000-"
    assert names(cache) == set(server.files)


def test_altered_transfer(server, cache: Path, refused) -> None:
    server.files[TEST_IMAGES] = server.files[TEST_IMAGES][:-1] + b"\xff"
    with refused("not the published file", "SHA-256"):
        download_fashion_mnist()
    assert not any(TEST_IMAGES in name for name in names(cache))


def test_not_found(server, refused) -> None:
    server.files.clear()
    with refused("HTTP status 404 (Not Found)"):
        download_fashion_mnist()


def test_nobody_there(published, cache: Path, refused) -> None:
    with refused("127.0.0.1:9: no connection; 127.0.0.1:9: no connection"):
        download_fashion_mnist()
    assert not cache.exists()


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


def test_progress_on_a_terminal(server, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(download.sys, "stderr", terminal)
    download_fashion_mnist()
    text = terminal.getvalue()
    assert f"{TEST_IMAGES} [#########################] 100 %" in text
    assert text.count("\n") == 4


class TestFolder:
    @pytest.fixture
    def mount(self, tmp_path: Path) -> Iterator:
        """Mount a small file system of its own, where that is permitted."""
        folder = tmp_path / "disk"
        folder.mkdir()

        def call(options: str) -> Path:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
            if done.returncode:
                pytest.skip(f"needs to mount a file system: {done.stderr.decode().strip()}")
            return folder

        yield call
        subprocess.run(["umount", str(folder)], capture_output=True)

    def test_full_disk(self, server, mount, refused, tmp_path: Path) -> None:
        folder = mount("size=16k")
        assert len(server.files[TRAIN_IMAGES]) > 16384
        with refused("could not be downloaded", f"{folder} cannot be written (No space left on device)"):
            download_fashion_mnist(folder)
        assert names(folder) == set()  # nor is the room taken any longer
        assert server.fetched == [TRAIN_IMAGES]  # another address would not help

    def test_full_disk_with_room_for_some(self, server, mount, refused) -> None:
        folder = mount("size=16k")
        server.files.update({TRAIN_IMAGES: b""})
        (folder / "else").write_bytes(bytes(12288))
        (folder / f"{TRAIN_IMAGES}.part").write_bytes(b"")
        server.plan(TRAIN_IMAGES, status=200, endless=True)
        with refused(f"{folder} cannot be written (No space left on device)"):
            download_fashion_mnist(folder)
        assert names(folder) == {"else"}

    def test_read_only(self, server, mount, refused, tmp_path: Path) -> None:
        if os.geteuid():
            folder = tmp_path / "disk"
            folder.chmod(0o500)
        else:
            folder = mount("ro")
        with refused("could not be downloaded", f"{folder} cannot be written ("):
            download_fashion_mnist(folder)
        assert list(folder.iterdir()) == []
        assert server.fetched == []

    def test_complete_and_read_only(self, server, mount, published) -> None:
        folder = published.write(mount("size=1m"))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert download_fashion_mnist(folder) == folder
        assert server.seen == []

    def test_a_file_in_the_way(self, server, tmp_path: Path, refused) -> None:
        (tmp_path / "file").write_text("in the way")
        with refused("could not be downloaded", "exists", str(tmp_path / "file")):
            download_fashion_mnist(tmp_path / "file")

    @pytest.mark.parametrize("name", [TRAIN_IMAGES, f"{TRAIN_IMAGES}.part", LOCK])
    def test_a_folder_in_the_way(self, name: str, server, cache: Path, refused) -> None:
        (cache / name).mkdir(parents=True)
        with refused("could not be downloaded", f"{cache} cannot be written (Is a directory)"):
            download_fashion_mnist()
