"""A run as a plan asks for it, and whether a run directory holds just that; not where plans come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nin_multi.spec import Architecture
from nin_multi.training.run_directory import RUN, RunDirectory


@dataclass(frozen=True)
class Wanted:
    """One run that is asked for: recipe (without its seed) and net are what it must have been to count."""

    backend: str
    seed: int
    arch: str  # as `train` takes it
    options: tuple[str, ...]  # more arguments of `train`
    recipe: dict[str, Any]
    architecture: Architecture  # as it is trained
    dataset: str  # as `train` takes it: "auto" is whatever is there

    @property
    def net(self) -> str:
        return fingerprint(self.architecture)

    def arguments(self) -> list[str]:
        """What begins it with `train`, all but its directory."""
        return ["--backend", self.backend, "--arch", self.arch, "--seed", str(self.seed), *self.options]


def fingerprint(architecture: Architecture) -> str:
    """Of a net's layers and input, whatever it is called."""
    layers = architecture.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(layers, sort_keys=True).encode()).hexdigest()[:12]


def differences(wanted: Wanted, run: Path) -> list[str]:
    """What a run is that was not asked for; how exactly it was computed (precision, knobs) does not count."""
    directory = RunDirectory.open(run)
    facts = directory.facts()
    asked = {**wanted.recipe, "backend": wanted.backend, "seed": wanted.seed}
    real = {**facts["recipe"], "backend": facts["backend"], "dataset": facts["dataset"]["name"]}
    if wanted.dataset != "auto":
        asked["dataset"] = wanted.dataset
    found = [f"{name} {real.get(name)}, not {value}" for name, value in asked.items() if real.get(name) != value]
    if any(taken_up["backend"] != wanted.backend for taken_up in facts.get("resumed", [])):
        found.append("went on with another backend")
    return found + (["another net"] if fingerprint(directory.architecture()) != wanted.net else [])


def has_begun(run: Path) -> bool:
    """Whether a run is there that can be gone on with."""
    return (run / RUN).exists()


def end_of(run: Path) -> dict[str, Any] | None:
    """The result of a run that has come to its end, well or by divergence; None where there is something left to do."""
    result = RunDirectory.open(run).result() if has_begun(run) else {}
    return dict(result) if result.get("status") in ("done", "diverged") else None
