"""What has to come out of a problem, by the float64 oracle, once for all backends; nothing is compared here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nin_multi.backend import Params
from nin_multi.checks.problem import Problem
from nin_multi.oracle import Array, NumpyNetwork
from nin_multi.spec import Architecture

STEP_RATE = 0.1  # the chapter's
# Two steps whose rates differ: with one rate, definitions of momentum that differ give the same.
MOMENTUM = 0.9
MOMENTUM_RATES = (0.1, 0.05)
# Share of the loss that the first step of the curve takes away, about. At the chapter's rate a few images are fitted
# within twenty steps, and a path that steep amplifies roundings to 1e-3.
DESCENT = 0.01


@dataclass(frozen=True)
class Truth:
    """The oracle's answers to a problem.

    Attributes:
        activations: every layer's output in evaluation mode, by dotted name, (N, C, H, W) or (N, F).
        loss: mean cross-entropy in training mode, with the masks of step 0.
        gradients: of that loss, by parameter name.
        stepped: parameters after one step of plain SGD with `STEP_RATE`.
        moved: parameters after two steps with `MOMENTUM` and `MOMENTUM_RATES`, both with the masks of step 0.
        rate: the learning rate of the curve, by `DESCENT`.
        curve: the loss of each of n steps of plain SGD, each with its own masks.
    """

    activations: Mapping[str, Array]
    loss: float
    gradients: Mapping[str, Array]
    stepped: Mapping[str, Array]
    moved: Mapping[str, Array]
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
    return Truth(activations, loss, gradients, stepped, moved, rate, tuple(curve))


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
        facts["rate"],
        tuple(facts["curve"]),
    )
    return problem, truth
