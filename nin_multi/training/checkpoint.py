"""A run's state in one file that belongs to no framework: what another process, or another framework, goes on from.

Parameters, velocities and architecture are a weights file (`nin_multi.weights`); its facts say where the run stands.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nin_multi.backend import Network, Params
from nin_multi.errors import CheckpointError, RunError
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture
from nin_multi.training.nonfinite import first_broken
from nin_multi.training.progress import NotFinite, Progress, Totals
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import RunDirectory
from nin_multi.training.scores import ClassCounts, Confusion
from nin_multi.weights import load_weights, save_weights


@dataclass(frozen=True)
class Checkpoint:
    """Parameters, velocities, the totals so far, and after how many steps and evaluated epochs that was."""

    params: Params
    velocities: Params
    step: int
    evaluated: int
    epoch_totals: Totals
    run_totals: Totals
    test: tuple[float, float]  # loss and accuracy of the last evaluation, nan before the first
    test_counts: ClassCounts | None = None
    test_confusion: Confusion | None = None

    def put_into(self, progress: Progress) -> None:
        """Let a run stand where this one stood."""
        progress.step, progress.evaluated = self.step, self.evaluated
        progress.epoch = max(math.ceil(self.step / progress.steps_per_epoch), 1)
        progress.epoch_totals, progress.run_totals = self.epoch_totals, self.run_totals
        progress.test_loss, progress.test_acc = self.test
        progress.test_counts, progress.test_confusion = self.test_counts, self.test_confusion


class _Totals(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    loss: float
    correct: int = Field(ge=0)
    count: int = Field(ge=0)
    seconds: float = Field(ge=0)
    compute_seconds: float = Field(ge=0)
    predicted: list[int] = []  # older checkpoints have none
    nonzero: list[int] = []

    def totals(self) -> Totals:
        return Totals(**self.model_dump())


class _Counts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    predicted: list[int]
    nonzero: list[int]

    def counts(self) -> ClassCounts:
        return ClassCounts(tuple(self.predicted), tuple(self.nonzero))


class _Facts(BaseModel):
    """What a checkpoint says of its run, beside what a weights file says."""

    step: int = Field(ge=0, le=2**53, strict=True)
    evaluated: int = Field(ge=0, le=2**53, strict=True)
    recipe: dict[str, Any]
    data_sha256: dict[str, str]
    epoch_totals: _Totals
    run_totals: _Totals
    test_loss: float | None
    test_acc: float | None
    test_counts: _Counts | None = None  # older checkpoints have none
    test_confusion: list[list[int]] | None = None


def first_state(architecture: Architecture, recipe: Recipe) -> Checkpoint:
    """What a run begins with, before any checkpoint of it is there."""
    params = initial_parameters(architecture, recipe.seed, recipe.init)
    return Checkpoint(params, {}, 0, 0, Totals(), Totals(), (math.nan, math.nan))


def save_checkpoint(
    directory: RunDirectory, network: Network, architecture: Architecture, progress: Progress, facts: dict[str, Any]
) -> None:
    """Write the state after `progress.step` steps, and drop all but the last ones.

    Raises NotFinite for parameters that nothing can go on from, RunError.
    """
    params = network.params()
    if (layer := first_broken(params)) is not None:
        text = f"after step {progress.step} the parameters of layer {layer!r} are no numbers"
        raise NotFinite(text, layer)
    counts = progress.test_counts
    directory.flush_events()
    save_weights(
        directory.checkpoint_path(progress.step),
        params,
        architecture,
        network.velocities(),
        **facts,
        evaluated=progress.evaluated,
        epoch_totals=asdict(progress.epoch_totals),
        run_totals=asdict(progress.run_totals),
        test_loss=None if math.isnan(progress.test_loss) else progress.test_loss,
        test_acc=None if math.isnan(progress.test_acc) else progress.test_acc,
        test_counts=counts and asdict(counts),
        test_confusion=progress.test_confusion,
    )
    directory.drop_old_checkpoints()


def load_checkpoint(path: Path, architecture: Architecture, recipe: Recipe, data_sha256: dict[str, str]) -> Checkpoint:
    """Read one that has to belong to this architecture, recipe and data. Raises CheckpointError."""
    stored = load_weights(path, architecture)
    if stored.architecture != architecture:  # the same parameters, other strides or another input
        raise CheckpointError(f"{path}: written for architecture {stored.architecture.name!r} of another form")
    try:
        facts = _Facts.model_validate(stored.facts)
        written = Recipe.from_dict(facts.recipe)
    except (ValidationError, RunError):
        raise CheckpointError(f"{path}: weights without the state of a run; nothing can go on from them") from None
    for name, value in written.as_dict().items():
        if name != "epochs" and value != getattr(recipe, name):
            raise CheckpointError(f"{path}: written with {name} {value}, and the run has {getattr(recipe, name)}")
    if facts.data_sha256 != data_sha256:
        raise CheckpointError(f"{path}: written while training on other images; give the run's own data set")
    nothing = (math.nan, math.nan)
    test = nothing if facts.test_loss is None or facts.test_acc is None else (facts.test_loss, facts.test_acc)
    return Checkpoint(
        stored.params,
        stored.velocities,
        facts.step,
        facts.evaluated,
        facts.epoch_totals.totals(),
        facts.run_totals.totals(),
        test,
        facts.test_counts.counts() if facts.test_counts else None,
        facts.test_confusion,
    )
