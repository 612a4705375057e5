"""A compiled MindSpore net at work: activations, loss, gradients, SGD; NumPy arrays at the border."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

from nin_mindspore.layers import compile_architecture
from nin_multi.backend import Images, Labels, Masks, Params, StepResult, Tuning
from nin_multi.spec import Architecture


class MindSporeNetwork:
    """A net on the CPU; the training step and the forward pass are compiled into graphs."""

    def __init__(self, architecture: Architecture, params: Params, tuning: Tuning) -> None:
        self.architecture = architecture
        self.tuning = tuning
        self.module: Any = compile_architecture(architecture)
        # By structure, before the training cells below add their own prefix to the names.
        self._parameters = dict(self.module.parameters_and_names())
        self._velocities: dict[str, Parameter] = {}
        self.restore(params, {})
        self._forward = mindspore.jit(self.module.construct)
        # One graph per question: with the harness's masks or the framework's draws; with momentum or without.
        self._gradient = cache(self._compile_gradient)
        self._step = cache(self._compile_step)

    def activations(self, x: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        self.module.set_train(False)
        value = Tensor(x)
        for name, layer in self.module.name_cells().items():
            is_block = isinstance(layer, nn.SequentialCell)
            for part_name, part in layer.name_cells().items() if is_block else ():
                value = part(value)
                yield f"{name}.{part_name}", value.asnumpy()
            value = value if is_block else layer(value)
            yield name, value.asnumpy()

    def logits(self, x: Images) -> NDArray[Any]:
        self.module.set_train(False)
        result: NDArray[Any] = self._forward(Tensor(x)).asnumpy()
        return result

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        (loss, _), gradients = self._gradient(draws=masks is None)(*self._tensors(x, y, masks))
        named = zip(self._parameters, gradients, strict=True)
        return float(loss.asnumpy()), {name: g.asnumpy() for name, g in named}

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        step = self._step(draws=masks is None, moves=momentum > 0)
        loss, logits = step(Tensor(np.float32(lr)), Tensor(np.float32(momentum)), *self._tensors(x, y, masks))
        correct = int((logits.asnumpy().argmax(1) == y).sum())
        return StepResult(float(loss.asnumpy()) * len(y), correct, len(y))

    def params(self) -> Params:
        return {name: parameter.asnumpy().copy() for name, parameter in self._parameters.items()}

    def velocities(self) -> Params:
        return {name: velocity.asnumpy().copy() for name, velocity in self._velocities.items()}

    def restore(self, params: Params, velocities: Params) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(Tensor(np.array(params[name], np.float32)))
        if velocities:
            self._make_velocities()
        for name, velocity in self._velocities.items():  # compiled graphs hold on to these very objects
            velocity.set_data(Tensor(np.array(velocities.get(name, np.zeros(velocity.shape)), np.float32)))

    def _make_velocities(self) -> tuple[Parameter, ...]:
        for name, parameter in self._parameters.items():
            zeros = Tensor(np.zeros(parameter.shape, np.float32))
            self._velocities.setdefault(name, Parameter(zeros, name=f"velocity.{name}"))
        return tuple(self._velocities.values())

    def _compile_gradient(self, *, draws: bool) -> Any:
        training, weights = _Training(self.module, draws=draws), tuple(self._parameters.values())
        return mindspore.jit(mindspore.value_and_grad(training, None, weights, has_aux=True))

    def _compile_step(self, *, draws: bool, moves: bool) -> Any:
        weights, velocities = tuple(self._parameters.values()), self._make_velocities() if moves else ()
        return mindspore.jit(_sgd_step(_Training(self.module, draws=draws), weights, velocities))

    def _tensors(self, x: Images, y: Labels, masks: Masks | None) -> list[Any]:
        self.module.set_train(True)
        given = [] if masks is None else [masks[name] for name in self.architecture.dropouts()]
        return [Tensor(array) for array in (x, y, *given)]


class _Training(nn.Cell):
    """Training mode in one graph: the net, with the harness's dropout masks unless it draws its own, and the loss."""

    def __init__(self, net: nn.SequentialCell, *, draws: bool) -> None:
        super().__init__()
        self.net = net
        self.is_masked = tuple(isinstance(layer, nn.Dropout) and not draws for layer in net.cells())

    def construct(self, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:
        used = 0
        for layer, is_masked in zip(self.net.cell_list, self.is_masked):  # noqa: B905  (no strict= in graphs)
            if is_masked:
                x = x * masks[used]
                used = used + 1
            else:
                x = layer(x)
        # In float64, which costs nothing for N x classes numbers: the CPU's float32 log-softmax is off by 1e-6.
        loss = ops.cross_entropy(x.astype(mindspore.float64), y, reduction="mean", label_smoothing=0.0)
        return loss, x


def _sgd_step(training: nn.Cell, weights: tuple[Any, ...], velocities: tuple[Any, ...]) -> Any:
    """One graph for the whole step: loss, gradients, v <- momentum * v + gradient, p <- p - lr * v; no v if empty."""
    differentiate = mindspore.value_and_grad(training, None, weights, has_aux=True)

    def step(lr: Any, momentum: Any, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:
        (loss, logits), moves = differentiate(x, y, *masks)
        for index, velocity in enumerate(velocities):
            ops.assign(velocity, momentum * velocity + moves[index])
        for weight, move in zip(weights, velocities or moves):  # noqa: B905  (no strict= in graphs)
            ops.assign_sub(weight, lr * move)
        return loss, logits

    return step
