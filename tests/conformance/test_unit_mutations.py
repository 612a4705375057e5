"""Proof that the proof can fail for maxout, normalization and units, too: each mistake found in the right layer.

That a layer has one activation, however much goes on inside it, must not keep a mistake in there from being named.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from mutations import FRAMEWORKS, IN_UNITS, UNITS, Mutation, Row, to_plant
from test_mutations import Case, assert_named, find, find_first, row_of

from nin_multi import checks
from nin_multi.backend import Backend


@pytest.fixture(scope="session")
def unit_case() -> Case:
    """Four images, and two training steps at the end."""
    problem = checks.clear_problem(UNITS, 4)
    assert problem.is_clear
    return problem, checks.find_truth(problem, 2)


def test_without_a_mistake_nothing_is_found(backend: Backend, unit_case: Case) -> None:
    assert find(backend, unit_case) == []


def test_every_mistake_is_planted_where_none_is(backend: Backend, unit_case: Case) -> None:
    if backend.name in FRAMEWORKS:
        adapter: Any = import_module(f"mutations_units_{backend.name}")
        assert set(adapter.PLANTINGS) == {mutation.name for mutation in to_plant(backend.name, IN_UNITS)}
        with adapter.surroundings():
            assert find(backend, unit_case, tuning=adapter.TUNING) == []


@pytest.mark.parametrize("mutation", IN_UNITS, ids=lambda mutation: mutation.name)
def test_a_mistake_is_found_and_named(
    backend: Backend,
    mutation: Mutation,
    unit_case: Case,
    monkeypatch: pytest.MonkeyPatch,
    mutation_rows: dict[str, list[Row]],
) -> None:
    adapter: Any = import_module(f"mutations_units_{backend.name}")
    with adapter.surroundings():
        adapter.PLANTINGS[mutation.name](monkeypatch)
        first = find_first(backend, mutation, unit_case, adapter.TUNING)
    mutation_rows.setdefault(backend.name, []).append(row_of(mutation, first))
    assert_named(mutation, first)
