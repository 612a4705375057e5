"""What a worker answers, from steps really taken, in this process; and workers as processes, whatever ends them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strategies import refused

from nin_multi import launcher
from nin_multi.bench import worker
from nin_multi.bench.job import Job
from nin_multi.bench.workers import Worker
from nin_multi.errors import BackendUnavailable, CheckpointError, UsageError
from nin_multi.oracle import NumpyNetwork

MakeJob = Callable[..., Job]


def ask(job: Job, *questions: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of a worker in this process, that to the job first."""
    answers: list[dict[str, Any]] = []
    worker.serve(iter([job.to_json(), *map(json.dumps, questions)]), answers.append)
    return json.loads(json.dumps(answers))  # type: ignore[no-any-return]


def test_a_job_comes_through_json(job: MakeJob) -> None:
    one = job(tuning={"micro_batch": "8"}, device="cpu", tune="auto")
    assert "\n" not in one.to_json()
    assert Job.from_json(one.to_json()) == one


def test_what_was_built_is_told_first(job: MakeJob) -> None:
    (answer,) = ask(job())
    facts = answer["ready"]
    assert (facts["device"], facts["tuning"], facts["warm_up_steps"]) == ("cpu", {}, 1)
    assert facts["versions"]["numpy"] == facts["framework_version"]


@pytest.mark.parametrize(
    ("what", "steps", "images", "sizes"),
    [
        ("step", 3, 24, [8, 8, 8]),
        ("bare", 2, 16, [8, 8]),
        ("harness", 2, 16, [8, 8]),
        ("harness", 9, 20, [8, 8, 4]),  # no more images than there are
        ("data", 2, 16, []),
    ],
)
def test_images_are_those_of_steps_that_were_taken(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch, what: str, steps: int, images: int, sizes: list[int]
) -> None:
    taken: list[int] = []
    original = NumpyNetwork.train_step

    def train_step(self: NumpyNetwork, x: Any, y: Any, *rest: Any, **more: Any) -> Any:
        taken.append(len(y))
        return original(self, x, y, *rest, **more)

    monkeypatch.setattr(NumpyNetwork, "train_step", train_step)
    _, answer = ask(job(), {"ask": what, "steps": steps})
    assert answer["images"] == images
    assert answer["seconds"] > 0
    assert answer["peak_memory_bytes"] > 1_000_000
    assert taken == sizes


def test_the_harness_and_the_step_train_one_network(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    nets: list[int] = []
    original = NumpyNetwork.train_step
    monkeypatch.setattr(NumpyNetwork, "train_step", lambda self, *rest: nets.append(id(self)) or original(self, *rest))
    ask(job(), *({"ask": what, "steps": 1} for what in ("harness", "step", "bare")))
    assert nets[0] == nets[1] != nets[2]


def test_products_and_layers(job: MakeJob) -> None:
    _, product, layers = ask(job(), {"ask": "product", "size": 16, "times": 4}, {"ask": "layers", "repeats": 2})
    assert len(product["seconds"]) == 4
    assert min(product["seconds"]) > 0
    names = ["block1.conv", "block1.relu", "block1.mlp1", "block1.relu1", "block1.mlp2", "block1.relu2"]
    assert [name for name, _, _ in layers["layers"]] == [*names, "global_avg_pool1", "flatten1"]


def test_errors_before_anything_is_measured(job: MakeJob) -> None:
    with refused(BackendUnavailable, "fp8"):
        ask(job(precision="fp8"))
    with refused(BackendUnavailable, "gpu:7"):
        ask(job(device="gpu:7"))
    with refused(BackendUnavailable, "numpy: the book"):
        ask(job(whats=("book",)))
    with refused(UsageError, "micro_batch"):
        ask(job(tuning={"micro_batch": "3"}))


# --- real processes --------------------------------------------------------------------------------------------------


def test_a_worker_answers_and_ends(job: MakeJob) -> None:
    with Worker(job()) as started:
        assert started.facts["device"] == "cpu"
        assert started.ask({"ask": "step", "steps": 2})["images"] == 16
        pid = started._process.pid
    assert started._process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_workers_error_is_its_own_words(job: MakeJob) -> None:
    with refused(BackendUnavailable, "numpy: the book has no code"):
        Worker(job(whats=("book",)))


def test_a_worker_that_dies(job: MakeJob) -> None:
    with Worker(job()) as started:
        os.kill(started._process.pid, signal.SIGKILL)
        with refused(BackendUnavailable, "numpy: its process was ended by SIGKILL"):
            started.ask({"ask": "step", "steps": 1})


def test_a_worker_that_is_left_in_the_middle(job: MakeJob) -> None:
    """As Ctrl-C does it: the session leaves by an exception while the worker computes, and nothing of it stays."""

    class LeftError(Exception):
        pass

    def leave() -> None:
        with Worker(job()) as started:
            seen.append(started)
            started._say(json.dumps({"ask": "step", "steps": 10**9}))
            time.sleep(0.2)
            raise LeftError

    seen: list[Worker] = []
    with pytest.raises(LeftError):
        leave()
    assert seen[0]._process.returncode is not None


def test_the_books_worker_has_the_environment_of_a_reader(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in launcher.environment_for("mindspore").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NIN_TEST_OWN", "kept")
    added = os.environ[launcher.ADDED].split(",")
    plain = launcher.plain_environment()
    assert added
    assert not {launcher.MARK, launcher.ADDED, *added} & set(plain)
    assert plain["NIN_TEST_OWN"] == "kept"
    given: list[Any] = []

    def popen(*arguments: Any, env: Any, **more: Any) -> Any:
        given.append(env)
        raise CheckpointError("no process for this test")

    monkeypatch.setattr("nin_multi.bench.workers.subprocess.Popen", popen)
    for whats in (("book",), ("step",)):
        with pytest.raises(CheckpointError):
            Worker(job(backend="mindspore", precision="fp32", whats=whats))
    assert given[0] == plain
    assert given[1] == launcher.environment_for("mindspore", "fp32", {})


def test_what_a_framework_prints_is_no_answer(job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from nin_multi.oracle import NumpyNetwork as N\nold = N.train_step\n"
    program += "def new(self, *a):\n    import os; print('loud'); os.system('echo louder'); return old(self, *a)\n"
    (tmp_path / "sitecustomize.py").write_text(program + "N.train_step = new\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker(job()) as started:
        assert started.ask({"ask": "step", "steps": 1})["images"] == 8
