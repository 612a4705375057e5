"""Proof that the proof can fail: each mistake that people make is planted in each adapter, and `verify` has to find it.

It has to name the right layer and, first of all causes, the mistake itself. Nothing of this is in the product's code.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from mutations import (
    FRAMEWORKS,
    IN_PRODUCTS,
    IN_UNITS,
    MISSING,
    MISTAKABLE,
    MUTATIONS,
    PIECEWISE,
    SURVIVED,
    Mutation,
    Row,
    lay_out,
    set_side_by_side,
    to_plant,
)

from nin_multi import checks
from nin_multi.backend import Backend
from nin_multi.knobs import Tuning
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Conv2d, Linear

# The part of `verify` that makes each check: what comes after it need not be computed.
PART = {
    "parameters": "parameters",
    "activation": "activations",
    "loss": "training",
    "gradient": "training",
    "mode": "evaluation_after_training",
    "step": "step",
    "momentum": "momentum",
    "dropout": "native_dropout",
    "curve": "curve",
}
Case = tuple[checks.Problem, checks.Truth]
NO_CAUSE = "none named"
IN_PIECES: Tuning = {"micro_batch": "8"}  # of twelve images: the last piece is half as large


@pytest.fixture(scope="session")
def case() -> Case:
    """Four images, and two training steps at the end; weights that give every ReLU something to do."""
    problem = checks.clear_problem(MISTAKABLE, 4, seed=30)
    truth = checks.find_truth(problem, 2)
    assert problem.is_clear
    layers = [row.name for row in MISTAKABLE.walk() if isinstance(row.layer, (Conv2d, Linear))]
    assert [name for name in layers if not np.any(truth.activations[name] < 0)] == []
    return problem, truth


@pytest.fixture(scope="session")
def case_in_pieces() -> Case:
    """Twelve images."""
    problem = checks.clear_problem(PIECEWISE, 12)
    assert problem.is_clear
    return problem, checks.find_truth(problem, 2)


def find(
    backend: Backend, case: Case, parts: tuple[str, ...] = checks.PARTS, tuning: Tuning | None = None
) -> list[checks.Finding]:
    precision = backend.precisions[0]
    return checks.verify(backend, *case, device="cpu", precision=precision, parts=parts, tuning=tuning).findings


def test_without_a_mistake_nothing_is_found(backend: Backend, case: Case) -> None:
    assert find(backend, case) == []


def test_without_a_mistake_nothing_is_found_in_pieces(backend: Backend, case_in_pieces: Case) -> None:
    has_pieces = backend.knobs(PIECEWISE, device="cpu", precision=backend.precisions[0])
    assert find(backend, case_in_pieces, tuning=IN_PIECES if has_pieces else None) == []


def test_every_mistake_is_planted_where_none_is(backend: Backend, case: Case, case_in_pieces: Case) -> None:
    if backend.name in FRAMEWORKS:
        adapter: Any = import_module(f"mutations_{backend.name}")
        assert set(adapter.PLANTINGS) == {mutation.name for mutation in to_plant(backend.name)}
        with adapter.surroundings():
            assert find(backend, case, tuning=adapter.TUNING) == []
            assert find(backend, case_in_pieces, tuning={**adapter.TUNING, **IN_PIECES}) == []


def test_the_table_shows_what_survives_and_what_was_not_tried() -> None:
    first, second = MUTATIONS[0].name, MUTATIONS[1].name
    found = {name: [{"mutation": first, "where": "conv1.bias"}] for name in FRAMEWORKS}
    found["torch"] = [{"mutation": first, "where": SURVIVED}]
    rows = set_side_by_side(found)
    assert rows[0] == (first, SURVIVED, "conv1.bias", "conv1.bias")
    assert rows[1] == (second, MISSING, MISSING, MISSING)
    assert {row[1:] for row in rows if row[0] in {m.name for m in IN_PRODUCTS}} == {("-", MISSING, "-")}
    lines = list(lay_out(("mutation", *FRAMEWORKS), rows))
    assert max(map(len, lines)) <= 100
    assert len(rows) == len(MUTATIONS) + len(IN_PRODUCTS) + len(IN_UNITS)
    assert len(lines) == len(rows) + 1


class _Breaking(NumpyBackend):
    """Its nets raise where they are asked for gradients."""

    def build(self, *args: Any, **given: Any) -> Any:
        network = super().build(*args, **given)
        network.loss_and_gradients = self._refuse
        return network

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("no kernel for this shape\nand more")


def test_what_a_net_raises_is_a_finding_and_the_other_checks_go_on(case: Case) -> None:
    findings = find(_Breaking(), case)
    checked = [(finding.check, finding.where) for finding in findings]
    assert checked == [("gradient", "the net"), ("mode", "the net"), ("dropout", "the net")]
    assert {finding.observed for finding in findings} == {"RuntimeError: no kernel for this shape"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_is_found_and_named(
    backend: Backend,
    mutation: Mutation,
    case: Case,
    case_in_pieces: Case,
    monkeypatch: pytest.MonkeyPatch,
    mutation_rows: dict[str, list[Row]],
) -> None:
    adapter: Any = import_module(f"mutations_{backend.name}")
    in_pieces = mutation.case == PIECEWISE.name
    tuning = {**adapter.TUNING, **(IN_PIECES if in_pieces else {})}
    with adapter.surroundings():
        adapter.PLANTINGS[mutation.name](monkeypatch)
        first = find_first(backend, mutation, case_in_pieces if in_pieces else case, tuning)
    mutation_rows.setdefault(backend.name, []).append(row_of(mutation, first))
    assert_named(mutation, first)


def find_first(backend: Backend, mutation: Mutation, case: Case, tuning: Tuning) -> checks.Finding:
    """The first finding; what comes after the check that the mutation is for is not computed."""
    parts = checks.PARTS[: checks.PARTS.index(PART[mutation.check]) + 1]
    findings = find(backend, case, parts, tuning)
    return findings[0] if findings else checks.Finding(SURVIVED, SURVIVED, None, 0.0, "", "")


def row_of(mutation: Mutation, first: checks.Finding) -> Row:
    cause = first.causes[0] if first.causes else NO_CAUSE
    return {"mutation": mutation.name, "check": first.check, "where": first.where, "cause": cause}


def assert_named(mutation: Mutation, first: checks.Finding) -> None:
    assert (first.check, first.where) == (mutation.check, mutation.where), first
    assert (mutation.cause or NO_CAUSE) in row_of(mutation, first)["cause"], first
