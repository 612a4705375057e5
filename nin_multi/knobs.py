"""What can be chosen in how a net is computed, and the values chosen; not what a choice does, nor which is the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nin_multi.errors import UsageError

Tuning = Mapping[str, str]  # a knob's name -> the value chosen, such as {"micro_batch": "32"}


@dataclass(frozen=True)
class Knob:
    """One choice in how a net is computed. Whatever is chosen, it is the same net: only roundings and speed differ."""

    name: str
    values: tuple[str, ...]  # the default first
    measured: bool = True  # whether the values can be tried against each other within one process


def micro_batch_knob(default: str = "all") -> Knob:
    """How many images go through the net at once; a batch's gradient is the sum of theirs, so this is exact.

    Few of them stay in the processor's caches and need less memory; many make larger products.
    """
    return Knob("micro_batch", tuple(dict.fromkeys((default, "all", "8", "16", "32", "64"))))


def micro_batches(count: int, tuning: Tuning) -> list[slice]:
    """A batch of so many images in pieces of `tuning["micro_batch"]`; the last may be smaller.

    >>> micro_batches(5, {"micro_batch": "2"})
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(count, 1) if tuning["micro_batch"] == "all" else int(tuning["micro_batch"])
    return [slice(first, min(first + size, count)) for first in range(0, count, size)] or [slice(0, 0)]


def complete_tuning(knobs: tuple[Knob, ...], tuning: Tuning | None) -> dict[str, str]:
    """The value of every knob: the one chosen, else its default. Raises UsageError for one that there is not."""
    offered = {knob.name: knob for knob in knobs}
    for name, value in (tuning or {}).items():
        if name not in offered:
            there = ", ".join(offered) or "none"
            raise UsageError(f"tuning: expected one of these knobs: {there}; got {name!r}")
        if value not in offered[name].values:
            there = ", ".join(offered[name].values)
            raise UsageError(f"tuning: {name}: expected one of {there}; got {value!r}")
    return {knob.name: (tuning or {}).get(knob.name, knob.values[0]) for knob in knobs}
