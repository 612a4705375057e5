"""Classes that a net has lost, told while it trains; not what a finished run says of itself (nin_multi.diagnosis).

In the chapter's net a class's logit is the mean of a channel behind a ReLU. Once that channel gives 0 for every image,
no gradient comes through it any more, and the class is lost for good, unless the layers before move it back by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nin_multi.training.progress import Progress
from nin_multi.training.scores import ClassCounts

ENOUGH = 500  # images: a channel that gave 0 for fewer says nothing yet
HEALTHY_LOSS = 0.36  # at which the book's runs end that have lost nothing
REMEDIES = "--recipe dependable, or single flags of it: --final-relu off, --init he, --warm-up 500, a smaller --lr"


def loss_with_dead(dead: int, classes: int = 10) -> float:
    """The loss that a net comes to rest at which has lost so many of its classes, and is healthy in the others.

    For images of a lost class it can do no better than to guess.

    >>> [round(loss_with_dead(k), 3) for k in (0, 1, 5, 10)]
    [0.36, 0.554, 1.331, 2.303]
    """
    return (1 - dead / classes) * HEALTHY_LOSS + dead / classes * math.log(classes)


class ClassWatch:
    """Says once what is lost, and again when that changes."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._told: list[int] = []
        self._missed: list[int] = []

    def at_point(self, progress: Progress) -> str | None:
        """At a point of the curve, from the training images since the epoch began."""
        totals = progress.epoch_totals
        if totals.count < ENOUGH or not totals.nonzero:
            return None
        return self._about(totals.counts(), f"the {totals.count:,} training images since the epoch began")

    def at_epoch(self, progress: Progress) -> str | None:
        """At the end of an epoch, from the test images.

        What is dead they say only where nothing is known of the training images: dropout may still bring a channel to
        life that is 0 without it, and so bring the class back.
        """
        counts = progress.test_counts
        if counts is None or sum(counts.predicted) < ENOUGH:
            return None
        told = None if progress.epoch_totals.nonzero else self._about(counts, "the test images")
        missed = [index for index in self._of_the_data(counts.never_predicted()) if index not in self._told]
        news = f"never predicted for the test images: {self._show(missed)}" if missed != self._missed and missed else ""
        self._missed = missed
        return "\n".join(filter(None, (told, news))) or None

    def _about(self, counts: ClassCounts, images: str) -> str | None:
        dead, before = self._of_the_data(counts.dead()), self._told
        self._told = dead
        if dead == before:
            return None
        if not dead:
            return f"no class is dead any more: each has had logits other than 0 for {images}"
        classes = len(self._names)
        return (
            f"dead: {self._show(dead)}: logit 0 for all of {images}.\n"
            f"  With {len(dead)} of {classes} dead the loss comes to rest near "
            f"{loss_with_dead(len(dead), classes):.2f}. Out of it, in a new run:\n  {REMEDIES}"
        )

    def _of_the_data(self, outputs: Sequence[int]) -> list[int]:
        """A net may have outputs that no image has as its label."""
        return [index for index in outputs if index < len(self._names)]

    def _show(self, classes: Sequence[int]) -> str:
        return ", ".join(self._names[index] for index in classes)
