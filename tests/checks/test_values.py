"""`checks.verify` with the oracle in a backend's place, right or wrong on purpose: what is found, where and how told.

Which cause explains a difference, and the frameworks' own mistakes, are tested in tests/conformance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures

from nin_multi.backend import StepResult
from nin_multi.checks import PARTS, Finding, Problem, Report, Truth, clear_problem, find_truth, verify
from nin_multi.checks.values import relative_error
from nin_multi.errors import BackendUnavailable, UnsupportedLayer
from nin_multi.oracle import NumpyBackend, NumpyNetwork
from nin_multi.spec import Architecture, AvgPool2d, MaxPool2d, ReLU

BLOCK = {"type": "nin_block", "out_channels": 5, "kernel_size": 3, "padding": 1}
LAYERS: list[dict[str, Any]] = [
    BLOCK,
    {"type": "max_pool2d", "kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"type": "dropout", "rate": 0.2},
    {"type": "conv2d", "out_channels": 4, "kernel_size": 3},
    {"type": "relu"},
    {"type": "global_avg_pool2d"},
    {"type": "flatten"},
    {"type": "linear", "out_features": 5},
]
NET = Architecture.model_validate({"name": "x", "input": [2, 9, 9], "layers": LAYERS})
ERRORS = {"activation", "logits", "loss", "gradient", "step", "momentum", "curve"}


@pytest.fixture(scope="module")
def problem() -> Problem:
    return clear_problem(NET, 4, seed=7)


@pytest.fixture(scope="module")
def truth(problem: Problem) -> Truth:
    return find_truth(problem, 6)


def check(problem: Problem, truth: Truth, build: Callable[..., Any] = NumpyNetwork, parts: Any = PARTS) -> Report:
    """A verification of nets that `build` makes of an architecture, parameters and a seed."""

    class Backend(NumpyBackend):
        name = "made up"

        def build(self, architecture, params, *, device, precision, seed=None, tuning=None):
            return build(architecture, params, seed)

    return verify(Backend(), problem, truth, device="cpu", precision="fp64", parts=parts)


def strict(report: Report) -> dict[str, Any]:
    """Its JSON, once out and in again; infinities and NaN are none."""
    return json.loads(json.dumps(report.as_dict(), allow_nan=False))


# --- nothing is wrong ------------------------------------------------------------------------------------------------


def assert_agrees(report: Report, architecture: Architecture) -> None:
    assert report.findings == []
    assert report.agrees
    assert list(report.layers) == [row.name for row in architecture.walk()]
    assert list(report.gradients) == list(architecture.parameter_shapes())
    assert set(report.layers.values()) == {0.0}
    assert max(report.errors.values()) < 2e-7  # parameters and gradients come out in float32
    found = strict(report)
    assert found["agree"] is True
    assert found["first_divergence"] is None
    assert found["divergences"] == []


@settings(max_examples=40, deadline=None)
@given(architectures(max_size=12), st.integers(1, 4), st.integers(0, 2**32))
def test_the_oracle_agrees_with_itself(architecture: Architecture, batch: int, seed: int) -> None:
    posed = clear_problem(architecture, batch, seed)
    report = check(posed, find_truth(posed, 2))
    assert report.errors.keys() == ERRORS
    assert_agrees(report, architecture)


@pytest.mark.parametrize(
    "layers",
    [
        [{"type": "flatten"}],
        [{"type": "relu"}, {"type": "dropout", "rate": 0.5}, {"type": "global_avg_pool2d"}, {"type": "flatten"}],
    ],
    ids=["flatten", "dropout"],
)
def test_a_net_without_parameters(layers: list[dict[str, Any]]) -> None:
    architecture = Architecture.model_validate({"name": "x", "input": [3, 4, 4], "layers": layers})
    posed = clear_problem(architecture, 2)
    report = check(posed, find_truth(posed, 3))
    assert_agrees(report, architecture)
    assert strict(report)["grad_rel_err"] == 0


def test_the_oracle_agrees_with_itself_on_the_net_that_others_get_wrong(problem: Problem, truth: Truth) -> None:
    assert_agrees(check(problem, truth), NET)


def test_without_steps_there_is_no_curve(problem: Problem) -> None:
    report = check(problem, find_truth(problem, 0))
    assert_agrees(report, NET)
    assert report.errors.keys() == ERRORS - {"curve"}


# --- wrong nets ------------------------------------------------------------------------------------------------------


class BiasLeftOut(NumpyNetwork):
    def restore(self, params: Any, velocities: Any) -> None:
        super().restore({name: value for name, value in params.items() if name != "conv1.bias"}, velocities)


class BiasNotAdded(NumpyNetwork):
    """It has the parameter, and does not use it."""

    def activations(self, x: Any) -> Iterator[Any]:
        held = self._params
        self._params = {name: value for name, value in held.items() if name != "conv1.bias"}
        yield from list(super().activations(x))
        self._params = held


def other_layers(change: Callable[[tuple[Any, ...]], Any]) -> Callable[..., NumpyNetwork]:
    """A net of the parameters it gets, and of other layers."""

    def build(architecture: Architecture, params: Any, seed: int | None) -> NumpyNetwork:
        if architecture.name == NET.name:
            architecture = Architecture.model_validate({**architecture.model_dump(), "layers": change(NET.layers)})
        return NumpyNetwork(architecture, params, seed)

    return build


def mean_for_largest(layers: tuple[Any, ...]) -> Any:
    pools = {row.name: AvgPool2d(**row.model_dump(exclude={"type"})) for row in layers if isinstance(row, MaxPool2d)}
    return [pools.get(row.name, row) for row in layers]


def no_relu(layers: tuple[Any, ...]) -> Any:
    return [layer for layer in layers if not isinstance(layer, ReLU)]


def one_relu_more(layers: tuple[Any, ...]) -> Any:
    return [*layers[:5], ReLU(name="extra"), *layers[5:]]


def wider_steps(layers: tuple[Any, ...]) -> Any:
    return [layers[0], layers[1].model_copy(update={"stride": (2, 3)}), *layers[2:]]


class Tanh(NumpyNetwork):
    """One activation is another."""

    def activations(self, x: Any) -> Iterator[Any]:
        before = None
        for name, value in super().activations(x):
            yield name, np.tanh(before) if name == "block1.relu1" else value
            before = value


class ZeroWeights(NumpyNetwork):
    def __init__(self, architecture: Any, params: Any, seed: Any) -> None:
        super().__init__(architecture, params, seed)
        if "block1.mlp1.weight" in self._params:
            self._params["block1.mlp1.weight"] *= 0


class OneNumberOff(NumpyNetwork):
    def restore(self, params: Any, velocities: Any) -> None:
        super().restore(params, velocities)
        if "conv1.weight" in self._params:
            self._params["conv1.weight"] = self._params["conv1.weight"].copy()
            self._params["conv1.weight"][3, 2, 1, 0] *= 1 + 1e-6


class MaskIgnored(NumpyNetwork):
    def differentiate(self, x: Any, y: Any, masks: Any) -> Any:
        return super().differentiate(x, y, masks if masks is None else {})


class Summing(NumpyNetwork):
    """Sums over the batch for means."""

    def differentiate(self, x: Any, y: Any, masks: Any) -> Any:
        loss, gradients, logits = super().differentiate(x, y, masks)
        return len(y) * loss, {name: len(y) * value for name, value in gradients.items()}, logits


class SummedGradients(NumpyNetwork):
    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        loss, gradients = super().loss_and_gradients(x, y, masks)
        return loss, {name: len(y) * value for name, value in gradients.items()}


class OneGradientOff(NumpyNetwork):
    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        loss, gradients = super().loss_and_gradients(x, y, masks)
        return loss, {name: value * (1.001 if name == "conv1.weight" else 1) for name, value in gradients.items()}


class OneGradientMissing(NumpyNetwork):
    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        loss, gradients = super().loss_and_gradients(x, y, masks)
        return loss, {name: value for name, value in gradients.items() if name != "block1.mlp2.bias"}


class NotCleared(NumpyNetwork):
    """Gradients are added to those of the call before."""

    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        loss, gradients = super().loss_and_gradients(x, y, masks)
        before = getattr(self, "before", {})
        self.before = {name: value + before.get(name, 0) for name, value in gradients.items()}
        return loss, self.before


class MovedByAsking(NumpyNetwork):
    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        found = super().loss_and_gradients(x, y, masks)
        if "conv1.bias" in self._params:
            self._params["conv1.bias"] = self._params["conv1.bias"] * (1 + 1e-6)
        return found


class StaysInTraining(NumpyNetwork):
    """After a training pass, evaluation still drops."""

    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        self.is_training = True
        return super().loss_and_gradients(x, y, masks)

    def logits(self, x: Any) -> Any:
        drawn = None if getattr(self, "is_training", False) else {}
        return self.differentiate(x, np.zeros(len(x), np.int32), drawn)[2]


class OtherLogits(NumpyNetwork):
    def logits(self, x: Any) -> Any:
        return super().logits(x) * 1.0001


class MeanLoss(NumpyNetwork):
    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        result = super().train_step(x, y, masks, lr, momentum)
        return StepResult(result.loss / len(y), result.correct, result.count)


class CountsOne(NumpyNetwork):
    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        result = super().train_step(x, y, masks, lr, momentum)
        return StepResult(result.loss, result.correct, 1)


class RateTwice(NumpyNetwork):
    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        return super().train_step(x, y, masks, 2 * lr, momentum)


class RateInside(NumpyNetwork):
    """v <- m v - lr g, p <- p + v: another step once the rate changes."""

    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        if momentum:
            change = getattr(self, "rate", lr) / lr
            self._velocities = {name: change * value for name, value in self._velocities.items()}
            self.rate = lr
        return super().train_step(x, y, masks, lr, momentum)


class VelocityKept(NumpyNetwork):
    """Restoring leaves the velocities as they are."""

    def restore(self, params: Any, velocities: Any) -> None:
        super().restore(params, velocities)
        self._velocities = {name: np.full(value.shape, 1e-3) for name, value in self._params.items()}


class StaleMasks(NumpyNetwork):
    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        self.masks = getattr(self, "masks", masks)
        return super().train_step(x, y, self.masks, lr, momentum)


class KeepsForDrops(NumpyNetwork):
    def _draw(self, batch: int) -> Any:
        shapes = self.architecture.dropouts().items()
        return {
            name: ((self._random.random((batch, *shape)) < rate) / rate).astype(np.float32)
            for name, (rate, shape) in shapes
        }


class DrawsAnew(NumpyNetwork):
    def _draw(self, batch: int) -> Any:
        self._random = np.random.default_rng(0)
        return super()._draw(batch)


class NanInALayer(NumpyNetwork):
    def activations(self, x: Any) -> Iterator[Any]:
        for name, value in super().activations(x):
            shown = value.copy()
            if name == "block1.relu":
                shown[1, 2, 3, 4] = np.nan
            yield name, shown


class NanInTheLogits(NumpyNetwork):
    def logits(self, x: Any) -> Any:
        found = super().logits(x)
        found[0, 0] = np.nan
        return found


class NanLoss(NumpyNetwork):
    def differentiate(self, x: Any, y: Any, masks: Any) -> Any:
        return math.nan, *super().differentiate(x, y, masks)[1:]


class NanInAGradient(NumpyNetwork):
    def differentiate(self, x: Any, y: Any, masks: Any) -> Any:
        loss, gradients, logits = super().differentiate(x, y, masks)
        if "conv1.bias" in gradients:
            gradients["conv1.bias"][0] = np.nan
        return loss, gradients, logits


class NanAfterAStep(NumpyNetwork):
    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        result = super().train_step(x, y, masks, lr, momentum)
        self._params["block1.mlp1.bias"][0] = np.nan
        return result


class GivesUp(NumpyNetwork):
    """Raises in the middle of a forward pass, after a wrong layer."""

    def activations(self, x: Any) -> Iterator[Any]:
        for name, value in super().activations(x):
            if name == "pool1":
                yield name, value[:, :, 1:]
                raise RuntimeError("mat1 and mat2 cannot be multiplied\nand more")
            yield name, value


class NoGradients(NumpyNetwork):
    def loss_and_gradients(self, x: Any, y: Any, masks: Any) -> Any:
        raise RuntimeError("no graph")


class NoSteps(NumpyNetwork):
    def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
        raise ZeroDivisionError


LAST = "linear1.bias"
WRONG: dict[str, tuple[Callable[..., Any], str, str]] = {
    "a bias left out": (BiasLeftOut, "parameters", "conv1.bias"),
    "a bias not added": (BiasNotAdded, "activation", "conv1"),
    "weights never put in": (ZeroWeights, "parameters", "block1.mlp1.weight"),
    "one number of a parameter": (OneNumberOff, "parameters", "conv1.weight"),
    "a mean for the largest": (other_layers(mean_for_largest), "activation", "pool1"),
    "another output size": (other_layers(wider_steps), "activation", "pool1"),
    "a layer missing": (other_layers(no_relu), "activation", "relu1"),
    "a layer too many": (other_layers(one_relu_more), "activation", "extra"),
    "another activation": (Tanh, "activation", "block1.relu1"),
    "other logits": (OtherLogits, "logits", "logits"),
    "a mask ignored": (MaskIgnored, "loss", "loss"),
    "sums for means": (Summing, "loss", "loss"),
    "sums of gradients": (SummedGradients, "gradient", LAST),
    "one gradient off": (OneGradientOff, "gradient", "conv1.weight"),
    "one gradient missing": (OneGradientMissing, "gradient", "block1.mlp2.bias"),
    "gradients not cleared": (NotCleared, "gradient", LAST),
    "asking moves": (MovedByAsking, "gradient", "conv1.bias"),
    "evaluation not restored": (StaysInTraining, "mode", "logits"),
    "a mean loss of a step": (MeanLoss, "loss", "sum over the batch"),
    "a wrong count": (CountsOne, "step", "count"),
    "the rate twice": (RateTwice, "step", LAST),
    "the rate inside": (RateInside, "momentum", LAST),
    "velocities kept": (VelocityKept, "momentum", LAST),
    "masks of the first step": (StaleMasks, "curve", "step 2"),
    "keeping for dropping": (KeepsForDrops, "dropout", "rate 0.2"),
    "the same draw each time": (DrawsAnew, "dropout", "rate 0.2"),
    "NaN in a layer": (NanInALayer, "activation", "block1.relu"),
    "NaN in the logits": (NanInTheLogits, "logits", "logits"),
    "NaN for a loss": (NanLoss, "loss", "loss"),
    "NaN in a gradient": (NanInAGradient, "gradient", "conv1.bias"),
    "NaN after a step": (NanAfterAStep, "step", "block1.mlp1.bias"),
    "an error after a wrong layer": (GivesUp, "activation", "pool1"),
    "an error for gradients": (NoGradients, "gradient", "the net"),
    "an error for a step": (NoSteps, "step", "the net"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_net_is_found_where_it_is_wrong(problem: Problem, truth: Truth, name: str) -> None:
    build, kind, where = WRONG[name]
    report = check(problem, truth, build)
    assert not report.agrees
    first = report.findings[0]
    assert (first.check, first.where) == (kind, where), report.findings
    assert first.expected != first.observed
    assert first.error is None or not first.error <= first.allowed
    found = strict(report)
    assert found["agree"] is False
    assert found["first_divergence"] == found["divergences"][0]
    assert (found["first_divergence"]["check"], found["first_divergence"]["where"]) == (kind, where)
    assert len(found["divergences"]) == len(report.findings)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("a bias left out", "without its bias"),
        ("a bias not added", "bias is left out"),
        ("weights never put in", "all zeros"),
        ("a mean for the largest", "mean"),
        ("a layer missing", "left out"),
        ("another activation", "tanh"),
        ("a mask ignored", "dropout does nothing in training"),
        ("sums of gradients", "summed over the batch"),
        ("evaluation not restored", "mode switch"),
        ("the rate inside", "learning rate inside"),
        ("keeping for dropping", "share that is kept"),
    ],
)
def test_the_cause_is_named(problem: Problem, truth: Truth, name: str, cause: str) -> None:
    causes = check(problem, truth, WRONG[name][0]).findings[0].causes
    assert causes
    assert cause in causes[0]


def test_of_the_layers_only_the_first_that_diverges_is_told(problem: Problem, truth: Truth) -> None:
    report = check(problem, truth, other_layers(mean_for_largest), ["activations"])
    assert [finding.where for finding in report.findings if finding.check == "activation"] == ["pool1"]
    before, after = report.layers["block1"], [report.layers[name] for name in ("pool1", "conv1", "flatten1", "linear1")]
    assert before == 0
    assert min(after) > 1e-2
    assert report.errors["activation"] == max(report.layers.values())


def test_layers_after_an_error_are_not_missed(problem: Problem, truth: Truth) -> None:
    """What the net raises on the layer after the wrong one is told as well; what it never came to is not."""
    report = check(problem, truth, GivesUp, ["activations"])
    assert [finding.where for finding in report.findings] == ["pool1", "the net"]
    assert report.findings[1].observed == "RuntimeError: mat1 and mat2 cannot be multiplied"
    assert list(report.layers)[-1] == "pool1"


@pytest.mark.parametrize(
    ("error", "where", "told"),
    [(ValueError("no\nsuch"), "the net", "ValueError: no"), (KeyError("conv1.bias"), "conv1.bias", "conv1.bias")],
    ids=["ValueError", "KeyError"],
)
def test_a_net_that_cannot_be_built_is_a_finding(
    problem: Problem, truth: Truth, error: Exception, where: str, told: str
) -> None:
    def build(*_: Any) -> Any:
        raise error

    report = check(problem, truth, build)
    assert [(finding.check, finding.where) for finding in report.findings] == [("parameters", where)]
    assert told in report.findings[0].observed
    assert (report.errors, report.layers) == ({}, {})
    assert strict(report)["grad_rel_err"] is None


@pytest.mark.parametrize("error", [UnsupportedLayer("no form"), BackendUnavailable("no such device")], ids=type)
def test_errors_that_mean_what_they_say_are_no_findings(problem: Problem, truth: Truth, error: Exception) -> None:
    def build(*_: Any) -> Any:
        raise error

    with pytest.raises(type(error), match=str(error)):
        check(problem, truth, build)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_parts_are_all_there_is(problem: Problem, truth: Truth) -> None:
    whole = check(problem, truth)
    kinds = {kind for _, kind, _ in WRONG.values()}
    assert kinds == {"parameters", "mode", "dropout", *ERRORS}
    assert whole.errors.keys() == ERRORS


@pytest.mark.parametrize(
    ("part", "errors"),
    [
        ("parameters", set()),
        ("activations", {"activation", "logits"}),
        ("training", {"loss", "gradient"}),
        ("step", {"step"}),
        ("momentum", {"momentum"}),
        ("native_dropout", set()),
        ("curve", {"curve"}),
    ],
)
def test_one_part_alone(problem: Problem, truth: Truth, part: str, errors: set[str]) -> None:
    """It needs none before it, measures its own, and sees nothing of the others'."""
    report = check(problem, truth, parts=[part])
    assert report.agrees
    assert report.errors.keys() == errors
    assert bool(report.dropped) == (part == "native_dropout")
    assert strict(report)["agree"] is True
    for build, kind, _ in (WRONG[name] for name in ("other logits", "one gradient off", "the rate inside")):
        owner = {"logits": "activations", "gradient": "training", "momentum": "momentum"}[kind]
        assert check(problem, truth, build, [part]).agrees == (part != owner)


