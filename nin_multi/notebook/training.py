"""`nin_multi.train`: one training run, in a process of its own in its backend's environment, its curve as it grows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nin_multi import registry
from nin_multi.compare.board import Board
from nin_multi.compare.conductor import conduct
from nin_multi.compare.plan import PATIENCE
from nin_multi.compare.sides import Side
from nin_multi.errors import UsageError
from nin_multi.notebook import screens, settings
from nin_multi.notebook.processes import fail, patience_of, stopped, working_python
from nin_multi.notebook.runs import Run, way_on
from nin_multi.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from nin_multi.spec import Architecture


def train(
    backend: str | None = None,
    arch: str | os.PathLike[str] | Architecture | None = None,
    *,
    input: str | tuple[int, int, int] | None = None,
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
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    train_examples: int | None = None,
    test_examples: int | None = None,
    set: Mapping[str, Any] | None = None,
    tune: str | None = None,
    checkpoint_every: str | int | None = None,
    allow_large: bool | None = None,
    tensorboard: bool | None = None,
    workers: int | None = None,
    port: int | None = None,
    join_timeout: float | None = None,
    restarts: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    python: str | None = None,
    patience: float | None = PATIENCE,
    **unknown: Any,
) -> Run:
    """Train as `nin_multi train` does, whose options these are; the run that came of it.

    It runs in a process of its own, so that no framework comes into this one. What is None is as the command has it.
    With `resume`, the directory of a run, it is gone on with. `python` is that of another environment; `patience` is
    after how many seconds without a sign of life it is stopped (None: never).

    Raises TypeError for an unknown option, NinMultiError where it cannot be trained; KeyboardInterrupt, once the run
    has written a checkpoint to go on from, where somebody stops it.
    """
    options = settings.checked(locals(), "train")
    seconds = patience_of(patience)
    with ExitStack() as stack:
        if resume is not None:
            side, board = _old(Path(resume), backend, arch, options)
        else:
            side, board = _new(stack, backend, arch, options, is_elsewhere=python is not None)
        if python is not None:
            side = replace(side, python=working_python(side.backend, python))
        words = ["train", *([f"--backend={backend}"] if backend else []), *settings.words_of(options)]
        words += [f"--arch={side.arch}"] if resume is None else []
        return _run(side, words, board, seconds)


def _new(
    stack: ExitStack, backend: str | None, arch: Any, options: dict[str, Any], *, is_elsewhere: bool
) -> tuple[Side, Board]:
    """What is to run; all that can be wrong is found before it starts."""
    if backend is None:
        raise UsageError(f"backend: expected a name, one of {', '.join(registry.available())}")
    if not is_elsewhere:
        registry.load(backend)
    word, architecture = stack.enter_context(settings.named("nin" if arch is None else arch))
    recipe = settings.recipe_of(options)
    side = Side("run", backend, backend, word, options.get("precision"), recipe.seed)
    return side, Board([side], {word: architecture.name}, recipe.epochs)


def _old(path: Path, backend: str | None, arch: Any, options: dict[str, Any]) -> tuple[Side, Board]:
    """As `_new`, of a run that is to go on."""
    if arch is not None:
        raise UsageError("arch: a resumed run keeps what it began with; leave it out, or begin a new run")
    directory = RunDirectory.open(path)
    recipe = directory.recipe()
    name = backend or directory.last_facts()["backend"]
    architecture = directory.architecture().name
    side = Side("run", name, name, architecture, None, recipe.seed)
    return side, Board([side], {architecture: architecture}, options.get("epochs", recipe.epochs))


def _run(side: Side, words: list[str], board: Board, patience: float) -> Run:
    """To its end, and shown while it goes on."""
    run = board.runs[side.id]
    with screens.choose([side], board, screens.one_curve) as screen:
        board.audience.append(screen)
        try:
            (result,) = conduct([side], lambda _: words, board, epochs=run["epochs"], patience=patience)
        except KeyboardInterrupt:
            stopped(board)
            raise KeyboardInterrupt(_what_is_left(run)) from None
    if run["status"] == "failed":
        fail(result, run)
    return Run(Path(run["run_dir"]), screens.current_cell())


def _what_is_left(run: dict[str, Any]) -> str:
    if run["run_dir"] is None:
        return "stopped before a run was heard of"
    left = f"stopped at step {run['step']:,}; to look at it: nin_multi.open_run({run['run_dir']!r})"
    return left + (f"; to go on: {way_on(run)}" if run["to_go_on"] else "")
