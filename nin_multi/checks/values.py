"""Compares what one backend computes with the truth, number by number; why something differs is found elsewhere.

An error is ||a - b|| / ||b|| against float64 (0 where both are the same, infinite where shapes differ), for groups of
tensors the largest of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Backend, Masks, Network, StepResult
from nin_multi.checks import layer_causes, training_causes
from nin_multi.checks.dropout import drawn_mask, dropout_probe, fault_of
from nin_multi.checks.problem import Problem
from nin_multi.checks.report import ROOM, Finding, Report, tolerances
from nin_multi.checks.truth import MOMENTUM, MOMENTUM_RATES, STEP_RATE, Truth
from nin_multi.errors import NinMultiError
from nin_multi.knobs import Tuning, complete_tuning
from nin_multi.spec import Architecture

Answer = TypeVar("Answer")

SHOWN = 4  # numbers of a tensor, side by side

PARTS = (
    "parameters",
    "activations",
    "training",
    "evaluation_after_training",
    "step",
    "momentum",
    "native_dropout",
    "curve",
)
# The check that a part makes, where it is called otherwise.
_CHECKS = {
    "activations": "activation",
    "training": "gradient",
    "evaluation_after_training": "mode",
    "native_dropout": "dropout",
}


def verify(
    backend: Backend,
    problem: Problem,
    truth: Truth,
    *,
    device: str,
    precision: str,
    parts: Sequence[str] = PARTS,
    tuning: Tuning | None = None,
) -> Report:
    """Everything the protocol computes, or some `parts` of it, compared with the truth.

    What comes after a layer that diverges diverges too: of the activations only the first is a finding. What the net
    raises is one as well: on a layer of a wrong shape the next one may break.

    `tuning` is how the net is to be computed; knobs that it does not name have their defaults.

    Raises UnsupportedLayer, BackendUnavailable, UsageError (tuning).
    """
    complete_tuning(backend.knobs(problem.architecture, device=device, precision=precision), tuning)
    check = _Check(backend, problem, truth, device, precision, tuning or {})
    for part in parts if check.starts() else ():
        try:
            getattr(check, part)()
        except _NoAnswer as none:
            check.say(_CHECKS.get(part, part), "the net", "an answer", str(none))
    return check.report


class _NoAnswer(Exception):
    """The net raised something where it had to answer; the message says what."""


def _ask(question: Callable[[], Answer]) -> Answer:
    """What the net says. Raises _NoAnswer for whatever it raises, apart from errors that mean what they say."""
    try:
        return question()
    except NinMultiError:
        raise
    except Exception as error:  # frameworks raise anything
        reason = (str(error).strip().splitlines() or [""])[0]
        raise _NoAnswer(f"{type(error).__name__}: {reason}") from error


class _Check:
    """One verification under way: the net, the truth, and the report that fills."""

    network: Network

    def __init__(
        self, backend: Backend, problem: Problem, truth: Truth, device: str, precision: str, tuning: Tuning
    ) -> None:
        self.backend, self.device, self.precision, self.tuning = backend, device, precision, tuning
        self.problem, self.truth = problem, truth
        self.allowed = tolerances(precision)
        self.layers_allowed = {
            name: self.permitted("activation", name, value) for name, value in truth.activations.items()
        }
        self.allowed["activation"] = max(self.layers_allowed.values())
        self.allowed["logits"] = self.permitted("logits", list(truth.activations)[-1], truth.logits)
        self.allowed["loss"] = self.permitted("loss", "loss", np.asarray(truth.loss))
        self.report = Report(backend.name, precision, self.allowed)

    def starts(self) -> bool:
        """Build the net; False where that cannot be done, which is a finding."""
        try:
            self.network = self.build(self.problem.architecture, self.problem.params)
        except _NoAnswer as none:
            name = str(none.__cause__.args[0]) if isinstance(none.__cause__, KeyError) else "the net"
            causes = layer_causes.of_unexpected(name, self.problem.params)
            self.say("parameters", name, "a net with the parameters of the spec", str(none), causes)
            return False
        return True

    def build(self, architecture: Architecture, params: Mapping[str, NDArray[np.float32]]) -> Network:
        # A net of a few layers that asks one question may lack a knob, or a value of it, that the whole net has.
        knobs = self.backend.knobs(architecture, device=self.device, precision=self.precision)
        there = {knob.name: knob.values for knob in knobs}
        tuning = {name: value for name, value in self.tuning.items() if value in there.get(name, ())}
        return _ask(
            lambda: self.backend.build(
                architecture, params, device=self.device, precision=self.precision, seed=1, tuning=tuning
            )
        )

    def permitted(self, check: str, name: str, expected: NDArray[Any]) -> float:
        """The tolerance, or more where roundings on the way make more."""
        size = float(np.linalg.norm(expected))
        return max(self.allowed[check], ROOM * self.truth.noise[name] / size if size else 0.0)

    def find(
        self,
        check: str,
        where: str,
        observed: Any,
        expected: Any,
        causes: Iterator[str] | Sequence[str] = (),
        allowed: float | None = None,
    ) -> float:
        """Compare one tensor or number; a finding where it is too far. `causes` are only asked for then."""
        observed, expected = np.asarray(observed), np.asarray(expected)
        error, allowed = relative_error(observed, expected), self.allowed[check] if allowed is None else allowed
        if not error <= allowed:
            shown = _side_by_side(expected, observed)
            self.report.findings.append(Finding(check, where, error, allowed, *shown, tuple(causes)))
        return error

    def say(self, check: str, where: str, expected: str, observed: str, causes: Sequence[str] = ()) -> None:
        """A finding that is no distance."""
        self.report.findings.append(Finding(check, where, None, 0.0, expected, observed, tuple(causes)))

    def parameters(self) -> None:
        """They have to come out as they went in."""
        held, given = _ask(self.network.params), self.problem.params
        for name, value in given.items():
            if name not in held:
                self.say("parameters", name, "a parameter of the net", "none", layer_causes.of_missing(name))
            elif not np.array_equal(held[name], value):
                causes = layer_causes.of_parameter(name, held[name], given)
                self.say("parameters", name, *_side_by_side(value, held[name]), causes)
        for name in held:
            if name not in given:
                causes = layer_causes.of_unexpected(name, given)
                self.say("parameters", name, "no such parameter", "a parameter of the net", causes)

    def activations(self) -> None:
        """Layers in their order: the first that is off, those that are not there, those that nobody asked for."""
        seen: dict[str, NDArray[Any]] = {}
        try:
            _ask(lambda: seen.update(self.network.activations(self.problem.x)))
        except _NoAnswer:
            self.compare_layers(seen, whole=False)  # it may say why the net gave up
            raise
        self.compare_layers(seen, whole=True)
        logits = _ask(lambda: self.network.logits(self.problem.x))
        self.report.errors["logits"] = self.find("logits", "logits", logits, self.truth.logits)

    def compare_layers(self, seen: Mapping[str, NDArray[Any]], *, whole: bool) -> None:
        """Against the spec's layers; unless what is seen is the whole, those after the last one seen are no matter."""
        before: NDArray[Any] = self.problem.x
        diverged = False
        rows = list(self.problem.architecture.walk(len(self.problem.y)))
        reached = max((index for index, row in enumerate(rows) if row.name in seen), default=-1)
        for row in rows if whole else rows[: reached + 1]:
            if row.name not in seen:
                self.say("activation", row.name, "a layer", "none of that name", ("the layer is left out",))
                continue
            value, expected = seen[row.name], self.truth.activations[row.name]
            self.report.layers[row.name] = relative_error(value, expected)
            self.report.shapes[row.name] = value.shape
            # A block's own output is that of its last layer: it was looked at already.
            if not diverged and not row.inner:
                causes = layer_causes.of_layer(row, before, value, self.problem.params)
                allowed = self.layers_allowed[row.name]
                diverged = not self.find("activation", row.name, value, expected, causes, allowed) <= allowed
                before = expected
        for name in seen:
            if name not in self.truth.activations:
                self.say("activation", name, "no such layer", f"a layer of shape {_show(seen[name].shape)}")
        self.report.errors["activation"] = max(self.report.layers.values(), default=math.inf)

    def training(self) -> None:
        """Loss and gradients, with the masks of step 0."""
        problem, truth, before = self.problem, self.truth, _ask(self.network.params)
        loss, gradients = self.gradients()
        again, gradients_again = self.gradients()
        for name, value in _ask(self.network.params).items():
            if not np.array_equal(value, before[name]):
                cause = "asking for gradients moves the parameters"
                self.say("gradient", name, *_side_by_side(before[name], value), (cause,))
                break
        causes = training_causes.of_loss(problem, loss, truth.loss, again)
        self.report.errors["loss"] = self.find("loss", "loss", loss, truth.loss, causes)
        self.compare_named("gradient", gradients, truth.gradients, self.report.gradients)
        # What is not cleared is doubled the second time.
        self.compare_named("gradient", gradients_again, truth.gradients)

    def gradients(self) -> tuple[float, Mapping[str, NDArray[Any]]]:
        problem = self.problem
        return _ask(lambda: self.network.loss_and_gradients(problem.x, problem.y, problem.masks))

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
        for name in self.problem.params:  # the truth's own order may be backward
            least = ROOM * self.truth.noise[name] / self.allowed[check] if check == "gradient" else 0.0
            found[name] = relative_error(observed[name], expected[name], least) if name in observed else math.inf
            if not found[name] <= self.allowed[check]:
                far.append(name)
        worst = max(found.values(), default=0.0)
        self.report.errors[check] = max(self.report.errors.get(check, 0.0), worst)
        if far and not any(finding.check == check for finding in self.report.findings):
            causes = training_causes.of_moves(check, self.problem, observed, expected, start)
            name = far[-1]  # backward, the last parameter's comes first
            shown = _side_by_side(expected[name], np.asarray(observed.get(name, np.empty(0))))
            self.report.findings.append(Finding(check, name, found[name], self.allowed[check], *shown, tuple(causes)))

    def evaluation_after_training(self) -> None:
        """A pass of training leaves the net as it was, so its logits have to be, to the last bits."""
        before = _ask(lambda: self.network.logits(self.problem.x))
        self.gradients()
        after, again = (_ask(lambda: self.network.logits(self.problem.x)) for _ in range(2))
        error = relative_error(after, before)
        if not error <= self.allowed["logits"]:
            causes = training_causes.of_mode(after, again)
            shown = _side_by_side(before, after)
            self.report.findings.append(Finding("mode", "logits", error, self.allowed["logits"], *shown, causes))

    def train(self, masks: Masks, rate: float, momentum: float = 0.0) -> StepResult:
        problem = self.problem
        return _ask(lambda: self.network.train_step(problem.x, problem.y, masks, rate, momentum))

    def restore(self) -> None:
        _ask(lambda: self.network.restore(self.problem.params, {}))

    def step(self) -> None:
        problem, count = self.problem, len(self.problem.y)
        self.restore()
        result = self.train(problem.masks, STEP_RATE)
        if result.count != count:
            self.say("step", "count", str(count), str(result.count))
        causes = training_causes.of_loss(problem, result.loss, self.truth.loss * count)
        self.find("loss", "sum over the batch", result.loss, self.truth.loss * count, causes)
        self.compare_named("step", _ask(self.network.params), self.truth.stepped, start=problem.params)

    def momentum(self) -> None:
        """Two steps whose rates differ."""
        problem = self.problem
        self.restore()
        for rate in MOMENTUM_RATES:
            self.train(problem.masks, rate, MOMENTUM)
        self.compare_named("momentum", _ask(self.network.params), self.truth.moved, start=problem.params)

    def native_dropout(self) -> None:
        """The framework's own draws, where the net has dropout."""
        rates = {rate for rate, _ in self.problem.architecture.dropouts().values()}
        # At 0.5 keeping and dropping look alike: 0.2 is always asked.
        for rate in sorted({*rates, 0.2} if rates else ()):
            network = self.build(*dropout_probe(rate))
            masks = [_ask(partial(drawn_mask, network)) for _ in range(2)]
            self.report.dropped[f"{rate:g}"] = float((masks[0] == 0).mean())
            if fault := fault_of(masks, rate):
                self.say("dropout", f"rate {rate:g}", *fault)

    def curve(self) -> None:
        """The loss of each step; the first that is off is told."""
        problem, truth = self.problem, self.truth
        self.restore()
        worst = 0.0
        for step, expected in enumerate(truth.curve):
            loss = self.train(problem.masks_of(step), truth.rate).loss / len(problem.y)
            error = relative_error(np.asarray(loss), np.asarray(expected))
            worst = max(worst, error) if error <= math.inf else math.inf
            if not error <= self.allowed["curve"]:
                causes = training_causes.of_curve(problem, truth.rate, step, loss)
                self.find("curve", f"step {step + 1}", loss, expected, causes)
                break
        if truth.curve:
            self.report.errors["curve"] = worst


def relative_error(observed: NDArray[Any], expected: NDArray[Any], least: float = 0.0) -> float:
    """||observed - expected|| / max(||expected||, least); infinite where shapes differ or a number is none."""
    if observed.shape != expected.shape:
        return math.inf
    a, b = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = float(np.linalg.norm(a - b))
    if distance == 0.0:
        return 0.0
    size = max(float(np.linalg.norm(b)), least)
    return distance / size if size and math.isfinite(distance) else math.inf


def _side_by_side(expected: NDArray[Any], observed: NDArray[Any]) -> tuple[str, str]:
    """Shapes where they differ, else the numbers from where the two differ most."""
    if expected.shape != observed.shape:
        return f"shape {_show(expected.shape)}", f"shape {_show(observed.shape)}"
    a, b = np.asarray(expected, np.float64).ravel(), np.asarray(observed, np.float64).ravel()
    with np.errstate(invalid="ignore"):
        furthest = int(np.nan_to_num(np.abs(a - b), nan=np.inf).argmax()) if len(a) else 0
    start = max(min(furthest, len(a) - SHOWN), 0)
    texts = [" ".join(f"{number:.7g}" for number in value[start : start + SHOWN]) for value in (a, b)]
    return texts[0], texts[1]


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "of a number"
