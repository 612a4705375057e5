"""A compiled MindSpore net at work: activations, loss, gradients, SGD; NumPy arrays at the border."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

from nin_mindspore.group import MindSporeGroup
from nin_mindspore.layers import compile_architecture
from nin_mindspore.products import channels_first, channels_last, compile_products
from nin_multi.backend import Images, Labels, Masks, Params, StepResult
from nin_multi.knobs import Tuning
from nin_multi.spec import Architecture
from nin_multi.workers.group import Alone, Group, pieces, whole


class MindSporeNetwork:
    """A net on the CPU; the training step and the forward pass are compiled into graphs."""

    def __init__(self, architecture: Architecture, params: Params, tuning: Tuning) -> None:
        self.architecture = architecture
        self.tuning = tuning
        self.group: Group = Alone()
        self.module: Any = compile_architecture(architecture)
        # By structure, before the training cells below add their own prefix to the names.
        self._parameters = dict(self.module.parameters_and_names())
        self._gradients = {name: _zeros(f"gradient.{name}", p.shape) for name, p in self._parameters.items()}
        self._velocities: dict[str, Parameter] = {}
        self.restore(params, {})
        self.net: Any = Net(architecture, self.module, has_products=tuning["convolution"] == "products")
        self._forward = mindspore.jit(self.net.construct)
        # One graph per question: with the harness's masks or the framework's draws; with momentum or without.
        self._accumulate = cache(self._compile_accumulate)
        self._update = cache(self._compile_update)
        self._forget = mindspore.jit(_forgetting(tuple(self._gradients.values())))
        self._add_up: Any = None  # between workers

    def activations(self, x: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        self.net.set_train(False)
        value = self.net.enter(Tensor(x))
        for name, layer in self.net.layers.name_cells().items():
            is_block = isinstance(layer, nn.SequentialCell)
            for part_name, part in layer.name_cells().items() if is_block else ():
                value = part(value)
                yield f"{name}.{part_name}", self.net.leave(value).asnumpy()
            value = value if is_block else layer(value)
            yield name, self.net.leave(value).asnumpy()

    def logits(self, x: Images) -> NDArray[Any]:
        self.net.set_train(False)
        found = [self._forward(Tensor(x[piece])).asnumpy() for piece in pieces(self.group, len(x), self.tuning)]
        return whole(self.group, 0.0, found, len(x), self.architecture.classes)[1]

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        loss, _ = self._differentiate(x, y, masks)
        found = {name: gradient.asnumpy().copy() for name, gradient in self._gradients.items()}
        self._forget()
        return loss, found

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        loss, logits = self._differentiate(x, y, masks)
        if math.isfinite(loss):
            self._update(moves=momentum > 0)(Tensor(np.float32(lr)), Tensor(np.float32(momentum)))
        else:
            self._forget()
        return StepResult(loss * len(y), int((logits.argmax(1) == y).sum()), len(y), logits)

    def params(self) -> Params:
        return {name: parameter.asnumpy().copy() for name, parameter in self._parameters.items()}

    def velocities(self) -> Params:
        return {name: velocity.asnumpy().copy() for name, velocity in self._velocities.items()}

    def restore(self, params: Params, velocities: Params) -> None:
        # Assigned, not `set_data`: that would give a parameter other memory, which only the next graph to run finds.
        for name, parameter in self._parameters.items():
            ops.assign(parameter, Tensor(np.array(params[name], np.float32)))
        if velocities:
            self._make_velocities()
        for name, velocity in self._velocities.items():  # compiled graphs hold on to these very objects
            ops.assign(velocity, Tensor(np.array(velocities.get(name, np.zeros(velocity.shape)), np.float32)))

    def share(self, group: Group) -> None:
        assert group.size == 1 or isinstance(group, MindSporeGroup), "gradients go through MindSpore's own collectives"
        self.group = group
        if group.size > 1:
            self._add_up = mindspore.jit(_sum_of_workers(tuple(self._gradients.values())))

    def _differentiate(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, NDArray[Any]]:
        """Mean loss and logits (N, classes); the gradients are added up in `self._gradients`."""
        self.net.set_train(True)
        accumulate = self._accumulate(draws=masks is None)
        total, logits = 0.0, []
        for piece in pieces(self.group, len(y), self.tuning):
            given = [] if masks is None else [Tensor(masks[name][piece]) for name in self.architecture.dropouts()]
            share = (piece.stop - piece.start) / len(y)
            loss, found = accumulate(Tensor(np.float64(share)), Tensor(x[piece]), Tensor(y[piece]), *given)
            total += float(loss.asnumpy())
            logits.append(found.asnumpy())
        if isinstance(self.group, MindSporeGroup) and self._gradients:
            with self.group.together():
                self._add_up()
        return whole(self.group, total, logits, len(y), self.architecture.classes)

    def _make_velocities(self) -> tuple[Parameter, ...]:
        for name, parameter in self._parameters.items():
            self._velocities.setdefault(name, _zeros(f"velocity.{name}", parameter.shape))
        return tuple(self._velocities.values())

    def _compile_accumulate(self, *, draws: bool) -> Any:
        weights, gradients = tuple(self._parameters.values()), tuple(self._gradients.values())
        return mindspore.jit(_gradient_step(Training(self.net, draws=draws), weights, gradients))

    def _compile_update(self, *, moves: bool) -> Any:
        weights, gradients = tuple(self._parameters.values()), tuple(self._gradients.values())
        return mindspore.jit(_sgd_step(weights, gradients, self._make_velocities() if moves else ()))


class Net(nn.Cell):
    """The net in the form that is computed: as it is written, or as matrix products with channels last."""

    def __init__(self, architecture: Architecture, module: nn.SequentialCell, *, has_products: bool) -> None:
        super().__init__()
        self.layers = compile_products(architecture, module) if has_products else module
        self.enter, self.leave = (channels_last, channels_first) if has_products else (_same, _same)

    def construct(self, x: Any) -> Any:
        return self.leave(self.layers(self.enter(x)))


class Training(nn.Cell):
    """Training mode in one graph: the net, with the harness's dropout masks unless it draws its own, and the loss."""

    def __init__(self, net: Net, *, draws: bool) -> None:
        super().__init__()
        self.net = net
        self.is_masked = tuple(isinstance(layer, nn.Dropout) and not draws for layer in net.layers.cells())

    def construct(self, share: Any, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:
        x = self.net.enter(x)
        used = 0
        for layer, is_masked in zip(self.net.layers.cell_list, self.is_masked):  # noqa: B905  (no strict= in graphs)
            if is_masked:
                x = x * self.net.enter(masks[used])
                used = used + 1
            else:
                x = layer(x)
        x = self.net.leave(x)
        # In float64, which costs nothing for N x classes numbers: the CPU's float32 log-softmax is off by 1e-6.
        loss = ops.cross_entropy(x.astype(mindspore.float64), y, reduction="mean", label_smoothing=0.0)
        return share * loss, x


def _same(x: Any) -> Any:
    return x


def _zeros(name: str, shape: tuple[int, ...]) -> Parameter:
    return Parameter(Tensor(np.zeros(shape, np.float32)), name=name)


def _gradient_step(training: nn.Cell, weights: tuple[Any, ...], gradients: tuple[Any, ...]) -> Any:
    """One graph: a piece's share of the loss, its logits, and its gradients added to those of the pieces before."""
    differentiate = mindspore.value_and_grad(training, None, weights, has_aux=True)

    def step(share: Any, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:
        (loss, logits), found = differentiate(share, x, y, *masks)
        for index, gradient in enumerate(gradients):
            ops.assign_add(gradient, found[index])
        return loss, logits

    return step


def _sum_of_workers(gradients: tuple[Any, ...]) -> Any:
    """One graph: every gradient's sum over the workers, in one message, as each has to wait for the others."""
    reduce = ops.AllReduce()
    shapes = tuple(gradient.shape for gradient in gradients)
    ends = tuple(accumulate(math.prod(shape) for shape in shapes))

    def add_up() -> None:
        summed = reduce(ops.concat([gradient.reshape(-1) for gradient in gradients]))
        for index, gradient in enumerate(gradients):
            first = ends[index - 1] if index else 0
            ops.assign(gradient, summed[first : ends[index]].reshape(shapes[index]))

    return add_up


def _sgd_step(weights: tuple[Any, ...], gradients: tuple[Any, ...], velocities: tuple[Any, ...]) -> Any:
    """One graph: v <- momentum * v + gradient, p <- p - lr * v, without v if there are none; then gradients are 0."""
    forget = _forgetting(gradients)

    def step(lr: Any, momentum: Any) -> Any:
        for index, velocity in enumerate(velocities):
            ops.assign(velocity, momentum * velocity + gradients[index])
        for weight, move in zip(weights, velocities or gradients):  # noqa: B905  (no strict= in graphs)
            ops.assign_sub(weight, lr * move)
        forget()

    return step


def _forgetting(gradients: tuple[Any, ...]) -> Any:
    """Sets them to 0 from inside a graph; what is set from outside, graphs that ran before do not see."""

    def forget() -> None:
        for gradient in gradients:
            ops.assign(gradient, ops.zeros_like(gradient))

    return forget
