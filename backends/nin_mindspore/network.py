"""A compiled MindSpore net at work: activations, loss, gradients, SGD; NumPy arrays at the border."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from nin_mindspore.layers import compile_architecture
from nin_multi.backend import Images, Labels, Masks, Params, StepResult
from nin_multi.spec import Architecture


class MindSporeNetwork:
    """A net on the CPU; the training step and the forward pass are compiled into graphs."""

    def __init__(self, architecture: Architecture, params: Params) -> None:
        self.architecture = architecture
        self.module: Any = compile_architecture(architecture)
        # By structure, before the training cell below adds its own prefix to the names.
        self._parameters = dict(self.module.parameters_and_names())
        for name, parameter in self._parameters.items():
            parameter.set_data(Tensor(np.array(params[name], np.float32)))
        weights = tuple(self._parameters.values())
        training = _Training(self.module)
        self._gradient = mindspore.jit(mindspore.value_and_grad(training, None, weights, has_aux=True))
        self._step = mindspore.jit(_sgd_step(training, weights))
        self._forward = mindspore.jit(self.module.construct)

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

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks) -> tuple[float, Params]:
        (loss, _), gradients = self._gradient(*self._tensors(x, y, masks))
        named = zip(self._parameters, gradients, strict=True)
        return float(loss.asnumpy()), {name: g.asnumpy() for name, g in named}

    def train_step(self, x: Images, y: Labels, masks: Masks, lr: float) -> StepResult:
        loss, logits = self._step(Tensor(np.float32(lr)), *self._tensors(x, y, masks))
        correct = int((logits.asnumpy().argmax(1) == y).sum())
        return StepResult(float(loss.asnumpy()) * len(y), correct, len(y))

    def params(self) -> Params:
        return {name: parameter.asnumpy().copy() for name, parameter in self._parameters.items()}

    def _tensors(self, x: Images, y: Labels, masks: Masks) -> list[Any]:
        self.module.set_train(True)
        return [Tensor(array) for array in (x, y, *(masks[name] for name in self.architecture.dropouts()))]


class _Training(nn.Cell):
    """Training mode in one graph: the net with the harness's dropout masks in place of its own draw, and the loss."""

    def __init__(self, net: nn.SequentialCell) -> None:
        super().__init__()
        self.net = net
        self.is_dropout = tuple(isinstance(layer, nn.Dropout) for layer in net.cells())

    def construct(self, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:
        used = 0
        for layer, is_dropout in zip(self.net.cell_list, self.is_dropout):  # noqa: B905  (no strict= in graphs)
            if is_dropout:
                x = x * masks[used]
                used = used + 1
            else:
                x = layer(x)
        return ops.cross_entropy(x, y, reduction="mean", label_smoothing=0.0), x


def _sgd_step(training: nn.Cell, weights: tuple[Any, ...]) -> Any:
    """One graph for the whole step: loss, gradients, p <- p - lr * gradient."""
    differentiate = mindspore.value_and_grad(training, None, weights, has_aux=True)

    def step(lr: Any, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:
        (loss, logits), gradients = differentiate(x, y, *masks)
        for weight, gradient in zip(weights, gradients):  # noqa: B905  (no strict= in graphs)
            ops.assign_sub(weight, lr * gradient)
        return loss, logits

    return step
