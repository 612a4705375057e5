"""Options of `train` as a file has them: made into words, and read as the command itself reads them; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from nin_multi import zoo
from nin_multi.architecture_file import SUFFIXES
from nin_multi.cli.common import load_architecture
from nin_multi.cli.recipe_options import make_recipe
from nin_multi.errors import UsageError
from nin_multi.sweep.wanted import Wanted

Options = Mapping[str, Any]
# Whoever plans runs decides these; how a run is computed, and where it is written, is no part of what is asked.
PLANNED = ("seed", "backend", "arch", "run-dir", "runs-dir", "resume", "json", "data-dir")


def parse_seeds(value: Any) -> range:
    """One seed, or FIRST-LAST. Raises ValueError.

    >>> parse_seeds("4-19"), parse_seeds(3)
    (range(4, 20), range(3, 4))
    """
    first, dash, last = str(value).partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise ValueError(f"expected a seed or FIRST-LAST, got {value!r}")
    return range(int(first), int(last or first) + 1)


def train_words(options: Options) -> list[str]:
    """Options as a command line has them; a list repeats one, true is a flag. Raises UsageError.

    >>> train_words({"epochs": 2, "set": ["a=1", "b=2"], "allow-large": True})
    ['--epochs', '2', '--set', 'a=1', '--set', 'b=2', '--allow-large']
    """
    words: list[str] = []
    for name, value in options.items():
        if name in PLANNED:
            raise UsageError(f"train: {name} is not to be set here")
        for one in value if isinstance(value, list) else [value]:
            text = {True: "on", False: "off"}.get(one, str(one)) if name == "final-relu" else str(one)
            words += [f"--{name}"] if one is True and name != "final-relu" else [f"--{name}", text]
    return words


def read_train_words(words: list[str]) -> dict[str, Any]:
    """Every option's value as the command itself reads it. Raises UsageError."""
    from nin_multi.cli.train import train

    app = typer.Typer()
    app.command()(train)
    try:
        return dict(typer.main.get_command(app).make_context("train", list(words)).params)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise UsageError(f"train: {error.format_message()}") from None


def wanted_run(backend: str, seed: int, arch: str, options: Options) -> Wanted:
    """The run that `train` would make of all this. Raises UsageError, SpecError."""
    words = train_words(options)
    params = read_train_words([*words, "--seed", str(seed)])
    recipe, net = make_recipe(params), load_architecture(arch, params["input"], allow_large=params["allow_large"])
    # What `train` decides for a CPU; where images stay on a GPU the option has to be named.
    values = {**recipe.as_dict(), "dropout": params["dropout"] or "shared"}
    del values["seed"]
    return Wanted(backend, seed, arch, tuple(words), values, recipe.applied_to(net), params["dataset"])


def beside(file: Path, arch: str) -> str:
    """An architecture's name as it is; the path of an architecture file as seen from another file's folder."""
    is_file = arch not in zoo.names() and Path(arch).suffix in SUFFIXES
    return str((file.parent / arch).resolve()) if is_file else arch
