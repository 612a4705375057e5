"""Compares what one backend computes with the truth, number by number; why something differs is `diagnosis`'s business.

An error is ||a - b|| / ||b|| against float64 (0 where both are the same, infinite where shapes differ), for groups of
tensors the largest of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Backend, Network
from nin_multi.checks import diagnosis
from nin_multi.checks.dropout import drawn_mask, dropout_probe, fault_of
from nin_multi.checks.problem import Problem
from nin_multi.checks.truth import CURVE_RATE, MOMENTUM, MOMENTUM_RATES, STEP_RATE, Truth
from nin_multi.spec import Architecture

SHOWN = 4  # numbers of a tensor, side by side

# What arithmetic allows, by precision; bf16 keeps 8 bits of every factor, and decides much where float32 does not.
_TOLERANCES: dict[str, dict[str, float]] = {
    "fp32": {
        "activation": 2e-6,
        "logits": 1e-6,
        "loss": 1e-6,
        "gradient": 1e-4,
        "step": 1e-6,
        "momentum": 2e-6,
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
    errors: dict[str, float] = field(default_factory=dict)
    layers: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

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
            "gradients": {name: _finite(error) for name, error in self.gradients.items()},
            "native_dropout": self.dropped,
            "tolerances": tolerances(self.precision),
            "agree": self.agrees,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def verify(backend: Backend, problem: Problem, truth: Truth, *, device: str, precision: str) -> Report:
    """Everything the protocol computes, compared with the truth. Raises UnsupportedLayer, BackendUnavailable.

    What comes after a layer that diverges diverges too: of the activations only the first is a finding.
    """
    check = _Check(backend, problem, truth, device, precision)
    check.parameters()
    check.activations()
    check.training()
    check.evaluation_after_training()
    check.step()
    check.momentum()
    check.native_dropout()
    check.curve()
    return check.report


class _Check:
    """One verification under way: the net, the truth, and the report that fills."""

    def __init__(self, backend: Backend, problem: Problem, truth: Truth, device: str, precision: str) -> None:
        self.backend, self.device, self.precision = backend, device, precision
        self.problem, self.truth = problem, truth
        self.allowed = tolerances(precision)
        self.report = Report(backend.name, precision)
        self.network = self.build(problem.architecture, problem.params)
        self.logits: NDArray[Any] = np.empty(0)

    def build(self, architecture: Architecture, params: Mapping[str, NDArray[np.float32]]) -> Network:
        return self.backend.build(architecture, params, device=self.device, precision=self.precision, seed=1)

    def find(
        self, check: str, where: str, observed: Any, expected: Any, causes: Iterator[str] | Sequence[str] = ()
    ) -> float:
        """Compare one tensor or number; a finding where it is too far. `causes` are only asked for then."""
        observed, expected = np.asarray(observed), np.asarray(expected)
        error = relative_error(observed, expected)
        if not error <= self.allowed[check]:
            shown = _side_by_side(expected, observed)
            self.report.findings.append(Finding(check, where, error, self.allowed[check], *shown, tuple(causes)))
        return error

    def say(self, check: str, where: str, expected: str, observed: str, causes: Sequence[str] = ()) -> None:
        """A finding that is no distance."""
        self.report.findings.append(Finding(check, where, None, 0.0, expected, observed, tuple(causes)))

    def parameters(self) -> None:
        """They have to come out as they went in."""
        held, given = self.network.params(), self.problem.params
        for name, value in given.items():
            if name not in held:
                self.say("parameters", name, "a parameter of the net", "none", diagnosis.of_missing(name))
            elif not np.array_equal(held[name], value):
                causes = diagnosis.of_parameter(held[name], value)
                self.say("parameters", name, *_side_by_side(value, held[name]), causes)
        for name in held:
            if name not in given:
                self.say("parameters", name, "no such parameter", "a parameter of the net")

    def activations(self) -> None:
        seen: dict[str, NDArray[Any]] = {}
        rows = {row.name: row for row in self.problem.architecture.walk(len(self.problem.y))}
        before: NDArray[Any] = self.problem.x
        diverged = False
        for name, value in self.network.activations(self.problem.x):
            seen[name] = value
            if name not in self.truth.activations:
                self.say("activation", name, "no such layer", f"a layer of shape {value.shape}")
                continue
            expected = self.truth.activations[name]
            self.report.layers[name] = relative_error(value, expected)
            # A block's own output is that of its last layer: it was looked at already.
            if not diverged and not rows[name].inner:
                causes = diagnosis.of_layer(rows[name], before, value, self.problem.params)
                self.find("activation", name, value, expected, causes)
                diverged = not self.report.layers[name] <= self.allowed["activation"]
                before = expected
        for name in self.truth.activations:
            if name not in seen:
                self.say("activation", name, "a layer", "none of that name")
        self.report.errors["activation"] = max(self.report.layers.values(), default=math.inf)
        self.logits = self.network.logits(self.problem.x)
        self.report.errors["logits"] = self.find("logits", "logits", self.logits, self.truth.logits)

    def training(self) -> None:
        """Loss and gradients, with the masks of step 0."""
        problem, truth = self.problem, self.truth
        loss, gradients = self.network.loss_and_gradients(problem.x, problem.y, problem.masks)
        causes = diagnosis.of_loss(problem, loss, truth.loss)
        self.report.errors["loss"] = self.find("loss", "loss", loss, truth.loss, causes)
        self.compare_named("gradient", gradients, truth.gradients, self.report.gradients)
        # Once more: a gradient that was not cleared is doubled now.
        again = self.network.loss_and_gradients(problem.x, problem.y, problem.masks)[1]
        self.compare_named("gradient", again, truth.gradients)

    def compare_named(
        self,
        check: str,
        observed: Mapping[str, NDArray[Any]],
        expected: Mapping[str, NDArray[Any]],
        errors: dict[str, float] | None = None,
        start: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Tensors by parameter name. With `start`, causes are looked for in how far each has moved from there."""
        far: list[str] = []
        found: dict[str, float] = {} if errors is None else errors
        for name, value in expected.items():
            found[name] = relative_error(observed[name], value) if name in observed else math.inf
            if not found[name] <= self.allowed[check]:
                far.append(name)
        worst = max(found.values(), default=0.0)
        self.report.errors[check] = max(self.report.errors.get(check, 0.0), worst)
        if far and not any(finding.check == check for finding in self.report.findings):
            causes = diagnosis.of_moves(check, self.problem, observed, expected, start)
            name = far[-1]  # backward, the last parameter's comes first
            shown = _side_by_side(expected[name], np.asarray(observed.get(name, np.empty(0))))
            self.report.findings.append(Finding(check, name, found[name], self.allowed[check], *shown, tuple(causes)))

    def evaluation_after_training(self) -> None:
        """The net is as it was, so its logits have to be, to the last bits."""
        after = self.network.logits(self.problem.x)
        error = relative_error(after, self.logits)
        if not error <= self.allowed["logits"]:
            shown = _side_by_side(self.logits, after)
            causes = ("after a training step the net is not set back to evaluation: a mode switch is missing",)
            self.report.findings.append(Finding("mode", "logits", error, self.allowed["logits"], *shown, causes))

    def step(self) -> None:
        problem = self.problem
        self.network.restore(problem.params, {})
        result = self.network.train_step(problem.x, problem.y, problem.masks, STEP_RATE)
        if result.count != len(problem.y):
            self.say("step", "count", str(len(problem.y)), str(result.count))
        causes = diagnosis.of_loss(problem, result.loss, self.truth.loss * len(problem.y))
        self.find("loss", "sum over the batch", result.loss, self.truth.loss * len(problem.y), causes)
        self.compare_named("step", self.network.params(), self.truth.stepped, start=problem.params)

    def momentum(self) -> None:
        """Two steps whose rates differ."""
        problem = self.problem
        self.network.restore(problem.params, {})
        for rate in MOMENTUM_RATES:
            self.network.train_step(problem.x, problem.y, problem.masks, rate, MOMENTUM)
        self.compare_named("momentum", self.network.params(), self.truth.moved, start=problem.params)

    def native_dropout(self) -> None:
        """The framework's own draws, where the net has dropout."""
        rates = {rate for rate, _ in self.problem.architecture.dropouts().values()}
        # At 0.5 keeping and dropping look alike: 0.2 is always asked.
        for rate in sorted({*rates, 0.2} if rates else ()):
            network = self.build(*dropout_probe(rate))
            masks = [drawn_mask(network) for _ in range(2)]
            self.report.dropped[f"{rate:g}"] = float((masks[0] == 0).mean())
            if fault := fault_of(masks, rate):
                self.say("dropout", f"native dropout at rate {rate:g}", *fault)

    def curve(self) -> None:
        """The loss of each step; the first that is off is told."""
        problem, truth = self.problem, self.truth
        self.network.restore(problem.params, {})
        worst = 0.0
        for step, expected in enumerate(truth.curve):
            masks = problem.masks_of(step)
            loss = self.network.train_step(problem.x, problem.y, masks, CURVE_RATE).loss / len(problem.y)
            error = relative_error(np.asarray(loss), np.asarray(expected))
            worst = max(worst, error) if error <= math.inf else math.inf
            if not error <= self.allowed["curve"]:
                self.find("curve", f"step {step + 1}", loss, expected)
                break
        if truth.curve:
            self.report.errors["curve"] = worst


