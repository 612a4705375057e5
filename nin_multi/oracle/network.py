"""A net in float64 that is evaluated and trained; what one layer does is `layers`'s."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nin_multi.backend import Images, Labels, Masks, Params, StepResult
from nin_multi.oracle.arrays import Array, Named
from nin_multi.oracle.layers import apply_layer, apply_layers
from nin_multi.spec import Architecture


def cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """Mean softmax cross-entropy of logits (N, classes), and its gradient by the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    each = np.arange(len(labels))
    gradient = np.exp(log_probabilities)
    gradient[each, labels] -= 1.0
    return float(-log_probabilities[each, labels].mean()), gradient / len(labels)


class NumpyNetwork:
    """A net in float64: parameters, evaluation, gradients, SGD."""

    def __init__(self, architecture: Architecture, params: Params, seed: int | None = None) -> None:
        self.architecture = architecture
        self.module: Any = self  # there is no framework's net behind it
        self._random = np.random.default_rng(seed)
        self._params: Named = {}
        self._velocities: Named = {}
        self.restore(params, {})

    def activations(self, x: Images) -> Iterator[tuple[str, Array]]:
        value = np.asarray(x, np.float64)
        for traced in self.architecture.trace(len(x)):
            for part in traced.inner or (traced,):
                with np.errstate(over="ignore", invalid="ignore"):  # a net that diverges is told of elsewhere
                    value, _ = apply_layer(part, value, self._params, {})
                yield part.name, value
            if traced.inner:
                yield traced.name, value

    def logits(self, x: Images) -> Array:
        *_, (_, last) = self.activations(x)
        return last

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        loss, gradients, _ = self.differentiate(x, y, masks)
        return loss, {name: gradients[name].astype(np.float32) for name in self._params}

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        loss, gradients, logits = self.differentiate(x, y, masks)
        if math.isfinite(loss):
            self._descend(gradients, lr, momentum)
        return StepResult(loss * len(y), int((logits.argmax(1) == y).sum()), len(y), logits)

    def _descend(self, gradients: Named, lr: float, momentum: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            if momentum:
                for name, gradient in gradients.items():
                    self._velocities[name] = momentum * self._velocities.get(name, 0.0) + gradient
            moves = self._velocities if momentum else gradients
            self._params = {name: value - lr * moves[name] for name, value in self._params.items()}

    def exact_params(self) -> Named:
        """The parameters in float64, not copied."""
        return self._params

    def params(self) -> Params:
        return {name: value.astype(np.float32) for name, value in self._params.items()}

    def velocities(self) -> Params:
        return {name: self._velocities[name].astype(np.float32) for name in self._params if name in self._velocities}

    def restore(self, params: Params, velocities: Params) -> None:
        self._params = {name: np.asarray(value, np.float64) for name, value in params.items()}
        self._velocities = {name: np.asarray(value, np.float64) for name, value in velocities.items()}

    def _draw(self, batch: int) -> Masks:
        """The masks of a dropout of our own."""
        drawn = {
            name: (rate, self._random.random((batch, *shape)))
            for name, (rate, shape) in self.architecture.dropouts().items()
        }
        return {name: ((value >= rate) / (1.0 - rate)).astype(np.float32) for name, (rate, value) in drawn.items()}

    def differentiate(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Named, Array]:
        """Loss, gradients and logits (N, classes) in training mode, all in float64."""
        masks = self._draw(len(x)) if masks is None else masks
        layers = self.architecture.trace(len(x))
        gradients: Named = {}
        with np.errstate(over="ignore", invalid="ignore"):
            logits, backward = apply_layers(layers, np.asarray(x, np.float64), self._params, masks)
            loss, by_logits = cross_entropy(logits, y)
            backward(by_logits, gradients)
        return loss, gradients, logits