def test_shares_dropped_are_told_by_rate(problem: Problem, truth: Truth) -> None:
    dropped = check(problem, truth).dropped
    assert dropped.keys() == {"0.2"}
    np.testing.assert_allclose(dropped["0.2"], 0.2, atol=0.02)
    flat = Architecture.model_validate({"name": "x", "input": [1, 2, 2], "layers": [{"type": "flatten"}]})
    posed = clear_problem(flat, 1)
    assert check(posed, find_truth(posed, 0)).dropped == {}


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_the_fields_of_the_contract(problem: Problem, truth: Truth) -> None:
    found = strict(check(problem, truth, SummedGradients))
    assert found["precision"] == "fp64"
    for field in ("logits_rel_err", "loss_rel_err", "step_rel_err", "activation_rel_err", "momentum_rel_err"):
        assert 0 <= found[field] < 1e-6, field
    np.testing.assert_allclose(found["grad_rel_err"], 3.0, rtol=1e-5)  # four images: off by three times as much
    assert "gradient_rel_err" not in found
    assert found["layers"].keys() == truth.activations.keys()
    assert found["gradients"].keys() == problem.params.keys()
    assert found["first_divergence"].keys() == {"check", "where", "error", "allowed", "expected", "observed", "causes"}
    assert found["tolerances"].keys() == ERRORS
    assert found["agree"] is False


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("NaN in a layer", "activation_rel_err"),
        ("NaN in the logits", "logits_rel_err"),
        ("NaN for a loss", "loss_rel_err"),
        ("NaN in a gradient", "grad_rel_err"),
        ("NaN after a step", "step_rel_err"),
        ("another output size", "activation_rel_err"),
        ("one gradient missing", "grad_rel_err"),
    ],
)
def test_what_is_infinite_is_null(problem: Problem, truth: Truth, name: str, field: str) -> None:
    found = strict(check(problem, truth, WRONG[name][0]))
    assert field in found
    assert found[field] is None
    assert found["first_divergence"]["error"] is None


