"""Which of several explanations gives what was observed; what there is to try is known elsewhere.

Frameworks differ in what they do when nothing is said: bias, padding, rounding of pools, what a dropout rate means,
sums or means, the order of axes, and whether a net knows that it is evaluated. Each is tried on the oracle's own
numbers; one is named only if it gives what was observed, shape and values, and if no other comes nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from nin_multi.oracle import Array

MATCH = 1e-3  # of an explanation with what was observed; two explanations differ by far more

Hypothesis = tuple[str, Callable[[], Array]]  # what would explain it, and what it would give


def choose(seen: Array, right: Array, hypotheses: Iterable[Hypothesis], within: float) -> list[str]:
    """The causes that give what was seen; of two that come near, only the one that comes much nearer."""
    off, found = distance(seen, right), []
    with np.errstate(all="ignore"):  # what is tried may well overflow
        for cause, compute in hypotheses:
            try:
                far = distance(seen, compute())
            except ValueError:  # the hypothesis does not fit this input
                continue
            if far <= within and far < off / 10:  # what is hardly nearer than the truth explains nothing
                found.append((far, cause))
    best = min(found)[0] if found else 0.0
    return [cause for far, cause in found if far <= 3 * best + 1e-12]


def just(value: Array) -> Callable[[], Array]:
    """A value that is known already, as a hypothesis has it."""
    return lambda: value


def distance(observed: Array, expected: Array) -> float:
    """Relative; infinite where shapes differ or a number is none."""
    if observed.shape != expected.shape:
        return np.inf
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(expected))
        far = float(np.linalg.norm(observed - expected)) / size if size else np.inf
    return far if np.isfinite(far) else np.inf
