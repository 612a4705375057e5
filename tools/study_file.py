"""A study as its file says it: a question, cases, backends, seeds, and so every run that it asks for; not how one runs.

question: Does a smaller dropout pay?
arch: nin-mnist                                 # of the zoo, or a file beside this one
train: {recipe: dependable, epochs: 2}          # options of `train`, for every case
backends: {torch: 0-4, mxnet: 0}                # seeds: FIRST-LAST, or one
enough: {test_acc: 0.9}                         # a run may stop there, or after so many {epochs: 2}; left out: never
cases:
half: {}
fifth: {train: {dropout-rate: 0.2}}           # a case may have its own arch, train, backends and enough
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nin_multi.cli.train_words import beside, parse_seeds, wanted_run
from nin_multi.errors import UsageError
from nin_multi.sweep.wanted import Wanted

Options = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


def _seeds(value: Any) -> Any:
    if isinstance(value, dict):
        return {backend: seeds if isinstance(seeds, range) else parse_seeds(seeds) for backend, seeds in value.items()}
    return value


class Enough(BaseModel):
    """When a run may stop before its last epoch: at this test accuracy, or after so many epochs."""

    model_config = ConfigDict(extra="forbid")
    test_acc: float | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None

    def is_reached(self, test_accs: Sequence[float | None]) -> bool:
        """By the test accuracies after each epoch so far."""
        best = max((value or 0.0 for value in test_accs), default=0.0)
        is_accurate = self.test_acc is not None and bool(test_accs) and best >= self.test_acc
        return is_accurate or (self.epochs is not None and len(test_accs) >= self.epochs)


class CaseEntry(BaseModel):
    """What a case has of its own."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    arch: str | None = None
    train: Options = {}
    backends: dict[str, range] | None = None
    enough: Enough | None = None
    _parse = field_validator("backends", mode="before")(_seeds)


class StudyEntry(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    question: str
    arch: str = "nin-mnist"
    train: Options = {}
    backends: dict[str, range] = {"torch": range(1)}
    enough: Enough = Enough()
    cases: Annotated[dict[Name, CaseEntry], Field(min_length=1)]
    _parse = field_validator("backends", mode="before")(_seeds)


@dataclass(frozen=True)
class StudyRun(Wanted):
    """One run that a study asks for."""

    study: str
    case: str
    precision: str | None  # None: the framework's first
    enough: Enough

    @property
    def key(self) -> tuple[str, str, int]:
        return self.case, self.backend, self.seed

    @property
    def run_name(self) -> str:
        return f"{self.study}-{self.case}-{self.backend}-e{self.recipe['epochs']}-s{self.seed}"


@dataclass(frozen=True)
class Study:
    """A study by its name, which is its file's."""

    path: Path
    entry: StudyEntry
    extra: Mapping[str, Any]  # options of `train` that somebody added for now

    @property
    def name(self) -> str:
        return self.path.stem

    def wanted(self) -> Iterator[StudyRun]:
        """Seed after seed, so that the cases stay even wherever the time ends."""
        found = [
            self._wanted(name, case, backend, seed)
            for name, case in self.entry.cases.items()
            for backend, seeds in (self.entry.backends if case.backends is None else case.backends).items()
            for seed in seeds
        ]
        yield from sorted(found, key=lambda one: one.seed)

    def _wanted(self, name: str, case: CaseEntry, backend: str, seed: int) -> StudyRun:
        options = {"dataset": "fashion-mnist", "tune": "off", **self.entry.train, **case.train, **self.extra}
        made = wanted_run(backend, seed, beside(self.path, case.arch or self.entry.arch), options)
        precision = options.get("precision")
        return StudyRun(
            **vars(made),
            study=self.name,
            case=name,
            precision=precision and str(precision),
            enough=case.enough or self.entry.enough,
        )


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
