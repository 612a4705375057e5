"""`nin_multi.compare`: the same training in several frameworks, one process each, and what came of it as one object."""

from __future__ import annotations

import numbers
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from nin_multi import registry
from nin_multi.compare.comparison import Comparison
from nin_multi.compare.conductor import conduct
from nin_multi.compare.extras import Wishes, add_extras
from nin_multi.compare.plan import PATIENCE, Plan
from nin_multi.compare.sides import Side, ids_of, sides_of
from nin_multi.errors import UsageError
from nin_multi.launcher import ChildResult
from nin_multi.notebook import markup, screens, settings
from nin_multi.notebook.predictions import Predictions
from nin_multi.notebook.processes import fail, patience_of, stopped, working_python
from nin_multi.notebook.runs import FIGURES, Run, figures_of
from nin_multi.set_by_hand import tuning_of_each
from nin_multi.spec import Architecture

HEIGHT = 900  # pixels of a report in a cell
Arch = str | os.PathLike[str] | Architecture


class ComparedRuns:
    """Runs side by side; a notebook shows their report.

    Attributes:
        comparison: everything the report is made of, as plain values.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @property
    def runs(self) -> list[Run]:
        """Those that have begun, each by itself."""
        return [Run(Path(run["run_dir"])) for run in self.comparison["runs"] if run["run_dir"] is not None]

    @property
    def predictions(self) -> Predictions:
        """What each run's net took some test images for; a notebook shows them. Empty without `pictures`."""
        return Predictions(self.comparison)

    @property
    def table(self) -> list[dict[str, Any]]:
        """The figures of each run, for a data frame: None where there is none."""
        names = ("label", "backend", "arch", "precision", "seed", "status", "run_dir")
        return [
            {**{name: run[name] for name in names}, **{key: run["result"].get(key) for _, key, _ in FIGURES}}
            for run in self.comparison["runs"]
        ]

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write the report, its figures as Markdown and CSV beside it; the files. Raises RunError."""
        from nin_multi.report import write_report

        return write_report(self.comparison, Path(path))

    def __repr__(self) -> str:
        told = "; ".join(f"{run['label']}: {figures_of(run)}" for run in self.comparison["runs"])
        return f"<ComparedRuns {self.comparison['title']}; {told}>"

    def _repr_html_(self) -> str:
        from nin_multi.report import render_html

        return markup.frame(render_html(self.comparison), HEIGHT, self.comparison["title"])


def compare(
    backends: str | Sequence[str] = ("torch", "mindspore", "mxnet"),
    arch: Arch | Sequence[Arch] = "nin",
    *,
    dataset: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    momentum: float | None = None,
    init: str | None = None,
    warm_up: int | None = None,
    decay: str | None = None,
    final_relu: bool | None = None,
    dropout_rate: float | None = None,
    dropout: str | None = None,
    seed: int | Sequence[int] = 0,
    device: str | None = None,
    precision: str | Sequence[str] | None = None,
    train_examples: int | None = None,
    test_examples: int | None = None,
    set: Mapping[str, Any] | None = None,
    tune: str | None = None,
    allow_large: bool | None = None,
    tensorboard: bool | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
    python: Mapping[str, str] | None = None,
    together: bool = False,
    verify: bool = True,
    pictures: bool = True,
    patience: float | None = PATIENCE,
    **unknown: Any,
) -> ComparedRuns:
    """Train as `nin_multi compare` does, whose options these are, lists where it has commas; what came of it.

    A run for each backend, architecture, precision and seed, each in a process of its own, one after another or
    `together`. `python` names the Pythons of other environments by backend. `verify` asks each net how far it is from
    the float64 oracle, `pictures` what it makes of some test images.

    Raises TypeError for an unknown option, NinMultiError where nothing can be trained; KeyboardInterrupt, once all
    runs have ended well, where somebody stops them. One that fails takes no other with it.
    """
    options = settings.checked(locals(), "compare", others=("seed", "precision"))
    names = _several(backends, "backends", "names", str)
    if unknown_names := [name for name in python or {} if name not in names]:
        raise UsageError(f"python: expected some of {', '.join(names)}, got {unknown_names[0]!r}")
    pythons = {name: working_python(name, path) for name, path in (python or {}).items()}
    for name in names:
        if name not in pythons:
            registry.load(name)
    precisions = [None] if precision is None else _several(precision, "precision", "names", str)
    seeds = [int(one) for one in _several(seed, "seed", "whole numbers", numbers.Integral)]
    sides = {"backends": names, "precisions": precisions, "seeds": seeds}
    with ExitStack() as stack:
        archs = _several(arch, "arch", "names, files or architectures", (str, os.PathLike, Architecture))
        architectures = dict(stack.enter_context(settings.named(one)) for one in archs)
        plan = _plan(sides, architectures, pythons, options)
        data_dir = Path(options["data_dir"]) if "data_dir" in options else None
        wishes = Wishes(verify, pictures, pythons, data_dir, into_runs=True)
        whole, results = _run(plan, patience_of(patience), together, wishes)
    if all(run["status"] == "failed" for run in whole["runs"]):
        fail(results[0], whole["runs"][0])
    return ComparedRuns(whole)


def _several(value: Any, name: str, kinds: str, types: Any) -> list[Any]:
    """One or more, each once. Raises UsageError for anything else."""
    values = [value] if isinstance(value, types) else value
    if not isinstance(values, Sequence) or not values or not all(isinstance(one, types) for one in values):
        raise UsageError(f"{name}: expected one or more {kinds}, got {value!r}")
    return [one for index, one in enumerate(values) if one not in values[:index]]


def _plan(
    sides: Mapping[str, list[Any]],
    architectures: dict[str, Architecture],
    pythons: dict[str, str],
    options: dict[str, Any],
) -> Plan:
    """Raises UsageError, also for knobs that none of the backends has."""
    names, seeds = sides["backends"], sides["seeds"]
    given = ("dataset", "data_dir", "device", "runs_dir", "tune")
    knobs = [f"{knob}={value}" for knob, value in options.get("set", {}).items()]
    here = [name for name in names if name not in pythons]
    planned = sides_of(names, list(architectures), sides["precisions"], seeds, pythons)
    labels = [side.label.replace(side.arch, architectures[side.arch].name) for side in planned]  # no file's
    recipes = [settings.recipe_of({**options, "seed": seed}) for seed in seeds]  # each seed is looked at here
    return Plan(
        list(map(_called, planned, labels, ids_of(labels))),
        architectures,
        recipes[0],
        flags={settings.flag(name): options.get(name) for name in given},
        switches=[settings.flag(name) for name in ("allow_large", "tensorboard") if options.get(name)],
        tunings=tuning_of_each(here, next(iter(architectures.values())), knobs, options.get("device")),
        repeat=_repeat(sides, architectures, options),
    )


def _called(side: Side, label: str, name: str) -> Side:
    return replace(side, label=label, id=name)


def _repeat(sides: Mapping[str, list[Any]], architectures: Mapping[str, Architecture], options: dict[str, Any]) -> str:
    """The command that does the same, but for where things lie here."""
    given = {**sides, "archs": [settings.shown(word) for word in architectures]}
    flags = {"backends": "--backend", "archs": "--arch", "seeds": "--seed", "precisions": "--precision"}
    words = [f"{flag}={','.join(map(str, given[name]))}" for name, flag in flags.items() if given[name] != [None]]
    elsewhere = ("data_dir", "runs_dir", "tensorboard")
    further = settings.words_of({name: value for name, value in options.items() if name not in elsewhere})
    return shlex.join(["nin_multi", "compare", *words, *further])


def _run(plan: Plan, patience: float, together: bool, wishes: Wishes) -> tuple[Comparison, list[ChildResult]]:
    """All runs to their ends, and what is shown beside them."""
    board = plan.board()
    with screens.choose(plan.sides, board, screens.all_curves) as screen:
        board.audience.append(screen)
        try:
            results = conduct(
                plan.sides, plan.command, board, epochs=plan.recipe.epochs, patience=patience, together=together
            )
            whole = plan.comparison(board, over=True)
            if any(run["status"] != "failed" for run in whole["runs"]):
                add_extras(whole, list(plan.architectures.values()), wishes, screens.teller(screen))
        except KeyboardInterrupt:
            stopped(board)
            left = board.what_is_left() or "it was before a training began, and nothing is left of it"
            raise KeyboardInterrupt(f"stopped; {left}") from None
    return whole, results