def test_a_report_by_hand() -> None:
    told = Finding("logits", "logits", math.inf, 1e-6, "1 2", "1 nan", ("a cause",))
    report = Report("x", "fp32", {"logits": 1e-6}, {"logits": math.inf, "gradient": 0.5}, {"a": math.inf}, {"b": 0.5})
    report.findings.append(told)
    assert strict(report) == {
        "precision": "fp32",
        "logits_rel_err": None,
        "grad_rel_err": 0.5,
        "first_divergence": (finding := {**vars(told), "error": None, "causes": ["a cause"]}),
        "divergences": [finding],
        "layers": {"a": None},
        "shapes": {},
        "gradients": {"b": 0.5},
        "native_dropout": {},
        "tolerances": {"logits": 1e-6},
        "agree": False,
    }


# --- the measure -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observed", "expected", "error"),
    [
        ([1.0, 2.0, 5.0], [1.0, 2.0, 2.0], 1.0),
        ([3.0, 0.0], [3.0, 4.0], 0.8),
        ([3.0, 4.0], [3.0, 0.0], 4 / 3),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, -0.0], [-0.0, 0.0], 0.0),
        ([0.0, 1e-30], [0.0, 0.0], math.inf),
        ([], [], 0.0),
        ([1.0, 2.0], [1.0], math.inf),
        ([[1.0, 2.0]], [1.0, 2.0], math.inf),
        ([math.nan, 1.0], [1.0, 1.0], math.inf),
        ([1.0, 1.0], [math.nan, 1.0], math.inf),
        ([math.nan], [math.nan], math.inf),
        ([math.inf], [1.0], math.inf),
        ([math.inf], [math.inf], math.inf),
        (1.5, 1.0, 0.5),
    ],
    ids=str,
)
def test_relative_error(observed: Any, expected: Any, error: float) -> None:
    found = relative_error(np.asarray(observed), np.asarray(expected))
    np.testing.assert_allclose(found, error, rtol=1e-15)


