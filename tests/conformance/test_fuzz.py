"""Random architectures in one framework against the float64 oracle: shapes, values, gradients, sometimes training too.

`--fuzz N` says how many, `--fuzz-seed S` which; 40 fixed ones without.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from strategies import architectures

from nin_multi import checks
from nin_multi.architecture_file import format_architecture
from nin_multi.backend import Backend
from nin_multi.spec import Architecture

FORWARD_AND_BACKWARD = ("parameters", "activations", "training")
IN_FULL = 16  # one architecture in so many goes through all checks; a framework that compiles takes seconds for it


def test_random_architectures_agree_with_the_oracle(backend: Backend, pytestconfig: pytest.Config) -> None:
    count, chosen = pytestconfig.getoption("--fuzz"), pytestconfig.getoption("--fuzz-seed")
    began, done, unclear = time.monotonic(), 0, 0
    furthest: dict[str, float] = {}

    @seed(chosen)
    # A failure is shown as it was drawn and made smaller; nothing is remembered from one run to the next.
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(architecture=architectures(), batch=st.integers(1, 4), number=st.integers(0, 2**32), pick=st.integers(0, 15))
    def agrees(architecture: Architecture, batch: int, number: int, pick: int) -> None:
        nonlocal done, unclear
        parts = checks.PARTS if pick == IN_FULL - 1 else FORWARD_AND_BACKWARD
        problem = checks.clear_problem(architecture, batch, number)
        truth = checks.find_truth(problem, 3 if parts is checks.PARTS else 0)
        precision = backend.precisions[0]
        report = checks.verify(backend, problem, truth, device="cpu", precision=precision, parts=parts)
        # Where no clear weights were found, float32 may rightly pass another gradient.
        findings = [finding for finding in report.findings if problem.is_clear or finding.check != "gradient"]
        assert not findings, f"{findings[0]}\n{format_architecture(architecture)}"
        for check, error in report.errors.items():
            furthest[check] = max(furthest.get(check, 0.0), error)
        done, unclear = done + 1, unclear + (not problem.is_clear)
        if done % 100 == 0:  # seen with pytest's -s, as `make fuzz` has it
            worst = ", ".join(f"{check} {error:.1e}" for check, error in furthest.items())
            seconds = time.monotonic() - began
            print(f"{backend.name}: {done:,} architectures, {unclear} unclear, {seconds:.0f} s; furthest: {worst}")

    agrees()
    assert done >= count, f"only {done} of {count} architectures were drawn"
