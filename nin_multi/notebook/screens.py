"""What is seen of runs while they go on: in a notebook one output that changes in place, elsewhere lines or bars."""

from __future__ import annotations

import importlib
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from nin_multi.compare.board import Board
from nin_multi.compare.screen import OVER, Screen, choose_screen, facts_of
from nin_multi.compare.sides import Side
from nin_multi.notebook import markup
from nin_multi.notebook.runs import curve_of, endings, figures_of, figures_table

SECONDS = 1.0  # between two looks: drawing takes a tenth of one
Runs = Mapping[str, dict[str, Any]]


def _shell() -> Any:
    """IPython's, if it is one that can show pictures; whoever has not imported IPython is not in it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return None if shell is None or type(shell).__name__ == "TerminalInteractiveShell" else shell


def current_cell() -> int | None:
    """The number of the notebook's cell that is being run; None outside a notebook."""
    shell = _shell()
    return None if shell is None else int(shell.execution_count)


def choose(sides: Sequence[Side], board: Board, picture: Callable[[Runs], str]) -> Screen:
    """A screen for a notebook where this is one, else bars on a terminal and lines elsewhere."""
    return choose_screen(sides) if _shell() is None else Live(board.runs, picture)


def teller(screen: Screen) -> Callable[[str], None]:
    """Says a line about all runs there."""
    return screen.tell if isinstance(screen, Live) else lambda text: print(text, file=sys.stderr, flush=True)


@dataclass
class _Said:
    """What a run has said, and of it what is no header and no line of an epoch: that is for now."""

    lines: list[str] = field(default_factory=list)
    news: list[str] = field(default_factory=list)

    def add(self, text: str, status: str) -> None:
        self.lines.append(text)
        is_usual = status in ("starting", "measuring") or text.startswith("epoch ")
        self.news = [text] if is_usual else [*self.news, text]


class Live:
    """One output of a cell: a picture of all runs, and where each of them stands."""

    def __init__(self, runs: Runs, picture: Callable[[Runs], str]) -> None:
        self._runs, self._picture = runs, picture
        self._said = {name: _Said() for name in runs}
        self._display: Any = importlib.import_module("IPython.display")
        self._id = f"nin-multi-{uuid.uuid4().hex}"
        self._shown = -SECONDS
        self._drawn: tuple[list[Any], str] = ([], "")
        self._text = ""
        self._told: list[str] = []  # of all runs

    def note(self, side: Side, text: str) -> None:
        self._said[side.id].add(text, str(self._runs[side.id]["status"]))
        self._show_soon()

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        if "status" in fields:
            self._show()
        else:
            self._show_soon()

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        self._show_soon()

    def tell(self, text: str) -> None:
        """A line about all of them, for now."""
        self._told.append(text)
        self._text = text
        self._show()

    def __enter__(self) -> Live:
        self._shown = time.monotonic()
        self._display.display(self._content(), raw=True, display_id=self._id)
        return self

    def __exit__(self, *_: object) -> None:
        self._text = ""
        self._show()

    def _show_soon(self) -> None:
        if time.monotonic() - self._shown >= SECONDS:
            self._show()

    def _show(self) -> None:
        content = self._content()
        self._shown = time.monotonic()  # after drawing, which is to leave time for the runs
        self._display.update_display(content, raw=True, display_id=self._id)

    def _content(self) -> dict[str, str]:
        runs = list(self._runs.values())
        parts = [self._curve(), self._stand(runs)]
        for run in runs:
            parts += endings(run) if run["status"] in OVER else self._news(run)
        parts += [markup.line(self._text)] if self._text else []
        parts += [self._all_said(runs)]
        return {"text/html": markup.block(*parts), "text/plain": "\n".join(map(_in_words, runs))}

    def _news(self, run: dict[str, Any]) -> list[str]:
        label = f"{run['label']}  " if len(self._runs) > 1 else ""
        news = [label + line for line in self._said[run["id"]].news]
        return [markup.lines(news)] if news else []

    def _curve(self) -> str:
        """Drawn anew only where there are new points, or it has become known what a run trains on."""
        state = [(len(run["events"]), run["dataset"]) for run in self._runs.values()]
        if state != self._drawn[0]:
            try:
                self._drawn = state, self._picture(self._runs)
            except Exception as error:  # whatever a picture lacks is no reason to end a training
                self._drawn = state, markup.line(f"The curve cannot be drawn: {error}")
        return self._drawn[1]

    @staticmethod
    def _stand(runs: Sequence[dict[str, Any]]) -> str:
        """Bars while something is going on, figures in the end."""
        if all(run["status"] in OVER for run in runs):
            return figures_table(runs)
        rows = []
        for run in runs:
            share = 1.0 if run["status"] in OVER else (run["step"] or 0) / (run["steps"] or 1)
            texts = (escape(run["label"]), markup.bar(share), escape(_facts(run)))
            rows.append(markup.row([markup.cell(text) for text in texts]))
        return markup.table(["", "", ""], rows)

    def _all_said(self, runs: Sequence[dict[str, Any]]) -> str:
        """Whatever the runs have said, behind a line that opens it."""
        said = [f"{run['label']}  {line}" for run in runs for line in self._said[run["id"]].lines] + self._told
        summary = '<summary style="cursor: pointer; opacity: 0.75">messages</summary>'
        return f"<details>{summary}{markup.lines(said)}</details>" if said else ""


def _facts(run: dict[str, Any]) -> str:
    """Where it stands, in half a line."""
    return figures_of(run) if run["status"] in OVER else facts_of(run)


def _in_words(run: dict[str, Any]) -> str:
    return f"{run['label']}: {_facts(run)}"


def one_curve(runs: Runs) -> str:
    """The book's picture of a single run; nothing before its first point."""
    (run,) = runs.values()
    return markup.picture(curve_of(run), "curve") if _has_points(run) else ""


def all_curves(runs: Runs) -> str:
    """Loss and accuracy of several runs."""
    from nin_multi.notebook.curves import draw_curves

    begun = [run for run in runs.values() if _has_points(run)]
    return markup.picture(draw_curves(begun), "curves") if begun else ""


def _has_points(run: dict[str, Any]) -> bool:
    return any(event.get("event") == "step" for event in run["events"])
