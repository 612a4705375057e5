"""Several processes that download at once, and processes that are killed or interrupted in the middle."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nin_multi.data.download import download_fashion_mnist
from nin_multi.data.fashion_mnist import read_fashion_mnist

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
LOCK = ".download.lock"

# A process of its own that downloads the tiny files: address, folder and pins come as JSON.
PROCESS = """
import json, sys
from pathlib import Path
from nin_multi.data import download, transfer
from nin_multi.data.fashion_mnist import DataFile
address, folder, files = json.loads(sys.argv[1])
download.ADDRESSES = (address,)
download.FILES = tuple(DataFile(**file) for file in files)
transfer.CHUNK = 1000
download.download_fashion_mnist(Path(folder))
print("done")
"""


@pytest.fixture
def start(server, cache: Path, published) -> Iterator:
    """Start processes that download into the cache; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def process() -> subprocess.Popen[str]:
        asked = json.dumps([server.address, str(cache), [dataclasses.asdict(file) for file in published.files]])
        command = [sys.executable, "-c", PROCESS, asked]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield process
    for made in started:
        made.kill()
        made.wait()
        made.stdout.close()


def wait_until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_bytes(path: Path, count: int) -> bool:
    return path.exists() and path.stat().st_size == count


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()


def test_one_fetches_the_other_waits(server, cache: Path, start) -> None:
    plan = server.plan(TRAIN_IMAGES, stop=5000, hold=threading.Event())
    first = start()
    wait_until(lambda: server.seen)
    second = start()
    said = second.stdout.readline()
    assert said == f"Another process is fetching Fashion-MNIST into {cache}: waiting for it.\n"
    plan.hold.set()
    assert first.communicate(timeout=60)[0] == "done\n"
    assert second.communicate(timeout=60)[0] == "done\n"
    assert sorted(server.fetched) == sorted(server.files)
    assert names(cache) == set(server.files)


def test_three_at_once(server, cache: Path, start) -> None:
    processes = [start() for _ in range(3)]
    assert all(process.communicate(timeout=60)[0].endswith("done\n") for process in processes)
    assert sorted(server.fetched) == sorted(server.files)
    read_fashion_mnist(cache)


def test_killed(server, cache: Path, start) -> None:
    plan = server.plan(TRAIN_IMAGES, stop=9000, hold=threading.Event())
    process = start()
    wait_until(lambda: has_bytes(cache / f"{TRAIN_IMAGES}.part", 9000))
    process.kill()
    process.wait()
    plan.hold.set()
    assert names(cache) == {f"{TRAIN_IMAGES}.part"}
    download_fashion_mnist()
    assert server.ranges_wanted[:2] == [None, "bytes=9000-"]
    assert server.seen[1].sent == len(server.files[TRAIN_IMAGES]) - 9000
    assert names(cache) == set(server.files)


def test_killed_while_another_waits(server, cache: Path, start) -> None:
    plan = server.plan(TRAIN_IMAGES, stop=9000, hold=threading.Event())
    first = start()
    wait_until(lambda: has_bytes(cache / f"{TRAIN_IMAGES}.part", 9000))
    second = start()
    assert "waiting" in second.stdout.readline()
    first.kill()
    assert second.communicate(timeout=60)[0] == "done\n"
    plan.hold.set()
    assert server.ranges_wanted == [None, "bytes=9000-", None, None, None]


def test_interrupted_command(server, tmp_path: Path) -> None:
    """The real command, the real files' names and sizes: the server stands in as a proxy."""
    part = tmp_path / "nin-multi" / "fashion-mnist" / f"{TRAIN_IMAGES}.part"
    start = 1 << 20
    server.files[TRAIN_IMAGES] = bytes(26421880)
    plan = server.plan(TRAIN_IMAGES, stop=start, hold=threading.Event())
    environment = os.environ | {"http_proxy": server.address, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "nin_multi", "train", "--backend", "numpy", "--dataset", "fashion-mnist"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    try:
        wait_until(lambda: has_bytes(part, start))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.communicate()
        plan.hold.set()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "error: interrupted" in said
    assert has_bytes(part, start)
    assert server.hosts == ["fashion-mnist.s3-website.eu-central-1.amazonaws.com"]
