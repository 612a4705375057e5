"""Everything one training run is made of, checked; not the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from nin_multi import tuning
from nin_multi.backend import Backend, Network, Params, check_request
from nin_multi.data.dataset import Dataset
from nin_multi.errors import SpecError, UsageError
from nin_multi.limits import check_size
from nin_multi.memory import Demand
from nin_multi.spec import Architecture
from nin_multi.training import loop, tensorboard
from nin_multi.training.cadence import Cadence
from nin_multi.training.recipe import Recipe
from nin_multi.tuning import Case, Choice
from nin_multi.workers.group import Alone, Group, Shares


def check_workers(workers: int, recipe: Recipe, examples: int) -> None:
    """Raises UsageError where some worker would have nothing to do."""
    if workers > min(recipe.batch_size, examples):
        what = f"a batch of {recipe.batch_size}" if recipe.batch_size <= examples else f"{examples} training examples"
        raise UsageError(f"--workers: expected at most as many as there are images in {what}, got {workers}")


@dataclass(frozen=True)
class Job:
    """Everything one run is made of.

    `fixed` are knobs set by hand. How the others are set says `tune`: "off" (as the backend has them by default),
    "auto" (as stored for this machine, else measured where that pays) or "now" (measured first). `recorded` are the
    values that a run began with, and goes on with whatever `tune` says. `cadence`: how often a checkpoint is written.
    `tensorboard`: whether TensorBoard's event files are written too. `group`: the workers who do it together.
    """

    backend: Backend
    device: str
    precision: str
    architecture: Architecture
    dataset: Dataset
    recipe: Recipe
    fixed: Mapping[str, str] = field(default_factory=dict)
    tune: str = "off"
    recorded: Mapping[str, str] | None = None
    cadence: Cadence = field(default_factory=Cadence)
    allow_large: bool = False
    tensorboard: bool = False
    group: Group = field(default_factory=Alone)

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", self.recipe.applied_to(self.architecture))

    def title(self) -> str:
        """What is trained on what, for headers and pictures."""
        return f"{self.architecture.name} on {self.dataset.title}, {self.backend.name}"

    def check(self) -> None:
        """What can be known before a directory is made. Raises DataError, SpecError, BackendUnavailable, UsageError."""
        if self.tensorboard:
            tensorboard.require()
        loop.check_classes(self.architecture, self.dataset)
        if not self.architecture.parameters:
            raise SpecError(f"architecture {self.architecture.name!r} has no parameters: there is nothing to train")
        check_size(self.architecture, allow_large=self.allow_large)
        check_request(self.backend, self.device, self.precision)
        self.case.complete()
        check_workers(self.group.size, self.recipe, len(self.dataset.train))

    def with_default_dropout(self) -> Job:
        """Where the images stay on a GPU, drawing masks on the host would take longer than the steps: then "native"."""
        stays = self.device != "cpu" and self.case.complete().get("data") == "resident" and self.group.size == 1
        return replace(self, recipe=replace(self.recipe, dropout="native" if stays else "shared"))

    @property
    def case(self) -> Case:
        """What the choice of how to compute the net is made for."""
        place = self.device, self.precision
        return Case(self.backend, self.architecture, *place, self.recipe.batch_size, self.fixed)

    def choice(self, report: Callable[[str], None]) -> Choice:
        """How the net is computed, as far as that is known before anything is measured."""
        if self.recorded is None:
            return tuning.chosen(self.case, self.tune, report)
        known = tuning.offered(self.case, self.recorded)
        if gone := sorted(self.recorded.keys() - known.keys()):
            report(f"tuning: {self.backend.name} has no {', '.join(gone)} of that kind any more; roundings may differ")
        return tuning.choice_of(self.case, known, "run")

    def build(self, params: Params, step: int, choice: Choice | None = None) -> Network:
        """The net; a framework's own draws begin by the seed and the step, so that equal runs are equal."""
        own = self.recipe.seed + step + self.group.rank * 10**6  # two workers are not to drop the same units
        seed = own % 2**31 if self.recipe.dropout == "native" else None
        place = {"device": self.device, "precision": self.precision}
        network = self.backend.build(
            self.architecture, params, **place, seed=seed, tuning=choice.tuning if choice else None
        )
        if self.group.size > 1:
            if not isinstance(network, Shares):
                raise UsageError(f"{self.backend.name} trains with one worker: its networks cannot share a batch")
            network.share(self.group)
        return network

    def demand(self, choice: Choice | None = None) -> Demand:
        """What the run takes of memory; without a choice, as the knobs are by default."""
        size = min(self.recipe.batch_size, len(self.dataset.train))
        known = tuning.offered(self.case, self.recorded or {})
        knobs = choice.tuning if choice else self.case.complete(known)
        moves, draws = self.recipe.momentum > 0, self.recipe.dropout == "shared"
        return Demand(self.architecture, size, self.precision, knobs, has_momentum=moves, draws_masks=draws)

    def stored_facts(self, step: int) -> dict[str, Any]:
        """What weights and checkpoints say of themselves. Nothing in it may depend on time or place."""
        return {
            "backend": self.backend.name,
            "dataset": self.dataset.name,
            "data_sha256": self.data_sha256,
            "recipe": self.recipe.as_dict(),
            "seed": self.recipe.seed,
            "step": step,
        }

    @property
    def checkpoint_bytes(self) -> int:
        """About how large one is: parameters, and velocities where there are any, in float32."""
        return 4 * self.architecture.parameters * (2 if self.recipe.momentum else 1)

    @cached_property
    def data_sha256(self) -> dict[str, str]:
        """The identity of the images and labels."""
        return self.dataset.identity()
