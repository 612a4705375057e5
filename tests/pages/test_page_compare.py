"""The live page of a real comparison: real processes train, one of them is killed, the browser sees it all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LAYERS = "  - {type: flatten}\n  - {type: linear, out_features: 10}\n"
MINUTE = 60_000  # milliseconds


class Going:
    """`compare --live` of two seeds at once, for some thousands of epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tiny.yaml").write_text(f"name: tiny\ninput: [1, 8, 8]\nlayers:\n{LAYERS}")
        few = ["--train-examples=500", "--test-examples=100", "--batch-size=50", "--epochs=600"]
        command = [
            sys.executable,
            "-m",
            "nin_multi",
            "compare",
            "--backend=numpy",
            "--seed=0,1",
            "--together",
            "--live",
        ]
        command += ["--arch=tiny.yaml", "--dataset=synthetic", *few]
        with (folder / "told").open("w") as told:
            self.process = subprocess.Popen(command, cwd=folder, stdout=told, stderr=told)
        self.address = self._wait(lambda: re.search(r"live page (http://127\.0\.0\.1:\d+/)", self.told()))[1]

    def told(self) -> str:
        return (self.folder / "told").read_text()

    def _wait(self, found: Any) -> Any:
        until = time.monotonic() + 120
        while not (answer := found()):
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < until, self.told()
            time.sleep(0.1)
        return answer

    def child(self, seed: int) -> int:
        """The process that trains with this seed."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().decode().split("\0")
                here = (path / "cwd").readlink() == self.folder
                if here and "train" in words and words[words.index("--seed") + 1] == str(seed):
                    return int(path.name)
        raise AssertionError(f"nobody trains with seed {seed}")

    def points(self, seed: int) -> int:
        """How many there are in the file by now."""
        return sum(len(path.read_text().splitlines()) for path in self.folder.glob(f"runs/*-s{seed}*/events.jsonl"))


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Going]:
    started = Going(tmp_path)
    yield started
    if started.process.poll() is None:
        started.process.send_signal(signal.SIGTERM)
        try:
            started.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            started.process.kill()


def drawn(page: Any, trace: int) -> int:
    """Points of a run in the chart of losses."""
    return page.evaluate(
        "trace => { const traces = document.querySelector('[data-chart=loss]').data || []; "
        "return trace < traces.length ? traces[trace].x.length : 0; }",
        trace,
    )


def wait_until(condition: Any, page: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        page.wait_for_timeout(100)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_from_the_first_step_to_the_whole_report(open_page: Any, going: Going) -> None:
    page = open_page(f"{going.address}#curves")
    page.set_default_timeout(2 * MINUTE)
    wait_until(lambda: drawn(page, 0) > 5 and drawn(page, 1) > 5, page)

    os.kill(going.child(0), signal.SIGKILL)
    page.click("#tab-overview")
    failed, other = (page.locator(f".card[data-run=numpy-seed-{seed}]") for seed in (0, 1))
    failed.get_by_text("failed").first.wait_for()
    assert "SIGKILL" in failed.inner_text()
    assert "--resume" in failed.inner_text()
    assert "failed" not in other.inner_text()

    page.click("#tab-curves")
    before, after_the_kill = drawn(page, 0), drawn(page, 1)
    wait_until(lambda: drawn(page, 1) > after_the_kill, page)  # the other goes on

    page.reload()
    wait_until(lambda: drawn(page, 0) >= before and drawn(page, 1) > after_the_kill, page)  # the whole past

    os.kill(going.child(1), signal.SIGTERM)  # its run ends well, and with it the comparison
    page.wait_for_selector("#tab-agreement")  # what only the whole report has
    assert page.locator("#tab-inside").count() == 1
    assert going.process.wait(timeout=120) == 143 or going.process.returncode == 3
    page.click("#tab-agreement")  # the server is gone, the page is not
    assert "oracle" in page.locator("[role=tabpanel]:visible").inner_text()
    assert {
        address.partition("?")[0].rsplit("/", 1)[0] for address in page.watch.requests if "data:" not in address
    } == {going.address.rstrip("/")}
    assert page.watch.complaints == []
