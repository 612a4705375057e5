"""What Slurm's variables make of a process: a worker of several where that is asked for, else nothing."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nin_multi import registry
from nin_multi.errors import UsageError
from nin_multi.oracle.backend import NumpyBackend
from nin_multi.workers.launch import Adoption, Place, Role, Task
from nin_multi.workers.slurm import take_in, task

# What srun of Slurm 22.05 sets, beside much else, for task 1 of 2 on one machine.
TASK = {
    "SLURM_JOB_ID": "3",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NODELIST": "node7",
}


class Toy(NumpyBackend):
    """Its launcher's variables are one, and its workers meet at a process that writes a file."""

    name = "toy"

    def __init__(self, made: Path) -> None:
        self.made = made

    def place(self) -> Place | None:
        return Place(2, int(os.environ["TOY_RANK"])) if "TOY_RANK" in os.environ else None

    def adopt(self, task: Task) -> Adoption:
        serve = f"import os, pathlib; pathlib.Path({str(self.made)!r}).write_text(os.environ['TOY_ROLE'])"
        role = Role("scheduler", (sys.executable, "-c", serve), {"TOY_ROLE": "scheduler"})
        return Adoption({"TOY_RANK": str(task.rank)}, [role])


Set = Callable[..., Toy]


@pytest.fixture
def in_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    def change(**variables: str) -> Toy:
        monkeypatch.setattr(os, "environ", {**os.environ, **TASK, **variables})
        toy = Toy(tmp_path / "made")
        monkeypatch.setattr(registry, "load", lambda name: toy)
        return toy

    return change


def test_a_task_of_one_machine(in_slurm: Set) -> None:
    in_slurm()
    assert task(None, 5.0) == Task(2, 1, 1, "127.0.0.1", 20_000 + 16 * 3 + 2, 5.0)
    assert task(1234, 5.0) == Task(2, 1, 1, "127.0.0.1", 1234, 5.0)


@pytest.mark.parametrize(
    ("machines", "first"),
    [
        ("gpu[01-03,7],cpu1", "gpu01"),
        ("a,b[1-2]", "a"),
        ("rack[5,7]-ib", "rack5-ib"),
        ("node-3.local,node-4.local", "node-3.local"),
    ],
)
def test_several_machines_meet_where_task_0_runs(in_slurm: Set, machines: str, first: str) -> None:
    in_slurm(SLURM_STEP_NUM_NODES="2", SLURM_STEP_NODELIST=machines)
    found = task(None, 5.0)
    assert found is not None
    assert found.host == first


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID"])
def test_the_script_of_a_job_is_no_task(in_slurm: Set, name: str) -> None:
    in_slurm()
    del os.environ[name]
    assert task(None, 5.0) is None


def test_a_task_of_its_own_is_no_worker(in_slurm: Set) -> None:
    in_slurm(SLURM_STEP_NUM_TASKS="1", SLURM_PROCID="0")
    assert task(None, 5.0) is None


@pytest.mark.parametrize("workers", [None, 1])
def test_tasks_that_nobody_calls_workers_are_runs_of_their_own(in_slurm: Set, workers: int | None) -> None:
    toy = in_slurm()
    take_in("toy", workers, None, 5.0)
    assert toy.place() is None


def test_a_worker_that_is_not_the_first_starts_nothing(in_slurm: Set) -> None:
    toy = in_slurm()
    beside = take_in("toy", 2, None, 5.0)
    assert toy.place() == Place(2, 1)
    beside.start()
    beside.end()
    assert not toy.made.exists()


def test_worker_0_starts_what_they_meet_at_also_when_its_process_begins_anew(in_slurm: Set) -> None:
    toy = in_slurm(SLURM_PROCID="0")
    take_in("toy", 2, None, 5.0)
    beside = take_in("toy", 2, None, 5.0)
    assert toy.place() == Place(2, 0)
    beside.start()
    beside.end()
    assert toy.made.read_text() == "scheduler"


def test_a_framework_s_own_launcher_within_slurm_has_the_say(in_slurm: Set) -> None:
    toy = in_slurm(TOY_RANK="0", SLURM_PROCID="0")
    beside = take_in("toy", 2, None, 5.0)
    beside.start()
    beside.end()
    assert toy.place() == Place(2, 0)
    assert not toy.made.exists()


def test_as_many_workers_as_tasks(in_slurm: Set) -> None:
    in_slurm()
    with pytest.raises(UsageError, match="--workers 3: this process is one of 2 tasks of Slurm's"):
        take_in("toy", 3, None, 5.0)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_port_in_use_is_for_task_0_to_tell(in_slurm: Set, rank: str) -> None:
    toy = in_slurm(SLURM_PROCID=rank)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if rank == "0":
            with pytest.raises(UsageError, match=f"toy: port {port} is in use here.*; choose another by --port"):
                take_in("toy", 2, port, 5.0)
        else:
            take_in("toy", 2, port, 5.0)
    assert (toy.place() is None) == (rank == "0")


def test_what_stands_beside_is_waited_for(in_slurm: Set) -> None:
    toy = in_slurm(SLURM_PROCID="0")
    beside = take_in("toy", 2, None, 5.0)
    began = time.monotonic()
    beside.start()
    beside.end()
    assert toy.made.exists()
    assert time.monotonic() - began < 60.0
