"""Workers that are processes without a framework: what the one who has them started hears of them, and does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nin_multi import registry
from nin_multi.errors import BackendUnavailable, RunError, UsageError
from nin_multi.oracle.backend import NumpyBackend
from nin_multi.training.run_directory import RunDirectory
from nin_multi.workers import conductor
from nin_multi.workers.conductor import Crew, conduct, free_port
from nin_multi.workers.launch import Launch, Role
from nin_multi.workers.seat import FOLDER, look

BEGIN = """
import os, signal, sys, time
from nin_multi.workers.seat import Seat
rank = int(sys.argv[1])
seat = Seat(2)
seat.settle()
seat.sit(rank)
"""
END = 'print("worker", rank, "is done", file=sys.stderr)\nseat.end({"rank": rank})'


class Toy(NumpyBackend):
    """Its workers run a program; one of them may not be started at all."""

    name = "toy"

    def __init__(self, program: str, started: tuple[int, ...] = (0, 1)) -> None:
        self._program, self._started = BEGIN + program, started

    def launch(self, launch: Launch) -> list[Role]:
        return [Role(f"worker {rank}", (sys.executable, "-c", self._program, str(rank))) for rank in self._started]


Go = Callable[..., dict[str, Any]]


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    def run(toy: Toy, said: list[str] | None = None, restarts: int = 0) -> dict[str, Any]:
        monkeypatch.setattr(registry, "load", lambda name: toy)
        crew = Crew("toy", (), RunDirectory.create(tmp_path / "run"), 2, None, 30.0, restarts)
        return conduct(crew, (said if said is not None else []).append)

    return run


def test_the_result_is_that_of_worker_0_and_so_are_the_words(go: Go) -> None:
    said: list[str] = []
    assert go(Toy(END), said) == {"rank": 0}
    assert said == ["worker 0 is done"]


def test_one_that_is_done_before_the_other_takes_the_place_it_had(go: Go) -> None:
    toy = Toy(END)
    toy._program = "import sys, time\nif sys.argv[1] == '1': time.sleep(3)\n" + toy._program
    assert go(toy) == {"rank": 0}


def test_a_worker_that_is_killed(go: Go) -> None:
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"toy: worker 1 of 2 \(process \d+\) ended without a word") as caught:
        go(Toy("if rank: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)"))
    assert str(caught.value).endswith("\nNo checkpoint had been written yet.")
    assert time.monotonic() - began < 60


def test_a_worker_that_is_killed_before_the_other_takes_the_place_it_had(go: Go) -> None:
    late = Toy("if rank: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)")
    late._program = "import sys, time\nif sys.argv[1] == '0': time.sleep(3)\n" + late._program
    with pytest.raises(BackendUnavailable, match=r"toy: worker 1 of 2 \(process \d+\) ended without a word"):
        go(late)


def test_who_sat_there_before_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    program = "import os, sys\nfrom nin_multi.workers.seat import Seat\nseat = Seat(1)\nseat.settle()\nseat.sit(0)\n"
    died = [subprocess.run([sys.executable, "-c", program + "os._exit(1)"], check=False) for _ in range(2)]
    assert [one.returncode for one in died] == [1, 1]
    ended = [subprocess.run([sys.executable, "-c", program + "seat.end({})"], check=True) for _ in range(2)]
    assert len(ended) == 2
    sitting = look(tmp_path)
    assert [one.ended for one in sitting] == [{}, {}, None, None], "the last comes first"
    assert all(one.is_gone for one in sitting)
    assert len({one.pid for one in sitting}) == 4


def test_what_a_worker_says_was_wrong_is_said_again(go: Go) -> None:
    failing = """
kind, text = ("RunError", "no room") if rank else ("WorkerLost", "lost another one")
seat.end({"error": {"type": kind, "message": text, "exit_status": 2}})
"""
    with pytest.raises(RunError, match=r"^no room$"):
        go(Toy(failing))


def test_a_worker_that_was_never_started(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "START", -18.0)
    with pytest.raises(BackendUnavailable, match=r"^toy: worker 1 never began"):
        go(Toy("time.sleep(600)", started=(0,)))


def test_a_program_that_does_not_even_begin(go: Go) -> None:
    with pytest.raises(BackendUnavailable, match=r"toy: workers 0, 1 never began\nworker 0: .*no_such_module"):
        go(_Broken(""))


class _Broken(Toy):
    def launch(self, launch: Launch) -> list[Role]:
        return [Role("worker 0", (sys.executable, "-c", "import no_such_module"))]


def test_a_signal_is_for_worker_0(go: Go) -> None:
    waiting = """
heard = []
signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
print("ready", file=sys.stderr)
while rank == 0 and not heard:
    time.sleep(0.05)
seat.end({"heard": heard})
"""
    said: list[str] = []

    def send() -> None:
        while not said:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    assert go(Toy(waiting), said) == {"heard": [signal.SIGTERM]}
    thread.join()


def test_workers_have_cores_of_their_own(go: Go) -> None:
    found = go(Toy('seat.end({"cores": sorted(os.sched_getaffinity(0))})'))["cores"]
    everything = sorted(os.sched_getaffinity(0))
    half = len(everything) // 2
    assert found in ((everything[:half], everything[half : 2 * half]) if half else (everything,))


def test_a_process_that_executes_itself_anew_keeps_its_seat(go: Go) -> None:
    toy = Toy('seat.end({"again": os.environ["AGAIN"]})')
    once_more = "os.execve(sys.executable, sys.orig_argv, {**os.environ, 'AGAIN': str(seat._number)})"
    toy._program = toy._program.replace("seat.settle()", f"if 'AGAIN' not in os.environ: {once_more}\nseat.settle()")
    toy._program = toy._program.replace('os.environ["AGAIN"]', '(os.environ["AGAIN"], seat._number)')
    before, after = go(toy)["again"]
    assert before == str(after)


def test_ports() -> None:
    assert 1024 <= free_port(None) <= 65535
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: cannot be used"):
            free_port(port)
