"""Every parser of outside input, a few hundred times: only documented errors, in good words, quickly, in little memory.

`make fuzz-input N=10000` for a long one. What is found becomes a test of that very input beside its parser's own.
"""

from __future__ import annotations

import importlib
from functools import cache

import pytest
from fuzz_harness import Parser, Tally
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from run import MODULES

from nin_multi.errors import DataError, SpecError

INPUTS = 200


@cache
def parser(name: str) -> Parser:
    found: Parser = next(each for each in importlib.import_module(MODULES[name]).PARSERS if each.name == name)
    return found


def fuzz(which: Parser, count: int = INPUTS) -> Tally:
    tally = Tally()

    @seed(0)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(which.inputs)
    def examine(data: bytes) -> None:
        tally.examine(which, data)

    examine()
    return tally


@pytest.mark.parametrize("name", MODULES)
def test_only_documented_errors_come_out(name: str) -> None:
    tally = fuzz(parser(name))
    assert tally.inputs >= INPUTS
    assert len(tally.outcomes) >= 2, "all inputs end alike: none is near enough to a valid one, or none is damaged"


@pytest.mark.parametrize("name", MODULES)
def test_what_is_valid_is_accepted(name: str) -> None:
    which, tally = parser(name), Tally()
    for content in which.seeds:
        tally.examine(which, which.frame(content))
    assert {word for word in tally.outcomes if word in ("accepted", "exit 0")}, tally.outcomes


# --- the fuzzers can fail --------------------------------------------------------------------------------------------


def broken(fault: str) -> Parser:
    """A parser that refuses empty input by the right error, and does otherwise what no parser may."""

    def parse(data: bytes) -> str:
        if not data:
            raise DataError("nothing there")
        if b"\xff" in data:
            match fault:
                case "traceback":
                    raise IndexError("of our own making")
                case "another error":
                    raise SpecError("of another kind")
                case "three lines":
                    raise DataError("a\nb\nc")
                case "a terminal cannot show it":
                    raise DataError("\ud800")
                case "hang":
                    while True:
                        pass
                case "memory":
                    bytearray(data[:1] * 100_000_000)
        return "accepted"

    return Parser("broken", parse, (DataError,), [b"\xff"], st.binary(max_size=3) | st.just(b"\xff"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("traceback", "of our own making"),
        ("another error", "of another kind"),
        ("three lines", "a\\\\nb\\\\nc"),
        ("a terminal cannot show it", "surrogates not allowed"),
        ("hang", "takes over"),
        ("memory", "MB"),
    ],
)
def test_a_broken_parser_is_found(fault: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_harness.SECONDS", 0.5)
    monkeypatch.setattr("fuzz_harness.MEMORY", 50_000_000)
    with pytest.raises(Exception, match=words):
        fuzz(broken(fault), 50)
    fuzz(broken("none"), 50)
