"""What a comparison shows on stderr while it runs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nin_multi.compare import screen
from nin_multi.compare.screen import Bars, Lines, choose_screen, facts_of
from nin_multi.compare.sides import Side, sides_of

NOW = {"loss": 0.4321, "train_acc": 0.87654, "examples_per_sec": 203.4}
TRAINING = {"status": "training", "step": 30, "steps": 120, "epoch": 1, "epochs": 2, "now": NOW, "seconds_left": 80.0}


@pytest.fixture
def sides() -> list[Side]:
    return sides_of(["torch", "mindspore", "mxnet"], ["nin"], [None], [0], {})


def test_lines(sides: list[Side], capsys: pytest.CaptureFixture[str]) -> None:
    """Behind the label of whoever said it; an end at once, with why and what then."""
    with Lines(sides) as lines:
        lines.change(sides[0], {"status": "starting"})
        lines.note(sides[1], "a word [of] it")
        lines.change(sides[1], {"status": "failed", "reason": "mindspore: it fell", "to_go_on": "nin_multi again"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "torch      starts",
        "mindspore  a word [of] it",
        "mindspore  failed: it fell",
        "mindspore  to go on: nin_multi again",
    ]


def test_lines_of_points_are_few(
    sides: list[Side], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    lines = Lines(sides)
    for step in range(5):
        lines.point(sides[0], {"event": "step", "step": step, "loss": 0.5, "train_acc": 0.25})
        now[0] += 1.0
    lines.point(sides[0], {"event": "layers", "step": 5})
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["0:", "2:", "4:"]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({}, "waiting"),
        ({"status": "measuring", "step": None}, "measuring"),
        (TRAINING, "epoch 1/2  loss 0.432  acc 0.877  203/s  80 s left"),
        ({"status": "training"}, "training"),
        ({"status": "done", "result": {"test_acc": 0.9}}, "done  test acc 0.900"),
        ({"status": "failed", "result": {}}, "failed"),
        ({"status": "diverged", "result": {"test_acc": None}}, "diverged"),
    ],
)
def test_half_a_line(run: dict[str, Any], words: str) -> None:
    assert facts_of(run) == words


def test_bars_fit_80_columns(sides: list[Side], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each run, whole, with everything on it."""
    shown = io.StringIO()
    bars = Bars(sides)
    console = Console(file=shown, width=80, force_terminal=False)
    for side in sides[:2]:
        bars.change(side, TRAINING | {"epochs": 10})
    console.print(bars._bars.get_renderable())
    lines = shown.getvalue().splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert "epoch 1/10  loss 0.432  acc 0.877  203/s  80 s left" in lines[1]
    assert lines[1].startswith("mindspore")
    assert lines[2].endswith("waiting") or lines[2].rstrip().endswith("waiting")


def test_bars_where_there_is_a_terminal(sides: list[Side], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert type(choose_screen(sides)) is Lines
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(choose_screen(sides)) is Bars
