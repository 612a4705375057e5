"""The mistakes of `mutations.MUTATIONS`, planted in the MXNet adapter; what has to be said of them stands there."""

# ruff: noqa: N803  (F is what Gluon calls it)

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from nin_multi.spec import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU
from nin_mxnet import layers, network
from nin_mxnet.network import MXNetNetwork

Patch = pytest.MonkeyPatch
Planting = Callable[[Patch], None]
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


def _call(patch: Patch, kind: type, make: Callable[..., Any]) -> None:
    """Where the adapter calls the framework's class for a kind of layer, call `make(class, ...)`."""
    name = CLASSES[kind]
    names = {key: getattr(nn, key) for key in dir(nn)}
    patch.setattr(layers, "nn", SimpleNamespace(**{**names, name: partial(make, names[name])}))


def _forget(kind: type, *keywords: str, **others: Any) -> Planting:
    """Leave keywords out, so that the framework's default holds, or pass others."""

    def make(cls: Any, *args: Any, **given: Any) -> Any:
        return cls(*args, **{key: value for key, value in given.items() if key not in keywords}, **others)

    return lambda patch: _call(patch, kind, make)


def _change(kind: type, keyword: str, change: Callable[[Any], Any]) -> Planting:
    """Pass something else for a keyword."""
    return lambda patch: _call(patch, kind, lambda cls, *args, **given: cls(*args, **_with(given, keyword, change)))


