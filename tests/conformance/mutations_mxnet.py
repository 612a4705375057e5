"""The mistakes of `mutations.MUTATIONS`, planted in the MXNet adapter; what has to be said of them stands there."""

# ruff: noqa: N803  (F is what Gluon calls it)

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import mxnet as mx
import pytest
from mutations_alike import (
    VELOCITIES,
    Adapter,
    Patch,
    Planting,
    Rule,
    both,
    has_square_weight,
    named,
    same_padding,
)
from mxnet import autograd, gluon
from mxnet.gluon import nn

from nin_multi.knobs import Tuning
from nin_multi.spec import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU
from nin_mxnet import layers, network
from nin_mxnet.network import MXNetNetwork

TUNING: Tuning = {}
CLASSES = {
    Conv2d: "Conv2D",
    Linear: "Dense",
    MaxPool2d: "MaxPool2D",
    AvgPool2d: "AvgPool2D",
    Dropout: "Dropout",
    ReLU: "Activation",
}


@contextmanager
def surroundings() -> Iterator[None]:
    """As always; but one mistake is to leave training mode on."""
    try:
        yield
    finally:
        autograd.set_training(False)


ADAPTER = Adapter(layers, network, MXNetNetwork, nn, CLASSES, "hybrid_forward")
_forget, _change, _forward = ADAPTER.forget, ADAPTER.change, ADAPTER.compute


def _image(change: Callable[[Any, Any], Any]) -> Planting:
    """The net sees another image: `change(F, x)`."""
    return _forward(Conv2d, lambda conv, F, x, **held: _convolve(conv, F, change(F, x), **held), named("conv1"))


def _convolve(conv: Any, F: Any, x: Any, weight: Any, bias: Any = None, **others: Any) -> Any:
    given = {**conv._kwargs, **others, "no_bias": bias is None}
    return F.Convolution(*(array for array in (x, weight, bias) if array is not None), **given)


def _halve(F: Any, x: Any) -> Any:
    return F.cast(F.cast(x, "float16"), "float32")


