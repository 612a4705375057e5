"""A sweep as its file says it: backends, architectures, recipes, seeds, and so every run; not how one is run.

backends: [torch, mindspore, mxnet]
architectures: [nin-mnist, my-net.yaml]   # of the zoo, or a file beside this one
recipes: [book, dependable]
seeds: 0-2                                # FIRST-LAST, one, or a list
train: {epochs: 2, batch-size: 64}        # options of `train`, for every run
resources: {cores: 1, memory: 2}          # that a run takes, memory in GB; left out: one of --jobs shares, unlimited
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nin_multi import registry
from nin_multi.cli.train_words import beside, parse_seeds, wanted_run
from nin_multi.errors import NinMultiError, SpecError, UsageError
from nin_multi.plain_yaml import nearest, parse_plain, place_of, read_plain
from nin_multi.sweep.plan import Planned, Resources

_EXPECTED = "backends, architectures, recipes, seeds, train and resources"


class _Resources(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cores: Annotated[int | None, Field(ge=1)] = None
    memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class _Entry(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid")
    backends: Annotated[list[str], Field(min_length=1)]
    architectures: Annotated[list[str], Field(min_length=1)] = ["nin"]
    recipes: Annotated[list[str], Field(min_length=1)] = ["book"]
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    train: dict[str, Any] = {}
    resources: _Resources = _Resources()

    @field_validator("seeds", mode="before")
    @classmethod
    def _all_seeds(cls, value: Any) -> list[int]:
        return [seed for each in (value if isinstance(value, list) else [value]) for seed in parse_seeds(each)]


@dataclass(frozen=True)
class Sweep:
    """What a file asks for; its name is the file's."""

    name: str
    runs: tuple[Planned, ...]
    resources: Resources


def read_sweep(path: Path) -> Sweep:
    """Raises SpecError with line and column, UsageError, BackendNotFound."""
    root, data = parse_plain(read_plain(path, "sweep"), str(path), _EXPECTED)
    if not isinstance(data, dict):
        raise SpecError(f"{place_of(root, (), str(path))}: expected {_EXPECTED}, got {data!r:.60}")
    try:
        entry = _Entry.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, root, path) from None
    for name in entry.backends:
        registry.load(name)
    if "recipe" in entry.train:
        raise UsageError(f"{path}: train: recipe is not to be set here; recipes: names them")
    runs = tuple(_runs(path, entry))
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{path}: two runs would be called {twice}; name each backend, architecture and seed once")
    memory = entry.resources.memory
    return Sweep(path.stem, runs, Resources(entry.resources.cores, None if memory is None else int(memory * 1e9)))


def _runs(path: Path, entry: _Entry) -> Iterator[Planned]:
    """Seed after seed, so that backends stay even wherever the time ends."""
    for seed, arch, recipe, backend in itertools.product(
        entry.seeds, entry.architectures, entry.recipes, entry.backends
    ):
        try:
            wanted = wanted_run(backend, seed, beside(path, arch), {"tune": "off", **entry.train, "recipe": recipe})
        except NinMultiError as error:
            raise type(error)(f"{path}: {error}") from None
        yield Planned(f"{path.stem}-{Path(arch).stem}-{recipe}-{backend}-s{seed}", recipe, wanted)


def _first_error(error: ValidationError, root: Any, path: Path) -> SpecError:
    """The first of pydantic's findings; an unknown key explains a missing one, not the other way round."""
    finding = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location = finding["loc"]
    where, key = place_of(root, location, str(path)), str(location[-1])
    known = list((_Resources if location[0] == "resources" and len(location) > 1 else _Entry).model_fields)
    match finding["type"]:
        case "extra_forbidden":
            return SpecError(f"{where}: unknown key {key!r}.{nearest(key, known)}\nExpected: {', '.join(known)}.")
        case "missing":
            return SpecError(f"{where}: a sweep needs {key!r}.")
        case "value_error":
            return SpecError(f"{where}: {location[0]}: {finding['msg'].removeprefix('Value error, ')}")
        case _:
            words = ".".join(map(str, location))
            reason = finding["msg"].removeprefix("Input ")
            return SpecError(f"{where}: {words}: {reason}, got {finding['input']!r:.60}")
