"""Knobs: how a batch is cut into pieces, and which value each knob has."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import refused

from nin_multi import knobs
from nin_multi.errors import UsageError
from nin_multi.knobs import Knob, complete_tuning, micro_batch_knob, micro_batches

TWO = (Knob("layout", ("wide", "tall")), micro_batch_knob("16"))


def test_the_examples_hold() -> None:
    assert doctest.testmod(knobs) == (0, 1)


@pytest.mark.parametrize("default", ["all", "16", "32"])
def test_the_default_comes_first_and_nothing_twice(default: str) -> None:
    values = micro_batch_knob(default).values
    assert values[0] == default
    assert sorted(values) == sorted({"all", "8", "16", "32", "64"})


@given(count=st.integers(1, 300), size=st.sampled_from(["all", "8", "16", "32", "64"]))
def test_pieces_are_the_batch_in_its_order(count: int, size: str) -> None:
    pieces = micro_batches(count, {"micro_batch": size})
    assert [i for piece in pieces for i in range(count)[piece]] == list(range(count))
    lengths = [piece.stop - piece.start for piece in pieces]
    assert all(length == (count if size == "all" else int(size)) for length in lengths[:-1])
    assert lengths[-1] > 0


def test_what_is_not_chosen_has_its_default() -> None:
    assert complete_tuning(TWO, None) == {"layout": "wide", "micro_batch": "16"}
    assert complete_tuning(TWO, {"layout": "tall"}) == {"layout": "tall", "micro_batch": "16"}


def test_knobs_and_values_that_there_are_not() -> None:
    with refused(UsageError, "expected one of these knobs: layout, micro_batch; got 'colour'"):
        complete_tuning(TWO, {"colour": "red"})
    with refused(UsageError, "layout: expected one of wide, tall; got 'red'"):
        complete_tuning(TWO, {"layout": "red"})
    with refused(UsageError, "these knobs: none"):
        complete_tuning((), {"layout": "wide"})
