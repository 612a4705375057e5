"""How often checkpoints are written, as people write it."""

from __future__ import annotations

import pytest
from strategies import refused

from nin_multi.errors import UsageError
from nin_multi.training.cadence import Cadence


@pytest.mark.parametrize(
    ("text", "cadence"),
    [
        ("1", Cadence(1, None)),
        ("100", Cadence(100, None)),
        ("90s", Cadence(None, 90.0)),
        ("5m", Cadence(None, 300.0)),
        ("1h", Cadence(None, 3600.0)),
        (" 200 , 5m ", Cadence(200, 300.0)),
        ("5m,200", Cadence(200, 300.0)),
        ("epoch", Cadence(None, None)),
    ],
)
def test_there_and_back(text: str, cadence: Cadence) -> None:
    assert Cadence.parse(text) == cadence
    assert Cadence.parse(cadence.show()) == cadence


@pytest.mark.parametrize("text", ["", "0", "-1", "5 minutes", "5d", "1e3", "100,", "٣", "9999999999", "0s", "epoch,5"])
def test_what_is_none(text: str) -> None:
    with refused(UsageError, "--checkpoint-every: expected a number of steps", f"got {text!r}"):
        Cadence.parse(text)


def test_whichever_comes_first() -> None:
    both = Cadence(100, 60.0)
    assert [both.is_due(*since) for since in ((99, 59.9), (100, 0.0), (1, 60.0))] == [False, True, True]
    assert not Cadence(None, None).is_due(10**6, 1e9)
    assert Cadence().is_due(1, 300.0)