def relative_error(observed: NDArray[Any], expected: NDArray[Any]) -> float:
    """||observed - expected|| / ||expected||; infinite where shapes differ or a number is none."""
    if observed.shape != expected.shape:
        return math.inf
    a, b = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = float(np.linalg.norm(a - b))
    if distance == 0.0:
        return 0.0
    size = float(np.linalg.norm(b))
    return distance / size if size and math.isfinite(distance) else math.inf


def _side_by_side(expected: NDArray[Any], observed: NDArray[Any]) -> tuple[str, str]:
    """Shapes where they differ, else the numbers from where the two differ most."""
    if expected.shape != observed.shape:
        return f"shape {_show(expected.shape)}", f"shape {_show(observed.shape)}"
    a, b = np.asarray(expected, np.float64).ravel(), np.asarray(observed, np.float64).ravel()
    with np.errstate(invalid="ignore"):
        furthest = int(np.nan_to_num(np.abs(a - b), nan=np.inf).argmax()) if len(a) else 0
    shown = slice(max(min(furthest, len(a) - SHOWN), 0), max(min(furthest, len(a) - SHOWN), 0) + SHOWN)
    return " ".join(f"{number:.7g}" for number in a[shown]), " ".join(f"{number:.7g}" for number in b[shown])


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "of a number"
