"""Proof that the proof can fail in MindSpore's product form, too: its own mistakes, each found in the right place.

Its backward passes are written by hand, where the other adapters leave them to their frameworks.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from mutations import IN_PRODUCTS, LEVEL, Mutation, Row, to_plant
from test_mutations import Case, assert_named, case, find, find_first, row_of

from nin_multi import checks
from nin_multi.backend import Backend

__all__ = ["case"]  # a fixture


@pytest.fixture(scope="session")
def level_case() -> Case:
    """Images that are level around a spot, so that pools find equal values, each of the same pixels."""
    problem = checks.clear_problem(LEVEL, 4)
    x = np.full_like(problem.x, 0.5)
    x[:, :, 3:6, 5:8] = problem.x[:, :, 3:6, 5:8]
    problem = replace(problem, x=x)
    return problem, checks.find_truth(problem, 2)


def test_equal_values_are_no_mistake(backend: Backend, level_case: Case) -> None:
    """Whichever of them a framework takes, the gradient is the same."""
    convolved = level_case[1].activations["conv1"]
    assert len(np.unique(convolved.round(9))) < convolved.size / 2
    assert find(backend, level_case) == []


def test_every_mistake_is_planted_where_none_is(backend: Backend, case: Case, level_case: Case) -> None:
    if backend.name == "mindspore":
        adapter: Any = import_module("mutations_products")
        assert set(adapter.PLANTINGS) == {mutation.name for mutation in to_plant(backend.name, IN_PRODUCTS)}
        with adapter.surroundings():
            assert find(backend, case, tuning=adapter.TUNING) == []
            assert find(backend, level_case, tuning=adapter.TUNING) == []


@pytest.mark.parametrize("mutation", IN_PRODUCTS, ids=lambda mutation: mutation.name)
def test_a_mistake_is_found(
    backend: Backend,
    mutation: Mutation,
    case: Case,
    level_case: Case,
    monkeypatch: pytest.MonkeyPatch,
    mutation_rows: dict[str, list[Row]],
) -> None:
    adapter: Any = import_module("mutations_products")
    with adapter.surroundings():
        adapter.PLANTINGS[mutation.name](monkeypatch)
        first = find_first(backend, mutation, level_case if mutation.case == LEVEL.name else case, adapter.TUNING)
    mutation_rows.setdefault(backend.name, []).append(row_of(mutation, first))
    assert_named(mutation, first)
