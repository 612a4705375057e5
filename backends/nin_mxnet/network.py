"""A compiled Gluon net at work: activations, loss, gradients, SGD; NumPy arrays at the border."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock, nn
from numpy.typing import NDArray

from nin_multi.backend import Images, Labels, Masks, Params, StepResult
from nin_multi.spec import Architecture
from nin_mxnet.layers import compile_architecture


class MXNetNetwork:
    """A net on one device, hybridized: static graphs, memory planned once."""

    def __init__(self, architecture: Architecture, params: Params, device: str) -> None:
        self.architecture = architecture
        kind, _, index = device.partition(":")
        self.context = mx.Context(kind, int(index or 0))
        self.module: Any = compile_architecture(architecture)
        for name, parameter in self._parameters().items():
            parameter.initialize(mx.init.Zero(), ctx=self.context)
            parameter.set_data(mx.nd.array(params[name], dtype="float32"))
        self._training = _Training(self.module)
        self._training.hybridize(static_alloc=True, static_shape=True)

    @cached_property  # a net without parameters has none, and is still good for its shapes
    def _trainer(self) -> Any:
        settings = {"learning_rate": 0.0, "momentum": 0.0, "wd": 0.0}
        return gluon.Trainer(list(self._parameters().values()), "sgd", settings, kvstore=None)

    def activations(self, x: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        value = self._array(x)
        for name, layer in self.module._children.items():
            is_block = isinstance(layer, nn.HybridSequential)
            for part_name, part in layer._children.items() if is_block else ():
                value = part(value)
                yield f"{name}.{part_name}", value.asnumpy()
            value = value if is_block else layer(value)
            yield name, value.asnumpy()

    def logits(self, x: Images) -> NDArray[Any]:
        result: NDArray[Any] = self.module(self._array(x)).asnumpy()
        return result

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks) -> tuple[float, Params]:
        loss, _ = self._differentiate(x, y, masks)
        return float(loss.asscalar()), {name: p.grad().asnumpy() for name, p in self._parameters().items()}

    def train_step(self, x: Images, y: Labels, masks: Masks, lr: float) -> StepResult:
        loss, logits = self._differentiate(x, y, masks)
        self._trainer.set_learning_rate(lr)
        self._trainer.step(1)  # the loss is a mean already
        mx.nd.waitall()  # MXNet works on behind our back: a step's time is to be its own
        correct = int((logits.asnumpy().argmax(1) == y).sum())
        return StepResult(float(loss.asscalar()) * len(y), correct, len(y))

    def params(self) -> Params:
        return {name: parameter.data().asnumpy() for name, parameter in self._parameters().items()}

    def _differentiate(self, x: Images, y: Labels, masks: Masks) -> tuple[Any, Any]:
        dropped = [self._array(masks[name]) for name in self.architecture.dropouts()]
        with autograd.record(train_mode=True):
            loss, logits = self._training(self._array(x), self._array(y), *dropped)
        loss.backward()
        return loss, logits

    def _parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self.module._collect_params_with_prefix()
        return parameters

    def _array(self, array: NDArray[Any]) -> Any:
        return mx.nd.array(array, ctx=self.context, dtype=array.dtype)


class _Training(HybridBlock):
    """Training mode in one graph: the net with the harness's dropout masks in place of its own draw, and the loss."""

    def __init__(self, net: nn.HybridSequential) -> None:
        super().__init__()
        self.net = net
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss(axis=-1, sparse_label=True, from_logits=False)

    def hybrid_forward(self, F: Any, x: Any, y: Any, *masks: Any) -> tuple[Any, Any]:  # noqa: N803
        remaining = iter(masks)
        for layer in self.net._children.values():
            x = x * next(remaining) if isinstance(layer, nn.Dropout) else layer(x)
        # In float64, which costs nothing for N x classes numbers: oneDNN 2.4's log-softmax is off by 1e-6 in float32.
        return F.mean(self.loss(F.cast(x, dtype="float64"), y)), x
