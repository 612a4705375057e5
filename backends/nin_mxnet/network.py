"""A compiled Gluon net at work: activations, loss, gradients, SGD; NumPy arrays at the border."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock, nn
from numpy.typing import NDArray

from nin_multi.backend import Images, Labels, Masks, Params, StepResult
from nin_multi.knobs import Tuning
from nin_multi.spec import Architecture
from nin_multi.workers.group import Alone, Group, pieces, whole
from nin_mxnet.group import MXNetGroup
from nin_mxnet.layers import compile_architecture


class MXNetNetwork:
    """A net on one device, hybridized: static graphs, memory planned once."""

    def __init__(self, architecture: Architecture, params: Params, device: str, tuning: Tuning) -> None:
        self.architecture = architecture
        self.tuning = tuning
        self.group: Group = Alone()
        kind, _, index = device.partition(":")
        self.context = mx.Context(kind, int(index or 0))
        self._module: Any = compile_architecture(architecture)
        for parameter in self._parameters().values():
            parameter.initialize(mx.init.Zero(), ctx=self.context)
        self.restore(params, {})
        self._with_masks = _Training(self._module, draws=False)
        self._with_draws = _Training(self._module, draws=True)
        for training in (self._with_masks, self._with_draws):
            training.hybridize(static_alloc=True, static_shape=True)

    def share(self, group: Group) -> None:
        assert group.size == 1 or isinstance(group, MXNetGroup), "gradients go through MXNet's own store"
        self.group = group

    @property
    def module(self) -> Any:
        """Gluon's own net, for loops of one's own: these expect that a gradient takes the place of the last one."""
        for parameter in self._parameters().values():
            parameter.grad_req = "write"
        return self._module

    def activations(self, x: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        value = self._array(x)
        for name, layer in self._module._children.items():
            is_block = isinstance(layer, nn.HybridSequential)
            for part_name, part in layer._children.items() if is_block else ():
                value = part(value)
                yield f"{name}.{part_name}", value.asnumpy()
            value = value if is_block else layer(value)
            yield name, value.asnumpy()

    def logits(self, x: Images) -> NDArray[Any]:
        found = [self._module(self._array(x[piece])).asnumpy() for piece in pieces(self.group, len(x), self.tuning)]
        return whole(self.group, 0.0, found, len(x), self.architecture.classes)[1]

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        loss, _ = self._differentiate(x, y, masks)
        return loss, {name: p.grad().asnumpy() for name, p in self._parameters().items()}

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        loss, logits = self._differentiate(x, y, masks)
        if math.isfinite(loss):
            self._descend(lr, momentum)
        mx.nd.waitall()  # MXNet works on behind our back: a step's time is to be its own
        return StepResult(loss * len(y), int((logits.argmax(1) == y).sum()), len(y), logits)

    def _descend(self, lr: float, momentum: float) -> None:
        for name, parameter in self._parameters().items():
            weight, move = parameter.data().as_nd_ndarray(), parameter.grad().as_nd_ndarray()
            if momentum:
                move = self._velocity(name, move, momentum)
            mx.nd.sgd_update(weight, move, lr=lr, wd=0.0, rescale_grad=1.0, out=weight)

    def params(self) -> Params:
        return {name: parameter.data().asnumpy() for name, parameter in self._parameters().items()}

    def velocities(self) -> Params:
        return {name: self._velocities[name].asnumpy() for name in self._parameters() if name in self._velocities}

    def restore(self, params: Params, velocities: Params) -> None:
        for name, parameter in self._parameters().items():
            parameter.set_data(self._array(np.array(params[name], np.float32)))
        self._velocities = {
            name: self._array(np.array(value, np.float32)).as_nd_ndarray() for name, value in velocities.items()
        }

    def _velocity(self, name: str, gradient: Any, momentum: float) -> Any:
        """The next one. MXNet's own momentum has the learning rate inside, which differs once the rate changes."""
        before = self._velocities.get(name)
        self._velocities[name] = gradient.copy() if before is None else momentum * before + gradient
        return self._velocities[name]

    def _clear_gradients(self) -> None:
        for parameter in self._parameters().values():
            parameter.grad_req = "add"  # the pieces of a batch add up
            for gradient in parameter.list_grad():
                gradient[:] = 0  # `zero_grad` knows legacy arrays only, not those after `npx.set_np()`

    def _differentiate(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, NDArray[Any]]:
        """Mean loss and logits (N, classes), of all workers; gradients are added up in the parameters' `grad()`."""
        training = self._with_draws if masks is None else self._with_masks
        self._clear_gradients()
        found = []
        for piece in pieces(self.group, len(y), self.tuning):
            given = [] if masks is None else [self._array(masks[name][piece]) for name in self.architecture.dropouts()]
            share = self._array(np.array([(piece.stop - piece.start) / len(y)], np.float64))
            with autograd.record(train_mode=True):
                loss, logits = training(share, self._array(x[piece]), self._array(y[piece]), *given)
            if self._parameters():  # a net without parameters has a loss, and nothing to differentiate by
                loss.backward()
            found.append((loss.asnumpy().item(), logits.asnumpy()))
        self._sum_gradients()
        total, logits = sum(loss for loss, _ in found), [logits for _, logits in found]
        return whole(self.group, total, logits, len(y), self.architecture.classes)

    def _sum_gradients(self) -> None:
        """Over the workers, all gradients in one array."""
        gradients = [parameter.grad() for parameter in self._parameters().values()]
        if not isinstance(self.group, MXNetGroup) or not gradients:
            return
        flat = np.concatenate([gradient.asnumpy().ravel() for gradient in gradients])
        summed = self.group.sum_float32(flat)
        ends = np.cumsum([gradient.size for gradient in gradients])
        for gradient, values in zip(gradients, np.split(summed, ends[:-1]), strict=True):
            gradient[:] = self._array(values.reshape(gradient.shape))

    def _parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self._module._collect_params_with_prefix()
        return parameters

    def _array(self, array: NDArray[Any]) -> Any:
        # After `npx.set_np()`, as the book's notebooks begin, Gluon takes and gives MXNet's newer kind of arrays only.
        kind = mx.np if mx.util.is_np_array() else mx.nd
        return kind.array(array, ctx=self.context, dtype=array.dtype)


class _Training(HybridBlock):
    """Training mode in one graph: the net, with the harness's dropout masks unless it draws its own, and the loss."""

    def __init__(self, net: nn.HybridSequential, *, draws: bool) -> None:
        super().__init__()
        self.net = net
        self.draws = draws
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss(axis=-1, sparse_label=True, from_logits=False)

    def hybrid_forward(self, F: Any, share: Any, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:  # noqa: N803
        remaining = iter(masks)
        for layer in self.net._children.values():
            masked = isinstance(layer, nn.Dropout) and not self.draws
            x = x * next(remaining) if masked else layer(x)
        # In float64, which costs nothing for N x classes numbers: oneDNN 2.4's log-softmax is off by 1e-6 in float32.
        return share * self.loss(x.astype("float64"), y).mean(), x
