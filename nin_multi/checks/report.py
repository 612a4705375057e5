"""What a verification says: distances, what is allowed, what does not hold; how it is found out is in `values`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

# How many times the noise of roundings on the way (`Truth.noise`) a result may be off where that is more than the
# tolerance: the sums inside a layer add roundings of their own, and some results are sums that cancel.
ROOM = 16.0

# What arithmetic allows, by precision; bf16 keeps 8 bits of every factor, and decides much where float32 does not.
_TOLERANCES: dict[str, dict[str, float]] = {
    "fp32": {
        "activation": 2e-6,
        "logits": 1e-6,
        "loss": 1e-6,
        "gradient": 1e-4,
        "step": 1e-6,
        "momentum": 2e-5,  # after its first step decisions are no longer clear; other definitions are far further off
        "curve": 1e-4,
    },
    "bf16": {
        "activation": 5e-2,
        "logits": 5e-2,
        "loss": 1e-2,
        "gradient": 5e-1,
        "step": 1e-2,
        "momentum": 5e-2,
        "curve": 5e-2,
    },
}


def tolerances(precision: str) -> dict[str, float]:
    """The largest error allowed for each check; what float32 has to keep, float64 has to keep too."""
    return dict(_TOLERANCES.get(precision, _TOLERANCES["fp32"]))


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold.

    Attributes:
        check: "parameters", "activation", "logits", "mode", "loss", "gradient", "step", "momentum", "dropout", "curve".
        where: a layer, a parameter, or a step.
        error, allowed: relative; the error is None where there is nothing to compare.
        expected, observed: shapes and a few numbers, where they differ most.
        causes: the known defaults that would give just these numbers; empty where none does.
    """

    check: str
    where: str
    error: float | None
    allowed: float
    expected: str
    observed: str
    causes: tuple[str, ...] = ()


@dataclass
class Report:
    """How far one backend is from the truth, and all that does not hold, in the order of computation."""

    backend: str
    precision: str
    allowed: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    layers: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `verify` for one backend."""
        found = {f"{check}_rel_err": _finite(error) for check, error in self.errors.items()}
        found["grad_rel_err"] = found.pop("gradient_rel_err", None)
        findings = [{**asdict(finding), "error": _finite(finding.error)} for finding in self.findings]
        return {
            "precision": self.precision,
            **found,
            "first_divergence": findings[0] if findings else None,
            "divergences": findings,
            "layers": {name: _finite(error) for name, error in self.layers.items()},
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "gradients": {name: _finite(error) for name, error in self.gradients.items()},
            "native_dropout": self.dropped,
            "tolerances": self.allowed,
            "agree": self.agrees,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