def _convolve_same(conv: Any, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    around = (0, 0, 0, 0, *same_padding(conv.traced.layer, *conv.traced.input[2:]))
    return _convolve(conv, F, F.pad(x, mode="constant", pad_width=around), weight, bias, pad=(0, 0))


def _connect(linear: Any, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    given = {"num_hidden": linear._units, "no_bias": bias is None, "flatten": False}
    return F.FullyConnected(*(array for array in (x, weight, bias) if array is not None), **given)


def _pool(kind: str, **others: Any) -> Callable[..., Any]:
    """The framework's own pooling, rounding and all."""

    def compute(pool: Any, F: Any, x: Any) -> Any:
        layer = pool.traced.layer
        rounding = "full" if layer.ceil_mode else "valid"
        given = {"kernel": layer.kernel_size, "stride": layer.stride, "pad": layer.padding}
        return F.Pooling(x, pool_type=kind, **{**given, "pooling_convention": rounding, **others})

    return compute


def _average_all(pool: Any, F: Any, x: Any) -> Any:
    """Round up, and divide by the whole window."""
    layer = pool.traced.layer
    (down, right), (ph, pw) = layer.overhang(pool.traced.input), layer.padding
    extended = F.pad(x, mode="constant", pad_width=(0, 0, 0, 0, ph, ph + down, pw, pw + right))
    return _pool("avg", pooling_convention="valid", pad=(0, 0))(pool, F, extended)


def _turn_pool(pool: Any, F: Any, x: Any) -> Any:
    layer = pool.traced.layer
    turned = {"kernel": layer.kernel_size[::-1], "stride": layer.stride[::-1], "pad": layer.padding[::-1]}
    return _pool("max", **turned)(pool, F, x)


def _seed_again(differentiate: Any, *given: Any) -> Any:
    mx.random.seed(0)
    return differentiate(*given)


def _drop_unscaled(drop: Any, F: Any, x: Any) -> Any:
    return x * (F.Dropout(F.ones_like(x), p=drop.traced.layer.rate) > 0)


def _drop_scaling_later(drop: Any, F: Any, x: Any) -> Any:
    return x if autograd.is_training() else x * (1 - drop.traced.layer.rate)


def _evaluate_in_training_mode(activations: Any, *given: Any) -> Any:
    with autograd.train_mode():
        yield from activations(*given)


def _leave_training_on(differentiate: Any, *given: Any) -> Any:
    result = differentiate(*given)
    autograd.set_training(True)
    return result


def _record_in_evaluation_mode(differentiate: Any, net: Any, x: Any, y: Any, masks: Any) -> Any:
    """Only where the net draws its own masks: MXNet's max pool has another gradient in that mode."""
    record = partial(autograd.record, train_mode=masks is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "autograd", SimpleNamespace(record=lambda train_mode: record()))
        return differentiate(net, x, y, masks)


def _loss(change: Callable[..., Any]) -> Planting:
    """`change(F, losses)` for the loss of each image; the adapter takes the mean of what that gives."""

    class Other(gluon.loss.SoftmaxCrossEntropyLoss):
        def hybrid_forward(self, F: Any, logits: Any, labels: Any) -> Any:
            return change(F, super().hybrid_forward(F, logits, labels))

    return _use_loss(Other)


def _use_loss(cls: type) -> Planting:
    other = SimpleNamespace(loss=SimpleNamespace(SoftmaxCrossEntropyLoss=cls))
    return lambda patch: patch.setattr(network, "gluon", other)


class _SoftmaxFirst(gluon.loss.SoftmaxCrossEntropyLoss):
    def hybrid_forward(self, F: Any, logits: Any, labels: Any) -> Any:
        return super().hybrid_forward(F, F.softmax(logits), labels)


class _Smoothed(gluon.loss.SoftmaxCrossEntropyLoss):
    def hybrid_forward(self, F: Any, logits: Any, labels: Any) -> Any:
        even = -F.mean(F.log_softmax(logits), axis=1)
        return 0.9 * super().hybrid_forward(F, logits, labels) + 0.1 * even


def _divide_again(F: Any, losses: Any) -> Any:
    return F.broadcast_div(losses, F.sum(F.ones_like(losses)))


def _mean_with_gradient_of_sum(F: Any, losses: Any) -> Any:
    total = F.sum(losses)
    return total - F.BlockGrad(total - F.mean(losses))


def _forget_to_clear(patch: Patch) -> None:
    def add_up(net: MXNetNetwork) -> None:
        for parameter in net._parameters().values():
            parameter.grad_req = "add"

    patch.setattr(MXNetNetwork, "_clear_gradients", add_up)


def _overwrite_gradients(patch: Patch) -> None:
    """Gluon's default: each backward pass puts its gradients in place of those before."""
    asked: Any = gluon.Parameter.grad_req
    write = property(asked.fget, lambda parameter, _: asked.fset(parameter, "write"))
    patch.setattr(gluon.Parameter, "grad_req", write)


def _update(**others: Any) -> Planting:
    """Each parameter's step with other arguments."""
    update = mx.nd.sgd_update
    return lambda patch: patch.setattr(
        mx.nd, "sgd_update", lambda weight, gradient, **given: update(weight, gradient, **{**given, **others})
    )


def _change_gradient(change: Callable[[Any], Any]) -> Planting:
    update = mx.nd.sgd_update
    return lambda patch: patch.setattr(
        mx.nd, "sgd_update", lambda weight, gradient, **given: update(weight, change(gradient), **given)
    )


def _forget_a_layer(step: Any, net: Any, *given: Any) -> Any:
    some = {k: p for k, p in net._parameters().items() if not k.startswith("block1.conv.")}
    net._parameters = lambda: some
    result = step(net, *given)
    del net._parameters
    return result


def _velocity(rule: Rule) -> Planting:
    """Another definition."""

    def step_with_rate(step: Any, net: Any, x: Any, y: Any, masks: Any, lr: float, m: float = 0.0) -> Any:
        net.rate = lr
        return step(net, x, y, masks, lr, m)

    def velocity(_: Any, net: Any, name: str, gradient: Any, momentum: float) -> Any:
        move, net._velocities[name] = rule(net._velocities.get(name), gradient.copy(), net.rate, momentum)
        return move

    return both(ADAPTER.around("train_step", step_with_rate), ADAPTER.around("_velocity", velocity))


PLANTINGS: dict[str, Planting] = {
    **ADAPTER.plantings(),
    **{name: _velocity(rule) for name, rule in VELOCITIES.items()},
    "convolution made without bias": _change(Conv2d, "use_bias", lambda _: False),
    "linear made without bias": _change(Linear, "use_bias", lambda _: False),
    "linear's bias left at its default": _forget(Linear, "use_bias"),
    "bias not added": _forward(Conv2d, lambda conv, F, x, weight, bias=None: _convolve(conv, F, x, weight)),
    "padding 'same'": _forward(Conv2d, _convolve_same),
    "padding left out": _forget(Conv2d, "padding"),
    "stride left at its default": _forget(Conv2d, "strides"),
    "stride and padding swapped": _forward(
        Conv2d,
        lambda conv, F, x, **held: _convolve(
            conv, F, x, **held, stride=conv._kwargs["stride"][::-1], pad=conv._kwargs["pad"][::-1]
        ),
    ),
    "height and width swapped in the kernel": _forward(
        Conv2d,
        lambda conv, F, x, weight, bias=None: _convolve(
            conv, F, x, F.transpose(weight, axes=(0, 1, 3, 2)), bias, kernel=conv._kwargs["kernel"][::-1]
        ),
    ),
    "height and width swapped in the image": _image(lambda F, x: F.transpose(x, axes=(0, 1, 3, 2))),
    "colours in the opposite order": _image(lambda F, x: F.flip(x, axis=1)),
    "pixels divided by 255 again": _image(lambda F, x: x / 255),
    "kernel turned around": _forward(
        Conv2d, lambda conv, F, x, weight, bias=None: _convolve(conv, F, x, F.flip(weight, axis=(2, 3)), bias)
    ),
    "factors rounded to half precision": _forward(
        Conv2d, lambda conv, F, x, weight, bias=None: _convolve(conv, F, _halve(F, x), _halve(F, weight), bias)
    ),
    "convolution with (in, out)": _forward(
        Conv2d,
        lambda conv, F, x, weight, bias=None: _convolve(conv, F, x, F.swapaxes(weight, 0, 1), bias),
        has_square_weight,
    ),
    "linear with (in, out)": _forward(
        Linear,
        lambda linear, F, x, weight, bias=None: _connect(linear, F, x, F.transpose(weight), bias),
        has_square_weight,
    ),
    "pool's stride left at its default": _forget(MaxPool2d, "strides"),
    "pool's padding left out": _forget(MaxPool2d, "padding"),
    "pool's axes swapped": _forward(MaxPool2d, _turn_pool),
    "pool rounds up for down": _change(MaxPool2d, "ceil_mode", lambda _: True),
    "pool rounds down for up": _forward(AvgPool2d, _pool("avg", pooling_convention="valid")),
    "padding left out of the mean": _forward(AvgPool2d, _pool("avg", count_include_pad=False)),
    "more than padding in the mean": _forward(AvgPool2d, _average_all),
    "mean for maximum": _forward(MaxPool2d, _pool("avg")),
    "maximum for mean": _forward(AvgPool2d, _pool("max")),
    "global pool takes the maximum": _forward(GlobalAvgPool2d, lambda _, F, x: F.max(x, axis=(2, 3), keepdims=True)),
    "global pool takes the sum": _forward(GlobalAvgPool2d, lambda _, F, x: F.sum(x, axis=(2, 3), keepdims=True)),
    "width before height in flatten": _forward(Flatten, lambda _, F, x: F.Flatten(F.transpose(x, axes=(0, 1, 3, 2)))),
    "channels last in flatten": _forward(Flatten, lambda _, F, x: F.Flatten(F.transpose(x, axes=(0, 2, 3, 1)))),
    "ReLU left out": _forward(ReLU, lambda _, F, x: F.identity(x)),
    "ReLU left out at a block's end": _forward(ReLU, lambda _, F, x: F.identity(x), named("block1.relu2")),
    "ReLU at the end of each block": _forward(
        Conv2d, lambda conv, F, x, **held: F.relu(_convolve(conv, F, x, **held)), named("block2.mlp1")
    ),
    "ReLU on the logits": _forward(
        Linear, lambda linear, F, x, **held: F.relu(_connect(linear, F, x, **held)), named("linear2")
    ),
    "leaky ReLU": _forward(ReLU, lambda _, F, x: F.LeakyReLU(x)),
    "sigmoid for ReLU": _forward(ReLU, lambda _, F, x: F.sigmoid(x)),
    "dropout at work in evaluation": ADAPTER.around("activations", _evaluate_in_training_mode),
    "dropout scales in evaluation": _forward(Dropout, _drop_scaling_later),
    "not set back to evaluation": ADAPTER.differentiate(_leave_training_on),
    "rate taken for the share kept": _change(Dropout, "rate", lambda rate: 1 - rate),
    "own dropout idle in training": ADAPTER.differentiate(_record_in_evaluation_mode),
    "own dropout does not scale": _forward(Dropout, _drop_unscaled),
    "own dropout draws the same again": ADAPTER.differentiate(_seed_again),
    "loss summed": _loss(lambda F, losses: F.sum(losses)),
    "loss averaged twice": _loss(_divide_again),
    "labels smoothed": _use_loss(_Smoothed),
    "softmax before the loss": _use_loss(_SoftmaxFirst),
    "gradient of the sum": _loss(_mean_with_gradient_of_sum),
    "gradients not cleared": _forget_to_clear,
    "only the last piece's gradient counts": _overwrite_gradients,
    "learning rate ignored": _update(lr=0.01),
    "Adam for SGD": _change_gradient(lambda g: g / (g.abs() + 1e-8)),
    "gradient ascent": _update(rescale_grad=-1.0),
    "weight decay left on": _update(wd=1e-2),
    "a layer left out of the step": ADAPTER.around("train_step", _forget_a_layer),
}
