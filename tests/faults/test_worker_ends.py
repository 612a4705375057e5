"""A process of `compare` that is killed, hangs or is interrupted: the others go on, and what can be done is said.

Real processes. The backend `slow` is NumPy with a pause in each step, `quick` without; their entry points are found
as anybody's are.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

TINY = """\
name: tiny
input: [1, 8, 8]
layers:
  - {type: flatten}
  - {type: linear, out_features: 10}
"""
FLAGS = ["--arch", "tiny.yaml", "--dataset", "synthetic", "--train-examples", "40", "--test-examples", "20"]
STEPS, PER_EPOCH = 80, 4
FLAGS += ["--batch-size", "10", "--epochs", str(STEPS // PER_EPOCH)]
PATIENCE = 10  # seconds: starting up takes one, and on a loaded machine more

PLUGIN = '''
import os, pathlib, time
from nin_multi.oracle import NumpyBackend, NumpyNetwork

PAUSE = float(os.environ.get("TEST_PAUSE", "0.3"))


class SlowNetwork(NumpyNetwork):
    def train_step(self, *arguments, **named):
        time.sleep(PAUSE)
        return super().train_step(*arguments, **named)


class Slow(NumpyBackend):
    name = "slow"

    def build(self, architecture, params, *, device, precision, seed=None, tuning=None):
        pathlib.Path("slow.pid").write_text(str(os.getpid()))
        return SlowNetwork(architecture, params, seed)


class Quick(NumpyBackend):
    name = "quick"


class Hanging(NumpyBackend):
    """It never comes to have a net."""

    name = "hanging"

    def build(self, *arguments, **named):
        pathlib.Path("slow.pid").write_text(str(os.getpid()))
        time.sleep(1000)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an architecture, and adapters that processes find."""
    plugins = tmp_path / "plugins"
    about = plugins / "slow_backends-1.0.dist-info"
    about.mkdir(parents=True)
    (plugins / "slow_backends.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-backends\nVersion: 1.0\n")
    points = [f"{name} = slow_backends:{name.title()}" for name in ("slow", "quick", "hanging")]
    (about / "entry_points.txt").write_text("\n".join(["[nin_multi.backends]", *points, ""]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "mpl"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "tiny.yaml").write_text(TINY)
    return work


class Comparison:
    """`compare` in a process of its own, its stdout in a file or on a terminal of 80 columns."""

    def __init__(self, folder: Path, *words: str, on_terminal: bool = False) -> None:
        self.folder, self.shown = folder, b""
        command = [sys.executable, "-m", "nin_multi", "compare", *FLAGS, *words]
        self._err = (folder / "stderr").open("wb")
        if on_terminal:
            self._master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
            self._reader = threading.Thread(target=self._read, daemon=True)
        else:
            slave = os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT)
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=slave, stderr=self._err, stdin=subprocess.DEVNULL, start_new_session=True
        )
        os.close(slave)
        self.on_terminal = on_terminal
        if on_terminal:
            self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 4096)
            except OSError:  # the other side is closed
                return
            if not piece:
                return
            self.shown += piece

    def until(self, pattern: str, seconds: float = 60.0) -> Path:
        """The first file below the folder that matches."""
        limit = time.monotonic() + seconds
        while not (found := sorted(self.folder.glob(pattern))):
            assert self.process.poll() is None, self.err()
            assert time.monotonic() < limit, self.err()
            time.sleep(0.02)
        return found[0]

    def child(self) -> int:
        """The process of the slow backend, in the midst of a run that has a checkpoint."""
        self.until("runs/*-slow-s0/checkpoints/step-*.safetensors")
        return int((self.folder / "slow.pid").read_text())

    def end(self, seconds: float = 120.0) -> int:
        """Its exit status."""
        status = self.process.wait(timeout=seconds)
        if self.on_terminal:
            self._reader.join(10)
        return status

    def json(self) -> Any:
        return json.loads((self.folder / "stdout").read_text())

    def out(self) -> str:
        return re.sub(r"\x1b\[[\d;]*m|\r", "", self.shown.decode())  # colours

    def err(self) -> str:
        return (self.folder / "stderr").read_text()

    def clear_up(self) -> None:
        pid = self.folder / "slow.pid"
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if pid.exists() and is_alive(int(pid.read_text())):
            os.kill(int(pid.read_text()), signal.SIGKILL)
        self._err.close()
        if self.on_terminal:
            os.close(self._master)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.fixture
def compare(folder: Path) -> Iterator[Callable[..., Comparison]]:
    started: list[Comparison] = []

    def start(*words: str, on_terminal: bool = False) -> Comparison:
        started.append(Comparison(folder, *words, on_terminal=on_terminal))
        return started[-1]

    yield start
    for one in started:
        one.clear_up()


