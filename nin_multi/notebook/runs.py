"""A run directory as an object of Python: its figures, its curve, its parameters; a notebook shows it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nin_multi.compare.stored import stored_run
from nin_multi.errors import RunError
from nin_multi.notebook import markup
from nin_multi.run_story import read_story
from nin_multi.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from nin_multi.backend import Params
    from nin_multi.spec import Architecture
    from nin_multi.training.recipe import Recipe


class Svg(str):
    """The text of an SVG, which a notebook shows as a picture."""

    def _repr_svg_(self) -> str:
        return str(self)


class Run:
    """One run on disk, as it stands whenever it is asked; `open_run` gives one.

    Attributes:
        path: its directory.
    """

    def __init__(self, path: Path, shown_in: int | None = None) -> None:
        self.path = path
        self._directory = RunDirectory.open(path)
        self._shown_in = shown_in  # the cell of the notebook that has its curve already

    @property
    def facts(self) -> dict[str, Any]:
        """run.json: what was trained, how, with what."""
        return self._directory.facts()

    @property
    def result(self) -> dict[str, Any]:
        """result.json: how it ended; empty as long as it has not."""
        return self._directory.result()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All points of its curve, ends of epochs, and what its layers gave."""
        return self._directory.events()

    @property
    def architecture(self) -> Architecture:
        """The net that was trained."""
        return self._directory.architecture()

    @property
    def recipe(self) -> Recipe:
        """How it was trained."""
        return self._directory.recipe()

    @property
    def status(self) -> str:
        """One of done, interrupted, diverged, running, unfinished."""
        return str(self._stored()["status"])

    def curve(self) -> Svg:
        """Loss and accuracies over epochs, as SVG."""
        return curve_of(self._stored())

    def params(self) -> Params:
        """Name -> array of the net's parameters: its weights, or those of its last whole checkpoint."""
        from nin_multi.looking import last_parameters

        found = last_parameters(self._directory, read_story(self._directory))
        if isinstance(found, str):
            raise RunError(f"{self.path}: {found}")
        return found

    def _stored(self) -> dict[str, Any]:
        return stored_run(self.path)[0]

    def __repr__(self) -> str:
        run = self._stored()
        return f"<Run {self.path}: {run['arch']} on {run['backend']}, {figures_of(run)}>"

    def _repr_html_(self) -> str:
        from nin_multi.notebook.screens import current_cell

        run = self._stored()
        parts = [figures_table([run]), *endings(run)]
        # Directly below its own live curve, a second one would only be the same.
        if self._shown_in is None or self._shown_in != current_cell():
            parts.insert(0, markup.picture(curve_of(run), "curve"))
        return markup.block(*parts, markup.line(str(self.path), weak=True))


def open_run(path: str | os.PathLike[str]) -> Run:
    """The run in a directory. Raises RunError where none is."""
    return Run(Path(path))


def curve_of(run: dict[str, Any]) -> Svg:
    """Of a run as a comparison has it."""
    from nin_multi.drawing.curve import draw_curve

    data = run["dataset"].get("title", run["dataset"].get("name", ""))
    title = f"{run['arch']}{f' on {data}' if data else ''}, {run['backend']}"
    return Svg(draw_curve(run["events"], run["epochs"], title).decode())


FIGURES = (
    *(("loss", "loss", "{:.3f}"), ("train acc", "train_acc", "{:.3f}"), ("test acc", "test_acc", "{:.3f}")),
    *(("images/s", "examples_per_sec", "{:,.1f}"), ("compute", "compute_examples_per_sec", "{:,.1f}")),
)


def shown_figures(run: dict[str, Any]) -> list[str]:
    """What it came to, as FIGURES have it; a dash where it is not known."""
    found = run["result"]
    return ["-" if found.get(key) is None else form.format(found[key]) for _, key, form in FIGURES]


def figures_of(run: dict[str, Any]) -> str:
    """The same in a line."""
    told = [f"{name} {text}" for (name, _, _), text in zip(FIGURES, shown_figures(run), strict=True) if text != "-"]
    return ", ".join([run["status"], *told[:4]])


def figures_table(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each run."""
    rows = []
    for run in runs:
        name = run["label"] or f"{run['backend']} {run['framework_version'] or ''}"
        texts = [name, run["status"], *shown_figures(run)]
        rows.append(markup.row([markup.cell(escape(text), right=i > 1) for i, text in enumerate(texts)]))
    names = [name for name, _, _ in FIGURES]
    return markup.table(["", "", *names], rows, right=names)


def endings(run: dict[str, Any]) -> list[str]:
    """Why a run is not done, and how to go on with it."""
    if run["status"] == "done":
        return []
    label = f"{run['label']}: " if run["label"] else ""
    reason = str(run["reason"]).removeprefix(f"{run['backend']}: ")
    told = [markup.lines([label + reason])] if reason else []
    return told + ([markup.line(f"{label}to go on: {way_on(run)}")] if run["to_go_on"] else [])


def way_on(run: dict[str, Any]) -> str:
    """What goes on with it, here and on a command line."""
    return f"nin_multi.train(resume={run['run_dir']!r}), or {run['to_go_on']}"
