"""The order in which workers are asked, what counts, and what becomes of the answers; the workers are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from strategies import refused

from nin_multi.bench import session
from nin_multi.bench.job import Job
from nin_multi.bench.session import Plan
from nin_multi.errors import BackendUnavailable

MakeJob = Callable[..., Job]


class FakeWorker:
    """Answers from a script: how long each thing takes, round by round."""

    log: list[str]
    seconds: dict[str, list[float]]

    def __init__(self, job: Job) -> None:
        self.job = job
        self.name = f"{job.backend} {job.precision}"
        self.facts = {
            "framework_version": "1",
            "device": "cpu",
            "tuning": {},
            "environment": {"OMP_NUM_THREADS": "2"},
            "framework_facts": {"threads": "2"},
            "versions": {job.backend: "1"},
            "warm_up_steps": 7,
        }
        self.asked: dict[str, int] = {}

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.log.append(f"{self.name} ended")

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        what = question["ask"]
        self.log.append(f"{self.name} {what} {question.get('steps', question.get('times', ''))}".rstrip())
        if what == "product":
            return {"seconds": [0.5]}
        if what == "layers":
            return {"layers": [["block1.conv", 0.001, 0.002]]}
        if question["steps"] == 7:
            return {"images": 56, "seconds": 1e9, "peak_memory_bytes": 1}
        number = self.asked[what] = self.asked.get(what, -1) + 1
        if self.job.backend == "dying" and number == 1:
            raise BackendUnavailable("dying: its process was ended by SIGSEGV")
        extra = {"book_says": 10.0 + number} if what == "book" else {}
        return {"images": 16, "seconds": self.seconds[what][number], "peak_memory_bytes": 5 + number, **extra}


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.log = []
    FakeWorker.seconds = {
        "harness": [100.0, 4.0, 2.0, 1.0],
        "step": [100.0, 2.0, 2.0, 2.0],
        "bare": [100.0, 1.0, 1.0, 1.0],
        "book": [100.0, 16.0, 16.0, 16.0],
        "data": [100.0, 0.1, 0.1, 0.1],
    }
    monkeypatch.setattr(session, "Worker", FakeWorker)


def jobs(job: MakeJob) -> list[Job]:
    return [
        job(backend="torch", precision="fp32"),
        job(backend="torch", precision="bf16", whats=("step",)),
        job(backend="torch", precision="fp32", whats=("book",)),
        job(backend="numpy", precision="fp32", whats=("data",)),
    ]


def measure(job: MakeJob, **plan: Any) -> dict[str, Any]:
    return session.measure(jobs(job), Plan(**{"steps": 2, "rounds": 3, "product_size": 16, **plan}), lambda _: None)


def test_everything_takes_turns_within_a_round(job: MakeJob) -> None:
    measure(job, rounds=1)
    first = ["torch fp32 harness 2", "torch fp32 step 2", "torch fp32 bare 2"]
    second = [*first[1:], first[0]]  # another begins
    others = ["torch bf16 step 2", "torch bf16 product 3", "torch fp32 book 2", "numpy fp32 data 2"]
    rounds = [*first, "torch fp32 product 3", *others, *second, "torch fp32 product 3", *others]
    warm = ["torch fp32 step 7", "torch fp32 bare 7", "torch fp32 product 7", "torch bf16 step 7"]
    warm.append("torch bf16 product 7")
    ends = [f"{name} ended" for name in ("numpy fp32", "torch fp32", "torch bf16", "torch fp32")]
    assert FakeWorker.log == [*warm, *rounds, *ends]


def test_warm_up_can_be_left_out(job: MakeJob) -> None:
    measure(job, rounds=1, warm_up=0)
    assert not any(line.endswith(" 7") for line in FakeWorker.log)


def test_rows_are_medians_of_the_rounds_that_count(job: MakeJob) -> None:
    found = measure(job)
    named = {(row["backend"], row["precision"], row["what"]): row for row in found["rows"]}
    harness = named["torch", "fp32", "harness"]
    assert harness["rounds"] == [4.0, 8.0, 16.0]
    assert harness["examples_per_sec"] == 8.0
    assert harness["spread"] == pytest.approx(12 / 8)
    assert harness["peak_memory_bytes"] == 8
    assert (harness["arch"], harness["batch_size"], harness["images_per_round"]) == ("tiny", 8, 16)
    assert harness["times_the_book"] == pytest.approx(8.0)
    book = named["torch", "fp32", "book"]
    assert (book["examples_per_sec"], book["book_says"]) == (1.0, 12.0)
    assert named["numpy", "fp32", "data"]["peak_share"] is None
    flop = 4 * 3240 + 6 * 7200
    assert found["training_flop_per_image"] == flop
    peak = found["machine"]["matmul_gflops"]["bf16"]
    assert peak == pytest.approx(2 * 16**3 / 0.5 / 1e9)
    assert named["torch", "bf16", "step"]["peak_share"] == pytest.approx(8.0 * flop / 1e9 / peak)


def test_the_peak_is_the_highest_median_of_all(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "matrix_product", lambda size, kind: lambda: 0.25)
    found = measure(job)
    assert found["machine"]["matmul_gflops"]["fp32"] == pytest.approx(2 * 16**3 / 0.25 / 1e9)
    assert {(each["by"], each["precision"]) for each in found["products"]} == {
        ("numpy", "fp32"),
        ("torch", "fp32"),
        ("torch", "bf16"),
    }


def test_layers_are_asked_for_once_and_last(job: MakeJob) -> None:
    found = measure(job, rounds=1, per_layer=True)
    asked = [line for line in FakeWorker.log if not line.endswith("ended")]
    assert asked[-2:] == ["torch fp32 layers", "torch bf16 layers"]
    assert [(row["backend"], row["precision"], row["layer"]) for row in found["layers"]] == [
        ("torch", "fp32", "block1.conv"),
        ("torch", "bf16", "block1.conv"),
    ]


def test_one_that_dies_ends_the_others(job: MakeJob) -> None:
    with refused(BackendUnavailable, "dying: its process was ended by SIGSEGV"):
        session.measure([job(), job(backend="dying"), job()], Plan(rounds=3, product_size=16), lambda _: None)
    assert sum(line.endswith("ended") for line in FakeWorker.log) == 3
