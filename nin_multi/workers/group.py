"""What the workers of one run do together: parts of a batch, sums over all of them; not how a framework sends a number.

Every batch is the one that a single worker would have, and each worker takes its rows of it. A loss is a sum of shares,
each weighted by its rows over the batch's, and a gradient likewise, so N workers compute what one computes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nin_multi.errors import BackendUnavailable
from nin_multi.knobs import Tuning, micro_batches

Sums = NDArray[np.float64]


class WorkerLost(BackendUnavailable):
    """Another worker did not come, or is gone: what is computed together cannot go on."""


def lost(backend: str, rank: int, size: int, other: int | None = None) -> WorkerLost:
    """The error of a worker that has lost another one, which it may know."""
    return WorkerLost(
        f"{backend}: worker {rank} of {size} has lost {'another one' if other is None else f'worker {other}'}"
    )


class Group(Protocol):
    """The workers of one run, as one of them sees it."""

    @property
    def rank(self) -> int:
        """Which of them this one is, from 0; worker 0 writes the run directory."""

    @property
    def size(self) -> int:
        """How many there are."""

    def sum(self, values: Sums) -> Sums:
        """The sum over all workers, who each call this with as many values; each of them gets the same bits.

        Raises WorkerLost.
        """

    def close(self) -> None:
        """Part from the others, who do the same; after a WorkerLost there is nobody to part from."""


class Alone:
    """The one worker of a run that has no others."""

    rank, size = 0, 1

    def sum(self, values: Sums) -> Sums:
        return values

    def close(self) -> None:
        pass


@runtime_checkable
class Shares(Protocol):
    """What a `Network` may offer beside its own methods: to be one of several that hold the same net."""

    def share(self, group: Group) -> None:
        """From now on every worker calls this network's methods at the same time with the same batch.

        Each computes its rows (`part`), and all of them get the results, and make the steps, of the whole batch.
        `activations`, `params`, `velocities` and `restore` stay each worker's own.
        """


def part(group: Group, count: int) -> slice:
    """This worker's rows of so many: they follow one another, and nobody has more than one row more than another."""
    return slice(count * group.rank // group.size, count * (group.rank + 1) // group.size)


def pieces(group: Group, count: int, tuning: Tuning) -> list[slice]:
    """This worker's rows of a batch in micro-batches; none where the batch has fewer rows than there are workers."""
    mine = part(group, count)
    own = micro_batches(mine.stop - mine.start, tuning)
    found = [slice(mine.start + piece.start, mine.start + piece.stop) for piece in own]
    return found if group.size == 1 else [piece for piece in found if piece.start < piece.stop]


def whole(
    group: Group, loss: float, found: Sequence[NDArray[Any]], count: int, classes: int
) -> tuple[float, NDArray[Any]]:
    """The loss and the logits (count, classes) of a whole batch: from each worker its share, and those of its pieces.

    Whoever has no rows has found nothing.
    """
    logits = np.concatenate(found) if found else np.zeros((0, classes), np.float32)
    if group.size == 1:
        return loss, logits
    values = np.zeros((count + 1, classes))
    values[part(group, count)], values[count, 0] = logits, loss
    summed = group.sum(values.ravel()).reshape(values.shape)
    return float(summed[count, 0]), summed[:count].astype(np.float32)


def gather(group: Group, values: Sums) -> Sums:
    """A row from each worker, (size, n), of values (n,)."""
    rows = np.zeros((group.size, len(values)))
    rows[group.rank] = values
    return group.sum(rows.ravel()).reshape(rows.shape)


def agree(group: Group, facts: Mapping[str, Any]) -> str | None:
    """In words, the first of these facts in which a worker differs from worker 0; None where there is none."""
    mine = json.dumps(facts, sort_keys=True, default=str).encode()
    longest = int(gather(group, np.array([len(mine)], np.float64)).max())
    bytes_ = np.frombuffer(mine.ljust(longest), np.uint8).astype(np.float64)
    told = [json.loads(row.astype(np.uint8).tobytes()) for row in gather(group, bytes_)]
    for rank, theirs in enumerate(told):
        for name in (*told[0], *theirs):
            if told[0].get(name) != theirs.get(name):
                return f"{name}: worker 0 has {_shown(told[0].get(name))}, worker {rank} has {_shown(theirs.get(name))}"
    return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
