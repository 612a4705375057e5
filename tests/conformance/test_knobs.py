"""Whatever is chosen in how a net is computed, it is the same net: every value of every knob keeps float32's bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
from test_conformance import EVERYTHING

from nin_multi import checks, registry
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend
from nin_multi.checks import Problem, Truth
from nin_multi.launcher import environment_for

NETS = {"everything": EVERYTHING, "nin-mnist": load_architecture("nin-mnist")}
# Micro-batches of 8 are then a whole one and a part of one.
BATCH, STEPS = 10, 2


@dataclass(frozen=True)
class Choice:
    """One value of one knob, in one backend and for one net."""

    backend: str
    net: str
    knob: str
    value: str
    is_measured: bool

    def __str__(self) -> str:
        return f"{self.backend}-{self.net}-{self.knob}={self.value}"


def _choices() -> Iterator[Choice]:
    for name in registry.available():
        backend = registry.load(name)
        for net, architecture in NETS.items():
            for knob in backend.knobs(architecture, device="cpu", precision=backend.precisions[0]):
                for value in knob.values[1:]:
                    # Micro-batches that hold the whole batch are "all", which every other test has.
                    if not (knob.name == "micro_batch" and value.isdecimal() and int(value) >= BATCH):
                        yield Choice(name, net, knob.name, value, knob.measured)


@lru_cache
def _posed(net: str) -> tuple[Problem, Truth]:
    problem = checks.clear_problem(NETS[net], BATCH)
    return problem, checks.find_truth(problem, STEPS)


@pytest.mark.parametrize("choice", list(_choices()), ids=str)
def test_the_same_net(backend: Backend, choice: Choice, tmp_path: Path) -> None:
    problem, truth = _posed(choice.net)
    if choice.is_measured:
        place = {"device": "cpu", "precision": backend.precisions[0]}
        report = checks.verify(backend, problem, truth, **place, tuning={choice.knob: choice.value})
        assert report.findings == []
    else:  # it may hang on the environment that a process starts with
        assert _in_a_process_of_its_own(choice, problem, truth, tmp_path)["divergences"] == []
    assert problem.is_clear


def test_what_a_framework_says_of_itself(backend: Backend) -> None:
    facts = backend.facts()
    assert all(isinstance(value, str) for value in facts.values())
    if "threads" in facts:  # this process has the environment that the backend asks for
        assert facts["threads"] == os.environ.get("OMP_NUM_THREADS", facts["threads"])


def _in_a_process_of_its_own(choice: Choice, problem: Problem, truth: Truth, folder: Path) -> dict[str, list[str]]:
    checks.truth.save(folder, problem, truth)
    command = ["verify", "--backend", choice.backend, "--set", f"{choice.knob}={choice.value}", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-m", "nin_multi", *command, "--truth", str(folder), "--json"],
        env=environment_for(choice.backend, tuning={choice.knob: choice.value}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.stdout, ended.stderr
    answer = json.loads(ended.stdout)
    assert "backends" in answer, answer
    (report,) = answer["backends"].values()
    return dict(report)
