"""What is compared: one side for each backend, architecture, precision and seed; not how a side is run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Side:
    """One run to be made: `label` says what sets it apart, `python` is the one of another environment, or None."""

    id: str
    label: str
    backend: str
    arch: str
    precision: str | None
    seed: int
    python: str | None = None


def sides_of(
    backends: Sequence[str],
    archs: Sequence[str],
    precisions: Sequence[str | None],
    seeds: Sequence[int],
    pythons: Mapping[str, str],
) -> list[Side]:
    """All combinations; what is to be compared most closely, the backends, stands side by side.

    >>> [side.label for side in sides_of(["torch", "mxnet"], ["nin"], [None], [0, 1], {})]
    ['torch seed 0', 'mxnet seed 0', 'torch seed 1', 'mxnet seed 1']
    """
    found = list(itertools.product(archs, precisions, seeds, backends))
    facts: list[dict[str, Any]] = [
        {"backend": backend, "arch": arch, "precision": precision, "seed": seed}
        for arch, precision, seed, backend in found
    ]
    labels = labels_of(facts)
    return [
        Side(identity, label, python=pythons.get(str(fact["backend"])), **fact)
        for fact, label, identity in zip(facts, labels, ids_of(labels), strict=True)
    ]


def labels_of(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short and different names: the backend, and whatever is not the same in all; a number where nothing is left.

    >>> labels_of([{"backend": "torch", "seed": 0}, {"backend": "torch", "seed": 0}])
    ['torch', 'torch (2)']
    """
    words = {"arch": "{}", "precision": "{}", "seed": "seed {}"}
    varied = [key for key in words if len({str(fact.get(key)) for fact in facts}) > 1]
    labels: list[str] = []
    for fact in facts:
        told = (words[key].format(fact[key]) for key in varied if fact.get(key) is not None)
        label = " ".join([str(fact["backend"]), *told])
        number = next(n for n in itertools.count(1) if (label if n == 1 else f"{label} ({n})") not in labels)
        labels.append(label if number == 1 else f"{label} ({number})")
    return labels


def ids_of(labels: Sequence[str]) -> list[str]:
    """Names of the letters a to z, digits and hyphens, each another.

    >>> ids_of(["torch seed 0", "torch/seed 0"])
    ['torch-seed-0', 'torch-seed-0-2']
    """
    ids: list[str] = []
    for label in labels:
        stem = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "run"
        number = next(n for n in itertools.count(1) if (stem if n == 1 else f"{stem}-{n}") not in ids)
        ids.append(stem if number == 1 else f"{stem}-{number}")
    return ids