def check_failed(run: dict[str, Any], *words: str) -> None:
    """A row that says why, and where its run is."""
    assert (run["backend"], run["status"]) == ("slow", "failed")
    for word in words:
        assert word in run["reason"]
    assert Path(run["run_dir"]).name.endswith("-tiny-slow-s0")


class TestKilled:
    @pytest.mark.parametrize(
        ("number", "cause"), [(signal.SIGKILL, "for lack of memory"), (signal.SIGSEGV, "the framework crashed")]
    )
    def test_the_other_goes_on(self, compare, folder: Path, number: signal.Signals, cause: str) -> None:
        one = compare("--backend", "slow,quick", "--json")
        os.kill(one.child(), number)
        assert one.end() == 3
        slow, other = one.json()["runs"]
        check_failed(slow, number.name, cause, "at step ", f" of {STEPS}")
        assert (other["backend"], other["status"], other["steps"]) == ("quick", "done", STEPS)
        # It is told when it happens, before the next one begins.
        assert one.err().index(number.name) < one.err().index("quick  starts")

    def test_on_a_terminal_of_80_columns(self, compare, folder: Path, monkeypatch) -> None:
        """The reason is there whole, and the command that is named does go on with the run."""
        one = compare("--backend", "slow,quick", on_terminal=True)
        os.kill(one.child(), signal.SIGKILL)
        assert one.end() == 3
        lines = one.out().splitlines()
        assert all(len(line) <= 80 for line in lines if "to go on" not in line), one.out()
        assert any(line.split() == ["slow", "failed"] for line in lines), one.out()
        assert any(line.split()[:1] == ["quick"] and re.search("[GM]B", line) for line in lines), one.out()
        whole = " ".join(one.out().split())
        assert "slow failed: its process was ended by SIGKILL (perhaps the system's, for lack of memory), last" in whole
        (command,) = (line.partition("to go on: ")[2] for line in lines if "to go on: " in line)
        monkeypatch.setenv("TEST_PAUSE", "0")
        words = [sys.executable, "-m", *shlex.split(command), "--json"]
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)
        assert (found["backend"], found["status"], found["steps"]) == ("slow", "done", STEPS)


class TestHangs:
    def test_one_that_is_stopped_is_ended(self, compare, folder: Path) -> None:
        """A stopped process is a deadlocked one: it does nothing, and SIGTERM does not reach it."""
        one = compare("--backend", "slow,quick", "--patience", str(PATIENCE), "--json")
        child = one.child()
        os.kill(child, signal.SIGSTOP)
        assert one.end() == 3
        assert not is_alive(child)
        slow, other = one.json()["runs"]
        check_failed(slow, f"no sign of life for {PATIENCE} s", "at step ", f" of {STEPS}", "it was stopped")
        assert (other["status"], other["steps"]) == ("done", STEPS)

    def test_one_that_hangs_before_its_run_begins(self, compare, folder: Path) -> None:
        """It ends by SIGTERM; it is failed and not interrupted, and its empty directory does not stay."""
        one = compare("--backend", "hanging,quick", "--patience", str(PATIENCE), "--json")
        assert one.end() == 3
        hanging, other = one.json()["runs"]
        assert hanging["status"] == "failed"
        assert f"no sign of life for {PATIENCE} s" in hanging["reason"]
        assert hanging["run_dir"] is None
        assert other["status"] == "done"
        assert [path.name.endswith("-tiny-quick-s0") for path in folder.glob("runs/*/")] == [True]

    def test_one_that_is_only_slow_is_let_alone(self, compare, folder: Path, monkeypatch) -> None:
        monkeypatch.setenv("TEST_PAUSE", "2.5")
        one = compare("--backend", "slow", "--epochs", "1", "--patience", str(PATIENCE), "--json")
        assert one.end() == 0, one.err()
        assert one.json()["runs"][0]["status"] == "done"  # after more than our patience


class TestInterrupted:
    def test_ctrl_c(self, compare, folder: Path) -> None:
        """The child is told once, ends its step and writes a checkpoint; how to go on with it is said."""
        one = compare("--backend", "slow,quick")
        child = one.child()
        os.killpg(one.process.pid, signal.SIGINT)
        assert one.end(30) == 130
        assert not is_alive(child)
        (run,) = folder.glob("runs/*")
        assert json.loads((run / "result.json").read_text())["status"] == "interrupted"
        assert "interrupted at step" in one.err()
        assert f"nin_multi train --resume {run.relative_to(folder)}" in one.err()
        assert f"nin_multi report {run.relative_to(folder)}" in one.err()

    def test_ctrl_c_twice_while_one_hangs(self, compare, folder: Path) -> None:
        one = compare("--backend", "slow,quick")
        child = one.child()
        os.kill(child, signal.SIGSTOP)
        os.killpg(one.process.pid, signal.SIGINT)
        time.sleep(1)
        assert one.process.poll() is None  # it may still be ending its step
        os.killpg(one.process.pid, signal.SIGINT)
        assert one.end(30) == 130
        assert not is_alive(child)