def _with(given: dict[str, Any], keyword: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    return {**given, keyword: change(given[keyword])}


def _forward(kind: type, compute: Callable[..., Any], where: Callable[[Any], bool] = lambda _: True) -> Planting:
    """Layers of a kind give `compute(layer, F, x, weight=..., bias=...)`."""

    def plant(patch: Patch) -> None:
        compile_layer = layers.compile_layer

        def compile_other(traced: Any) -> Any:
            made = compile_layer(traced)
            if isinstance(traced.layer, kind) and where(traced):
                made.traced = traced
                made.hybrid_forward = partial(compute, made)
            return made

        patch.setattr(layers, "compile_layer", compile_other)

    return plant


def _image(change: Callable[[Any, Any], Any]) -> Planting:
    """The net sees another image: `change(F, x)`."""
    return _forward(Conv2d, lambda conv, F, x, **held: _convolve(conv, F, change(F, x), **held), _named("conv1"))


def _named(name: str) -> Callable[[Any], bool]:
    return lambda traced: traced.name == name


def _has_square_weight(traced: Any) -> bool:
    return bool(traced.input[1] == traced.output[1])


def _convolve(conv: Any, F: Any, x: Any, weight: Any, bias: Any = None, **others: Any) -> Any:
    given = {**conv._kwargs, **others, "no_bias": bias is None}
    return F.Convolution(*(array for array in (x, weight, bias) if array is not None), **given)


def _halve(F: Any, x: Any) -> Any:
    return F.cast(F.cast(x, "float16"), "float32")


def _convolve_same(conv: Any, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    """As a net comes over from Keras: as much padding as keeps the size, the odd one below and to the right."""
    layer, around = conv.traced.layer, [0, 0, 0, 0]
    for size, kernel, stride in zip(conv.traced.input[2:], layer.kernel_size, layer.stride, strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        around += [total // 2, total - total // 2]
    return _convolve(conv, F, F.pad(x, mode="constant", pad_width=tuple(around)), weight, bias, pad=(0, 0))


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


def _skip(name: str) -> Planting:
    """The layer is not made at all."""
    sequential = layers._sequential
    return lambda patch: patch.setattr(
        layers, "_sequential", lambda traced: sequential(tuple(part for part in traced if part.name != name))
    )


def _load(change: Callable[[Any, Any], Any]) -> Planting:
    """Put other parameters into the net: `change(network, params)`."""
    restore = MXNetNetwork.restore
    return lambda patch: patch.setattr(
        MXNetNetwork, "restore", lambda net, params, velocities: restore(net, change(net, dict(params)), velocities)
    )


def _keep_own(ending: str) -> Planting:
    return _load(lambda net, params: params | {k: v for k, v in net.params().items() if k.endswith(ending)})


def _turn_square(_: Any, params: Any) -> Any:
    return {k: v.swapaxes(0, 1) if v.ndim > 1 and v.shape[0] == v.shape[1] else v for k, v in params.items()}


def _exchange(_: Any, params: Any) -> Any:
    other = {"block1.mlp1": "block1.mlp2", "block1.mlp2": "block1.mlp1"}
    layer_and_kind = {name: name.rpartition(".") for name in params}
    return {name: params.get(f"{other.get(of, of)}.{kind}") for name, (of, _, kind) in layer_and_kind.items()}


def _exchange_both_ways(patch: Patch) -> None:
    params = MXNetNetwork.params
    _load(_exchange)(patch)
    patch.setattr(MXNetNetwork, "params", lambda net: _exchange(net, params(net)))


def _differentiate(change: Callable[..., Any]) -> Planting:
    """`change(differentiate, network, x, y, masks)` for a training pass."""
    differentiate = MXNetNetwork._differentiate
    return lambda patch: patch.setattr(
        MXNetNetwork, "_differentiate", lambda net, x, y, masks: change(differentiate, net, x, y, masks)
    )


def _masks(change: Callable[[Any, Any], Any]) -> Planting:
    """Train with other masks: `change(network, masks)`."""
    return _differentiate(lambda go, net, x, y, masks: go(net, x, y, masks if masks is None else change(net, masks)))


def _invert(net: Any, masks: Any) -> Any:
    rates = {name: rate for name, (rate, _) in net.architecture.dropouts().items()}
    return {name: (mask == 0).astype(np.float32) / np.float32(rates[name]) for name, mask in masks.items()}


def _keep_first(net: Any, masks: Any) -> Any:
    net.first_masks = getattr(net, "first_masks", masks)
    return net.first_masks


def _seed_again(differentiate: Any, *given: Any) -> Any:
    mx.random.seed(0)
    return differentiate(*given)


def _drop_unscaled(drop: Any, F: Any, x: Any) -> Any:
    return x * (F.Dropout(F.ones_like(x), p=drop.traced.layer.rate) > 0)


def _drop_scaling_later(drop: Any, F: Any, x: Any) -> Any:
    return x if autograd.is_training() else x * (1 - drop.traced.layer.rate)


def _evaluate_in_training_mode(patch: Patch) -> None:
    activations = MXNetNetwork.activations

    def activations_in_training(net: Any, x: Any) -> Any:
        with autograd.train_mode():
            yield from activations(net, x)

    patch.setattr(MXNetNetwork, "activations", activations_in_training)


def _leave_training_on(differentiate: Any, *given: Any) -> Any:
    result = differentiate(*given)
    autograd.set_training(True)
    return result


def _record_in_evaluation_mode(patch: Patch) -> None:
    """Only where the net draws its own masks: MXNet's max pool has another gradient in that mode."""
    differentiate = MXNetNetwork._differentiate

    def differentiate_otherwise(net: Any, x: Any, y: Any, masks: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            record = partial(autograd.record, train_mode=masks is not None)
            inner.setattr(network, "autograd", SimpleNamespace(record=lambda train_mode: record()))
            return differentiate(net, x, y, masks)

    patch.setattr(MXNetNetwork, "_differentiate", differentiate_otherwise)


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


def _add_up_gradients(patch: Patch) -> None:
    make = MXNetNetwork.__init__

    def make_adding(net: Any, *given: Any) -> None:
        make(net, *given)
        for parameter in net._parameters().values():
            parameter.grad_req = "add"

    patch.setattr(MXNetNetwork, "__init__", make_adding)


def _step_when_asked_for_gradients(patch: Patch) -> None:
    ask = MXNetNetwork.loss_and_gradients

    def ask_and_step(net: Any, x: Any, y: Any, masks: Any) -> Any:
        answer = ask(net, x, y, masks)
        net.train_step(x, y, masks, 0.1)
        return answer

    patch.setattr(MXNetNetwork, "loss_and_gradients", ask_and_step)


def _divide_step(patch: Patch) -> None:
    step = MXNetNetwork.train_step
    patch.setattr(
        MXNetNetwork, "train_step", lambda net, x, y, masks, lr, m=0.0: step(net, x, y, masks, lr / len(y), m)
    )


def _keep_first_rate(patch: Patch) -> None:
    step = MXNetNetwork.train_step

    def step_with_first_rate(net: Any, x: Any, y: Any, masks: Any, lr: float, m: float = 0.0) -> Any:
        net.first_rate = getattr(net, "first_rate", lr)
        return step(net, x, y, masks, net.first_rate, m)

    patch.setattr(MXNetNetwork, "train_step", step_with_first_rate)


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


def _forget_a_layer(patch: Patch) -> None:
    step = MXNetNetwork.train_step

    def step_with_fewer(net: Any, *given: Any) -> Any:
        some = {k: p for k, p in net._parameters().items() if not k.startswith("block1.conv.")}
        net._parameters = lambda: some
        result = step(net, *given)
        del net._parameters
        return result

    patch.setattr(MXNetNetwork, "train_step", step_with_fewer)


def _velocity(rule: Callable[..., tuple[Any, Any]]) -> Planting:
    """Another definition: `rule(v, g, lr, momentum)` gives the move and the next velocity; v is None at first."""
    step = MXNetNetwork.train_step

    def step_with_rate(net: Any, x: Any, y: Any, masks: Any, lr: float, m: float = 0.0) -> Any:
        net.rate = lr
        return step(net, x, y, masks, lr, m)

    def velocity(net: Any, name: str, gradient: Any, momentum: float) -> Any:
        move, net._velocities[name] = rule(net._velocities.get(name), gradient.copy(), net.rate, momentum)
        return move

    def plant(patch: Patch) -> None:
        patch.setattr(MXNetNetwork, "train_step", step_with_rate)
        patch.setattr(MXNetNetwork, "_velocity", velocity)

    return plant


def _rate_inside(v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    """MXNet's own: the adapter multiplies the move by the rate once more."""
    v = -lr * g if v is None else m * v - lr * g
    return -v / lr, v


def _nesterov(v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    v = g if v is None else m * v + g
    return g + m * v, v


def _dampened(v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    v = g if v is None else m * v + (1 - m) * g
    return v, v


def _mean(v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    v = (1 - m) * g if v is None else m * v + (1 - m) * g
    return v, v


PLANTINGS: dict[str, Planting] = {
    "convolution made without bias": _change(Conv2d, "use_bias", lambda _: False),
    "linear made without bias": _change(Linear, "use_bias", lambda _: False),
    "linear's bias left at its default": _forget(Linear, "use_bias"),
    "biases never loaded": _keep_own(".bias"),
    "weights never loaded": _keep_own(".weight"),
    "weights loaded as (in, out)": _load(_turn_square),
    "equal layers exchanged when loaded": _load(_exchange),
    "equal layers exchanged": _exchange_both_ways,
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
        _has_square_weight,
    ),
    "linear with (in, out)": _forward(
        Linear,
        lambda linear, F, x, weight, bias=None: _connect(linear, F, x, F.transpose(weight), bias),
        _has_square_weight,
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
    "global pool not made": _skip("global_avg_pool1"),
    "global pool takes the maximum": _forward(GlobalAvgPool2d, lambda _, F, x: F.max(x, axis=(2, 3), keepdims=True)),
    "global pool takes the sum": _forward(GlobalAvgPool2d, lambda _, F, x: F.sum(x, axis=(2, 3), keepdims=True)),
    "width before height in flatten": _forward(Flatten, lambda _, F, x: F.Flatten(F.transpose(x, axes=(0, 1, 3, 2)))),
    "channels last in flatten": _forward(Flatten, lambda _, F, x: F.Flatten(F.transpose(x, axes=(0, 2, 3, 1)))),
    "ReLU left out": _forward(ReLU, lambda _, F, x: F.identity(x)),
    "ReLU left out at a block's end": _forward(ReLU, lambda _, F, x: F.identity(x), _named("block1.relu2")),
    "ReLU not made at a block's end": _skip("block1.relu2"),
    "ReLU at the end of each block": _forward(
        Conv2d, lambda conv, F, x, **held: F.relu(_convolve(conv, F, x, **held)), _named("block2.mlp1")
    ),
    "ReLU on the logits": _forward(
        Linear, lambda linear, F, x, **held: F.relu(_connect(linear, F, x, **held)), _named("linear2")
    ),
    "leaky ReLU": _forward(ReLU, lambda _, F, x: F.LeakyReLU(x)),
    "sigmoid for ReLU": _forward(ReLU, lambda _, F, x: F.sigmoid(x)),
    "dropout at work in evaluation": _evaluate_in_training_mode,
    "dropout scales in evaluation": _forward(Dropout, _drop_scaling_later),
    "mask not applied": _masks(lambda _, masks: {name: np.ones_like(mask) for name, mask in masks.items()}),
    "mask inverted": _masks(_invert),
    "kept values not scaled": _masks(lambda _, masks: {k: (m > 0).astype(np.float32) for k, m in masks.items()}),
    "own draws for the masks given": _masks(lambda *_: None),
    "first masks kept for ever": _masks(_keep_first),
    "not set back to evaluation": _differentiate(_leave_training_on),
    "rate taken for the share kept": _change(Dropout, "rate", lambda rate: 1 - rate),
    "own dropout idle in training": _record_in_evaluation_mode,
    "own dropout does not scale": _forward(Dropout, _drop_unscaled),
    "own dropout draws the same again": _differentiate(_seed_again),
    "loss summed": _loss(lambda F, losses: F.sum(losses)),
    "loss averaged twice": _loss(_divide_again),
    "labels smoothed": _use_loss(_Smoothed),
    "softmax before the loss": _use_loss(_SoftmaxFirst),
    "gradient of the sum": _loss(_mean_with_gradient_of_sum),
    "gradients not cleared": _add_up_gradients,
    "gradients asked for, step taken": _step_when_asked_for_gradients,
    "step divided by the batch again": _divide_step,
    "learning rate ignored": _update(lr=0.01),
    "Adam for SGD": _change_gradient(lambda g: g / (g.abs() + 1e-8)),
    "gradient ascent": _update(rescale_grad=-1.0),
    "weight decay left on": _update(wd=1e-2),
    "a layer left out of the step": _forget_a_layer,
    "first learning rate kept for ever": _keep_first_rate,
    "momentum not applied": _velocity(lambda v, g, lr, m: (g, g)),
    "learning rate inside the velocity": _velocity(_rate_inside),
    "Nesterov's momentum": _velocity(_nesterov),
    "momentum with dampening": _velocity(_dampened),
    "velocity as a mean": _velocity(_mean),
}
