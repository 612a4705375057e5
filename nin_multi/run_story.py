"""A run as its files tell it: how it ended, its curve, which classes were dead when; not what that means.

Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from nin_multi.data import CLASSES
from nin_multi.data.batches import steps_per_epoch
from nin_multi.errors import RunError
from nin_multi.spec import Architecture
from nin_multi.training.classes import ENOUGH
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import EVENTS, RESULT, RUN, WEIGHTS, RunDirectory

_Model = TypeVar("_Model", bound=BaseModel)
_Number = Annotated[float, Field(ge=0, le=1e39)]  # beyond float32 is no loss
_Count = Annotated[int, Field(ge=1, le=10**9)]


class _Event(BaseModel):
    """What is read of a point of the curve; older runs say nothing of classes."""

    step: int
    epoch: int | None = None
    loss: _Number | None = None
    train_acc: _Number | None = None
    test_loss: _Number | None = None
    test_acc: _Number | None = None
    dead_classes: list[int] | None = None
    test_dead_classes: list[int] | None = None
    test_never_predicted: list[int] | None = None


class _Result(BaseModel):
    """What is read of result.json; empty where there is none."""

    status: str | None = None
    reason: str = ""
    layer: str | None = None
    steps: int | None = None


class _Examples(BaseModel):
    """Of what run.json says of the data set."""

    name: str
    train_examples: _Count
    test_examples: _Count


@dataclass(frozen=True)
class Point:
    """Loss and accuracy over the training images since the point before: at least 500, where a run has so many."""

    step: int
    loss: float
    acc: float
    images: float


@dataclass(frozen=True)
class Sight:
    """Which classes were dead at a step, seen on enough images; `missed`: never predicted for the test images."""

    step: int
    dead: frozenset[int]
    missed: frozenset[int] | None


@dataclass(frozen=True)
class Story:
    """A run as its files tell it."""

    path: Path
    status: str  # done, interrupted, diverged; running: a process writes it now; unfinished: none does
    recipe: Recipe
    architecture: Architecture
    dataset: _Examples
    names: list[str]  # of the labels; a net may have more outputs
    events: list[_Event]
    result: _Result
    points: list[Point]
    sights: list[Sight]
    checkpoints: list[int]  # after which steps
    has_weights: bool
    written: float  # seconds ago

    @property
    def per_epoch(self) -> int:
        return steps_per_epoch(self.dataset.train_examples, self.recipe.batch_size)

    @property
    def epochs(self) -> list[_Event]:
        return [event for event in self.events if event.epoch is not None]

    @property
    def last_step(self) -> int:
        """The last that is heard of."""
        return self.result.steps or (self.events[-1].step if self.events else 0)

    def when(self, step: int) -> str:
        return f"step {step:,} (epoch {max(-(-step // self.per_epoch), 1)})"

    def show(self, classes: Iterable[int]) -> str:
        return ", ".join(self.names[index] for index in sorted(classes))


def read_story(directory: RunDirectory) -> Story:
    """Raises RunError where a file of the run is damaged."""
    facts, recipe, architecture = directory.facts(), directory.recipe(), directory.architecture()
    dataset = _checked(_Examples, facts["dataset"], directory.path / RUN)
    result = _checked(_Result, directory.result(), directory.path / RESULT)
    told = [event for event in directory.events() if event.get("event") != "layers"]  # they say nothing of the curve
    events = [_checked(_Event, event, directory.path / EVENTS) for event in told]
    said = result.status if result.status in ("done", "interrupted", "diverged") else "unfinished"
    written = max(path.stat().st_mtime for name in (RUN, EVENTS) if (path := directory.path / name).exists())
    names = _names(dataset, architecture)
    return Story(
        path=directory.path,
        status="running" if directory.is_being_written() else said,
        recipe=recipe,
        architecture=architecture,
        dataset=dataset,
        names=names,
        events=events,
        result=result,
        points=list(_points(events, recipe, dataset)),
        sights=list(_sights(events, recipe, dataset, frozenset(range(len(names))))),
        checkpoints=[int(path.stem.rpartition("-")[2]) for path in directory.checkpoints()],
        has_weights=(directory.path / WEIGHTS).exists(),
        written=max(time.time() - written, 0.0),
    )


def _checked(model: type[_Model], value: Any, path: Path) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        finding = error.errors()[0]
        raise RunError(f"{path}: damaged: {'.'.join(map(str, finding['loc']))}: {finding['msg']}") from None


def _names(dataset: _Examples, architecture: Architecture) -> list[str]:
    if dataset.name in ("fashion-mnist", "synthetic") and architecture.classes >= len(CLASSES):
        return list(CLASSES)
    return [f"class {label}" for label in range(architecture.classes)]


def _images(step: int, recipe: Recipe, dataset: _Examples) -> tuple[int, int]:
    """In which epoch a step is (from 0), and how many of its training images have been seen after it."""
    epoch, done = divmod(max(step - 1, 0), steps_per_epoch(dataset.train_examples, recipe.batch_size))
    return epoch, min((done + 1) * recipe.batch_size, dataset.train_examples)


def _points(events: Sequence[_Event], recipe: Recipe, dataset: _Examples) -> Iterator[Point]:
    """Events have means since their epoch began: here what came between two of them."""
    current, base, gathered, last = -1, (0, 0.0, 0.0), [0.0, 0.0, 0.0], 0
    for event in events:
        epoch, images = _images(event.step, recipe, dataset)
        if event.loss is None or event.train_acc is None:
            continue
        if epoch != current:
            current, base = epoch, (0, 0.0, 0.0)
        if images <= base[0]:
            continue
        now = (images, event.loss * images, event.train_acc * images)
        gathered = [sum_ + after - before for sum_, after, before in zip(gathered, now, base, strict=True)]
        base, last = now, event.step
        if gathered[0] >= ENOUGH:
            yield Point(last, gathered[1] / gathered[0], gathered[2] / gathered[0], gathered[0])
            gathered = [0.0, 0.0, 0.0]
    if gathered[0] and last * recipe.batch_size < ENOUGH:
        yield Point(last, gathered[1] / gathered[0], gathered[2] / gathered[0], gathered[0])


def _sights(events: Sequence[_Event], recipe: Recipe, dataset: _Examples, labels: frozenset[int]) -> Iterator[Sight]:
    """Evaluation decides: in training, dropout lets a logit be other than 0 now and then that is 0 without it."""
    tested = frozenset[int]()
    for event in events:
        if event.test_dead_classes is not None and dataset.test_examples >= ENOUGH:
            tested = frozenset(event.test_dead_classes) & labels
            yield Sight(event.step, tested, frozenset(event.test_never_predicted or ()) & labels)
        elif event.dead_classes is not None and _images(event.step, recipe, dataset)[1] >= ENOUGH:
            yield Sight(event.step, tested | frozenset(event.dead_classes) & labels, None)
