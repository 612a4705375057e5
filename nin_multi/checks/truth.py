"""What has to come out of a problem, by the float64 oracle, once for all backends; nothing is compared here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nin_multi.backend import Masks, Params
from nin_multi.checks.problem import Problem
from nin_multi.oracle import Array, Backward, NumpyNetwork, apply_layer, cross_entropy
from nin_multi.spec import Architecture

STEP_RATE = 0.1  # the chapter's
# Two steps whose rates differ: with one rate, definitions of momentum that differ give the same.
MOMENTUM = 0.9
MOMENTUM_RATES = (0.02, 0.01)
# Roundings are played through so often, each value off by up to half a unit in float32's last place.
SHAKEN, HALF_UNIT = 2, 2.0**-24
# Share of the loss that the first step of the curve takes away, about. At the chapter's rate a few images are fitted
# within twenty steps, and a path that steep amplifies roundings to 1e-3.
DESCENT = 0.003


@dataclass(frozen=True)
class Truth:
    """The oracle's answers to a problem.

    Attributes:
        activations: every layer's output in evaluation mode, by dotted name, (N, C, H, W) or (N, F).
        loss: mean cross-entropy in training mode, with the masks of step 0.
        gradients: of that loss, by parameter name.
        stepped: parameters after one step of plain SGD with `STEP_RATE`.
        moved: parameters after two steps with `MOMENTUM` and `MOMENTUM_RATES`, both with the masks of step 0.
        noise: ||difference|| that float32's roundings make in an activation, a gradient or the "loss", by name: where
            a result is a sum that cancels, they are large beside it.
        rate: the learning rate of the curve, by `DESCENT`.
        curve: the loss of each of n steps of plain SGD, each with its own masks.
    """

    activations: Mapping[str, Array]
    loss: float
    gradients: Mapping[str, Array]
    stepped: Mapping[str, Array]
    moved: Mapping[str, Array]
    noise: Mapping[str, float]
    rate: float
    curve: tuple[float, ...]

    @property
    def logits(self) -> Array:
        """(N, classes)."""
        return self.activations[list(self.activations)[-1]]


def find_truth(problem: Problem, steps: int) -> Truth:
    """Ask the oracle; the time is mostly that of its `steps` training steps."""
    network = NumpyNetwork(problem.architecture, problem.params)
    activations = dict(network.activations(problem.x))
    loss, gradients, _ = network.differentiate(problem.x, problem.y, problem.masks)
    for rate in MOMENTUM_RATES:
        network.train_step(problem.x, problem.y, problem.masks, rate, MOMENTUM)
    moved = dict(network.exact_params())
    network.restore(problem.params, {})
    # A step along the gradient g lowers the loss by rate x |g|^2.
    rate = DESCENT * loss / (sum(float(np.sum(value**2)) for value in gradients.values()) or 1.0)
    curve = []
    for step in range(steps):
        masks = problem.masks_of(step)
        curve.append(network.train_step(problem.x, problem.y, masks, rate).loss / len(problem.y))
    stepped = {
        name: np.asarray(value, np.float64) - STEP_RATE * gradients[name] for name, value in problem.params.items()
    }
    noise = _noise(problem, activations, loss, gradients)
    return Truth(activations, loss, gradients, stepped, moved, noise, rate, tuple(curve))


def _noise(
    problem: Problem, activations: Mapping[str, Array], loss: float, gradients: Mapping[str, Array]
) -> dict[str, float]:
    """The largest difference that `SHAKEN` passes with random roundings make (Monte Carlo arithmetic: Parker, 1997)."""
    truth: dict[str, Array] = {**activations, **gradients, "loss": np.asarray(loss)}
    noise = dict.fromkeys(truth, 0.0)
    for number in range(SHAKEN):
        random = np.random.default_rng([problem.seed, number])
        outputs, _, _ = _shaken_pass(problem, {}, random)
        _, shaken_loss, by_name = _shaken_pass(problem, problem.masks, random)
        for name, value in {**outputs, **by_name, "loss": np.asarray(shaken_loss)}.items():
            noise[name] = max(noise[name], float(np.linalg.norm(value - truth[name])))
    return noise


def _shaken_pass(
    problem: Problem, masks: Masks, random: np.random.Generator
) -> tuple[dict[str, Array], float, dict[str, Array]]:
    """Activations, loss and gradients, where every number is rounded a little otherwise on its way."""

    def shake(value: Array) -> Array:
        return value * (1.0 + HALF_UNIT * random.uniform(-1.0, 1.0, value.shape))

    params = {name: shake(np.asarray(value, np.float64)) for name, value in problem.params.items()}
    value: Array = np.asarray(problem.x, np.float64)
    outputs: dict[str, Array] = {}
    steps: list[Backward] = []
    for row in problem.architecture.trace(len(problem.y)):
        for traced in row.inner or (row,):
            value, step = apply_layer(traced, value, params, masks)
            value = outputs[traced.name] = shake(value)
            steps.append(step)
        outputs[row.name] = value
    loss, by_value = cross_entropy(value, problem.y)
    gradients: dict[str, Array] = {}
    for step in reversed(steps):
        by_value = step(shake(by_value), gradients)
    return outputs, loss, gradients


def save(folder: Path, problem: Problem, truth: Truth) -> None:
    """Put both into a folder, for another process."""
    groups: dict[str, Mapping[str, Array] | Params] = {
        "params": problem.params,
        "activations": truth.activations,
        "gradients": truth.gradients,
        "stepped": truth.stepped,
        "moved": truth.moved,
    }
    for group, named in groups.items():
        with (folder / f"{group}.npz").open("wb") as file:
            np.savez(file, **{f"_{name}": value for name, value in named.items()})  # savez has a keyword `file`
    with (folder / "batch.npz").open("wb") as file:
        np.savez(file, x=problem.x, y=problem.y)
    facts = {
        "architecture": problem.architecture.model_dump(mode="json"),
        "seed": problem.seed,
        "margin": problem.margin,
        "loss": truth.loss,
        "noise": truth.noise,
        "rate": truth.rate,
        "curve": truth.curve,
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def load(folder: Path) -> tuple[Problem, Truth]:
    """Take them out again. The folder is this program's own: what is in it is not doubted."""
    facts = json.loads((folder / "facts.json").read_text())

    def group(name: str) -> dict[str, Array]:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
            return {key[1:]: stored[key] for key in stored.files}

    with np.load(folder / "batch.npz", allow_pickle=False) as batch:
        x, y = batch["x"], batch["y"]
    params = {name: value.astype(np.float32) for name, value in group("params").items()}
    architecture = Architecture.model_validate(facts["architecture"])
    problem = Problem(architecture, params, x, y, facts["seed"], facts["margin"])
    truth = Truth(
        group("activations"),
        facts["loss"],
        group("gradients"),
        group("stepped"),
        group("moved"),
        facts["noise"],
        facts["rate"],
        tuple(facts["curve"]),
    )
    return problem, truth
