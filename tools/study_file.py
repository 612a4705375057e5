"""A study as its file says it: a question, cases, backends, seeds, and so every run that it asks for; not how one runs.

question: Does a smaller dropout pay?
arch: nin-mnist                                 # of the zoo, or a file beside this one
train: {recipe: dependable, epochs: 2}          # options of `train`, for every case
backends: {torch: 0-4, mxnet: 0}                # seeds: FIRST-LAST, or one
enough: 0.9                                     # a run may stop at this test accuracy; left out: never
cases:
half: {}
fifth: {train: {dropout-rate: 0.2}}           # a case may have its own arch, train and backends
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nin_multi import zoo
from nin_multi.architecture_file import SUFFIXES, load_architecture
from nin_multi.cli.recipe_options import make_recipe
from nin_multi.cli.train import train as train_command
from nin_multi.errors import UsageError
from nin_multi.spec import Architecture

Options = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
# How it is computed, and where it is written, is no part of what is asked.
FORBIDDEN = ("seed", "backend", "arch", "run-dir", "runs-dir", "resume", "json", "data-dir")


def _seeds(value: Any) -> Any:
    if isinstance(value, dict):
        return {backend: seeds if isinstance(seeds, range) else parse_seeds(seeds) for backend, seeds in value.items()}
    return value


def parse_seeds(value: Any) -> range:
    """One seed, or FIRST-LAST.

    >>> parse_seeds("4-19"), parse_seeds(3)
    (range(4, 20), range(3, 4))
    """
    first, dash, last = str(value).partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise ValueError(f"expected a seed or FIRST-LAST, got {value!r}")
    return range(int(first), int(last or first) + 1)


class CaseEntry(BaseModel):
    """What a case has of its own."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    arch: str | None = None
    train: Options = {}
    backends: dict[str, range] | None = None
    _parse = field_validator("backends", mode="before")(_seeds)


class StudyEntry(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    question: str
    arch: str = "nin-mnist"
    train: Options = {}
    backends: dict[str, range] = {"torch": range(1)}
    enough: float | None = None
    cases: Annotated[dict[Name, CaseEntry], Field(min_length=1)]
    _parse = field_validator("backends", mode="before")(_seeds)


@dataclass(frozen=True)
class Wanted:
    """One run that a study asks for: recipe (without its seed) and net are what it must have been to count."""

    study: str
    case: str
    backend: str
    seed: int
    arch: str  # as `train` takes it
    options: tuple[str, ...]  # more arguments of `train`
    recipe: dict[str, Any]
    architecture: Architecture  # as it is trained
    dataset: str
    precision: str | None  # None: the framework's first

    @property
    def key(self) -> tuple[str, str, int]:
        return self.case, self.backend, self.seed

    @property
    def net(self) -> str:
        return fingerprint(self.architecture)

    @property
    def run_name(self) -> str:
        return f"{self.study}-{self.case}-{self.backend}-e{self.recipe['epochs']}-s{self.seed}"


def fingerprint(architecture: Architecture) -> str:
    """Of a net's layers and input, whatever it is called."""
    layers = architecture.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(layers, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Study:
    """A study by its name, which is its file's."""

    path: Path
    entry: StudyEntry
    extra: Mapping[str, Any]  # options of `train` that somebody added for now

    @property
    def name(self) -> str:
        return self.path.stem

    def wanted(self) -> Iterator[Wanted]:
        """Seed after seed, so that the cases stay even wherever the time ends."""
        found = [
            self._wanted(name, case, backend, seed)
            for name, case in self.entry.cases.items()
            for backend, seeds in (self.entry.backends if case.backends is None else case.backends).items()
            for seed in seeds
        ]
        yield from sorted(found, key=lambda one: one.seed)

    def _wanted(self, name: str, case: CaseEntry, backend: str, seed: int) -> Wanted:
        options = {"dataset": "fashion-mnist", "tune": "off", **self.entry.train, **case.train, **self.extra}
        arch = self._arch(case.arch or self.entry.arch)
        words = _words(options)
        params = _parsed([*words, "--seed", str(seed)])
        recipe = make_recipe(params)
        net = load_architecture(arch)
        if params["input"]:
            net = net.with_input(tuple(int(part) for part in params["input"].split("x")))
        # What `train` decides for a CPU; where images stay on a GPU the option has to be named.
        values = {**recipe.as_dict(), "dropout": params["dropout"] or "shared"}
        del values["seed"]
        trained = recipe.applied_to(net)
        images, precision = params["dataset"], params["precision"]
        return Wanted(self.name, name, backend, seed, arch, tuple(words), values, trained, images, precision)

    def _arch(self, name: str) -> str:
        """A file's path is relative to the study's."""
        is_file = name not in zoo.names() and Path(name).suffix in SUFFIXES
        return str((self.path.parent / name).resolve()) if is_file else name


def read_study(path: Path, extra: Mapping[str, Any] | None = None) -> Study:
    """Raises UsageError where the file is not one."""
    try:
        entry = StudyEntry.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        finding = error.errors()[0]
        raise UsageError(f"{path}: {'.'.join(map(str, finding['loc'])) or 'the whole'}: {finding['msg']}") from None
    return Study(path, entry, dict(extra or {}))


def _words(options: Options) -> list[str]:
    """Options as a command line has them; a list repeats one, true is a flag.

    >>> _words({"epochs": 2, "set": ["a=1", "b=2"], "allow-large": True})
    ['--epochs', '2', '--set', 'a=1', '--set', 'b=2', '--allow-large']
    """
    words: list[str] = []
    for name, value in options.items():
        if name in FORBIDDEN:
            raise UsageError(f"train: {name} is not the study's to set")
        for one in value if isinstance(value, list) else [value]:
            text = {True: "on", False: "off"}.get(one, str(one)) if name == "final-relu" else str(one)
            words += [f"--{name}"] if one is True and name != "final-relu" else [f"--{name}", text]
    return words


def _parsed(words: list[str]) -> dict[str, Any]:
    """Every option's value as the command itself reads it. Raises UsageError."""
    app = typer.Typer()
    app.command()(train_command)
    try:
        return dict(typer.main.get_command(app).make_context("train", list(words)).params)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise UsageError(f"train: {error.format_message()}") from None