def test_a_small_tensor_counts_as_one_of_the_least_size() -> None:
    small, off = np.array([1e-6, 0.0]), np.array([2e-6, 0.0])
    np.testing.assert_allclose(relative_error(off, small), 1.0)
    np.testing.assert_allclose(relative_error(off, small, least=1e-3), 1e-3)
    np.testing.assert_allclose(relative_error(off, small, least=1e-9), 1.0)
    assert relative_error(off, 0 * small, least=1e-3) == 2e-3
    assert relative_error(off[:1], small, least=1e-3) == math.inf


def test_the_difference_is_taken_in_float64() -> None:
    """In float16 the sum of squares would be infinite, and in float32 the difference nothing."""
    assert relative_error(np.full(1000, 300, np.float16), np.full(1000, 300.0)) == 0
    found = relative_error(np.full(9, 1, np.float32), np.full(9, 1 + 1e-12))
    np.testing.assert_allclose(found, 1e-12, rtol=1e-3)


def test_all_checks_measure(problem: Problem, truth: Truth) -> None:
    """Every error of a report reacts to what it is about."""

    def worst(build: Callable[..., Any]) -> Mapping[str, float]:
        return check(problem, truth, build).errors

    assert worst(RateTwice)["step"] > 1e-2
    assert worst(RateTwice)["curve"] > 0
    assert worst(RateInside)["momentum"] > 1e-3
    assert worst(RateInside)["step"] < 1e-6
    assert worst(Summing)["loss"] == 3.0
    assert worst(OneGradientOff)["gradient"] == pytest.approx(1e-3, rel=1e-3)
