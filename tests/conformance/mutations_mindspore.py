"""The mistakes of `mutations.MUTATIONS`, planted in the MindSpore adapter; what has to be said of them stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import mindspore
import numpy as np
import pytest
from mindspore import nn, ops

from nin_mindspore import layers, network
from nin_mindspore.network import MindSporeNetwork
from nin_multi.spec import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU

Patch = pytest.MonkeyPatch
Planting = Callable[[Patch], None]
CLASSES = {
    Conv2d: "Conv2d",
    Linear: "Dense",
    MaxPool2d: "MaxPool2d",
    AvgPool2d: "AvgPool2d",
    Dropout: "Dropout",
    ReLU: "ReLU",
}


@contextmanager
def surroundings() -> Iterator[None]:
    """The same Python run as it stands: each graph would be compiled for seconds, and half a dozen for each mistake."""
    jit, mindspore.jit = mindspore.jit, lambda function: function
    try:
        yield
    finally:
        mindspore.jit = jit


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


def _forward(kind: type, compute: Callable[[Any, Any], Any], where: Callable[[Any], bool] = lambda _: True) -> Planting:
    """Layers of a kind give `compute(layer, x)`."""

    def plant(patch: Patch) -> None:
        compile_layer = layers.compile_layer

        def compile_other(traced: Any) -> Any:
            made = compile_layer(traced)
            if isinstance(traced.layer, kind) and where(traced):
                made.traced = traced
                made.construct = partial(compute, made)
            return made

        patch.setattr(layers, "compile_layer", compile_other)

    return plant


def _image(change: Callable[[Any], Any]) -> Planting:
    """The net sees another image."""
    return _forward(Conv2d, lambda conv, x: _convolve(conv, change(x), conv.weight), _named("conv1"))


def _named(name: str) -> Callable[[Any], bool]:
    return lambda traced: traced.name == name


def _has_square_weight(traced: Any) -> bool:
    return traced.input[1] == traced.output[1]


def _bias(layer: Any) -> Any:
    return layer.bias if layer.has_bias else None


def _convolve(conv: Any, x: Any, weight: Any, turn: slice = slice(None)) -> Any:
    """With another weight, or with stride and padding turned around."""
    layer = conv.traced.layer
    return ops.conv2d(x, weight, _bias(conv), layer.stride[turn], "pad", layer.padding[turn])


def _halve(x: Any) -> Any:
    return ops.cast(ops.cast(x, mindspore.float16), mindspore.float32)


def _convolve_without_bias(conv: Any, x: Any) -> Any:
    """The bias is there, and nothing is done with it."""
    return conv.conv2d(x, conv.weight)


def _average_all(pool: Any, x: Any) -> Any:
    """Round up, and divide by the whole window."""
    layer = pool.traced.layer
    (down, right), (ph, pw) = layer.overhang(tuple(x.shape)), layer.padding
    return ops.avg_pool2d(ops.pad(x, (pw, pw + right, ph, ph + down)), layer.kernel_size, layer.stride)


def _pool(kind: type, turn: slice = slice(None)) -> Callable[[Any, Any], Any]:
    """The other kind of pool, or one turned around."""

    def compute(pool: Any, x: Any) -> Any:
        layer = pool.traced.layer
        given = {"stride": layer.stride[turn], "padding": layer.padding[turn], "ceil_mode": layer.ceil_mode}
        return kind(kernel_size=layer.kernel_size[turn], pad_mode="pad", **given)(x)

    return compute


def _skip(name: str) -> Planting:
    """The layer is not made at all."""
    sequential = layers._sequential
    return lambda patch: patch.setattr(
        layers, "_sequential", lambda traced: sequential(tuple(part for part in traced if part.name != name))
    )


def _load(change: Callable[[Any, Any], Any]) -> Planting:
    """Put other parameters into the net: `change(network, params)`."""
    restore = MindSporeNetwork.restore
    return lambda patch: patch.setattr(
        MindSporeNetwork, "restore", lambda net, params, velocities: restore(net, change(net, dict(params)), velocities)
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
    params = MindSporeNetwork.params
    _load(_exchange)(patch)
    patch.setattr(MindSporeNetwork, "params", lambda net: _exchange(net, params(net)))


def _masks(change: Callable[[Any, Any], Any]) -> Planting:
    """Train with other masks: `change(network, masks)`."""
    ask, step = MindSporeNetwork.loss_and_gradients, MindSporeNetwork.train_step

    def other(net: Any, masks: Any) -> Any:
        return masks if masks is None else change(net, masks)

    def plant(patch: Patch) -> None:
        patch.setattr(MindSporeNetwork, "loss_and_gradients", lambda net, x, y, m: ask(net, x, y, other(net, m)))
        patch.setattr(
            MindSporeNetwork, "train_step", lambda net, x, y, m, *rates: step(net, x, y, other(net, m), *rates)
        )

    return plant


def _invert(net: Any, masks: Any) -> Any:
    rates = {name: rate for name, (rate, _) in net.architecture.dropouts().items()}
    return {name: (mask == 0).astype(np.float32) / np.float32(rates[name]) for name, mask in masks.items()}


def _keep_first(net: Any, masks: Any) -> Any:
    net.first_masks = getattr(net, "first_masks", masks)
    return net.first_masks


def _drop_alike(dropout: Any, x: Any) -> Any:
    rate = dropout.traced.layer.rate
    mask = np.random.default_rng(0).random(x.shape) >= rate
    return x * mindspore.Tensor(np.float32(mask / (1 - rate))) if dropout.training else x


def _drop_unscaled(dropout: Any, x: Any) -> Any:
    return x * (nn.Dropout.construct(dropout, ops.ones_like(x)) > 0)


def _drop_scaling_later(dropout: Any, x: Any) -> Any:
    return x if dropout.training else x * (1 - dropout.traced.layer.rate)


def _set_always(training: bool) -> Planting:
    """A switch that is stuck."""
    set_train = nn.Cell.set_train
    return lambda patch: patch.setattr(nn.Cell, "set_train", lambda cell, mode=True: set_train(cell, training))


def _forget_to_evaluate(patch: Patch) -> None:
    """`logits` relies on the mode in which it finds the net."""
    patch.setattr(MindSporeNetwork, "logits", lambda net, x: net._forward(mindspore.Tensor(x)).asnumpy())


def _loss(change: Callable[[Any, Any], Any]) -> Planting:
    """`change(logits, labels)` for the loss."""
    other = SimpleNamespace(
        cross_entropy=lambda logits, labels, **_: change(logits, labels), assign=ops.assign, assign_sub=ops.assign_sub
    )
    return lambda patch: patch.setattr(network, "ops", other)


def _mean_with_gradient_of_sum(logits: Any, labels: Any) -> Any:
    total = ops.cross_entropy(logits, labels, reduction="sum")
    return total - ops.stop_gradient(total - total / len(labels))


def _step_when_asked_for_gradients(patch: Patch) -> None:
    ask = MindSporeNetwork.loss_and_gradients

    def ask_and_step(net: Any, x: Any, y: Any, masks: Any) -> Any:
        answer = ask(net, x, y, masks)
        net.train_step(x, y, masks, 0.1)
        return answer

    patch.setattr(MindSporeNetwork, "loss_and_gradients", ask_and_step)


def _divide_step(patch: Patch) -> None:
    step = MindSporeNetwork.train_step
    patch.setattr(
        MindSporeNetwork, "train_step", lambda net, x, y, masks, lr, m=0.0: step(net, x, y, masks, lr / len(y), m)
    )


def _keep_first_rate(patch: Patch) -> None:
    step = MindSporeNetwork.train_step

    def step_with_first_rate(net: Any, x: Any, y: Any, masks: Any, lr: float, m: float = 0.0) -> Any:
        net.first_rate = getattr(net, "first_rate", lr)
        return step(net, x, y, masks, net.first_rate, m)

    patch.setattr(MindSporeNetwork, "train_step", step_with_first_rate)


def _move(p: Any, g: Any, lr: Any) -> Any:
    return p - lr * g


def _step(move: Callable[[Any, Any, Any], Any] = _move, rule: Callable[..., tuple[Any, Any]] | None = None) -> Planting:
    """Another step: `move(p, g, lr)` gives the next parameter; `rule(v, g, lr, momentum)` the move and the velocity."""

    def sgd_step(training: Any, weights: Any, velocities: Any) -> Any:
        differentiate = mindspore.value_and_grad(training, None, weights, has_aux=True)

        def step(lr: Any, momentum: Any, x: Any, y: Any, *masks: Any) -> Any:
            answer, gradients = differentiate(x, y, *masks)
            for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
                if velocities:
                    gradient, velocity = (rule or _keep)(velocities[index], gradient, lr, momentum)
                    ops.assign(velocities[index], velocity)
                ops.assign(weight, move(weight, gradient, lr))
            return answer

        return step

    return lambda patch: patch.setattr(network, "_sgd_step", sgd_step)


def _keep(v: Any, g: Any, lr: Any, m: Any) -> tuple[Any, Any]:
    v = m * v + g
    return v, v


def _rate_inside(v: Any, g: Any, lr: Any, m: Any) -> tuple[Any, Any]:
    """The step multiplies the move by the rate once more."""
    v = m * v - lr * g
    return -v / lr, v


def _nesterov(v: Any, g: Any, lr: Any, m: Any) -> tuple[Any, Any]:
    v = m * v + g
    return g + m * v, v


def _dampened(v: Any, g: Any, lr: Any, m: Any) -> tuple[Any, Any]:
    v = m * v + (1 - m) * g if v.asnumpy().any() else g
    return v, v


def _mean(v: Any, g: Any, lr: Any, m: Any) -> tuple[Any, Any]:
    v = m * v + (1 - m) * g
    return v, v


PLANTINGS: dict[str, Planting] = {
    "convolution made without bias": _forget(Conv2d, "has_bias"),
    "linear made without bias": _change(Linear, "has_bias", lambda _: False),
    "linear's bias left at its default": _forget(Linear, "has_bias"),
    "biases never loaded": _keep_own(".bias"),
    "weights never loaded": _keep_own(".weight"),
    "weights loaded as (in, out)": _load(_turn_square),
    "equal layers exchanged when loaded": _load(_exchange),
    "equal layers exchanged": _exchange_both_ways,
    "bias not added": _forward(Conv2d, _convolve_without_bias),
    "padding 'same'": _forget(Conv2d, "pad_mode", "padding"),
    "padding left out": _forget(Conv2d, "pad_mode", "padding", pad_mode="valid"),
    "stride left at its default": _forget(Conv2d, "stride"),
    "stride and padding swapped": _forward(
        Conv2d, lambda conv, x: _convolve(conv, x, conv.weight, slice(None, None, -1))
    ),
    "height and width swapped in the kernel": _forward(
        Conv2d, lambda conv, x: _convolve(conv, x, conv.weight.swapaxes(2, 3))
    ),
    "height and width swapped in the image": _image(lambda x: x.swapaxes(2, 3)),
    "colours in the opposite order": _image(lambda x: ops.flip(x, (1,))),
    "pixels divided by 255 again": _image(lambda x: x / 255),
    "kernel turned around": _forward(Conv2d, lambda conv, x: _convolve(conv, x, ops.flip(conv.weight, (2, 3)))),
    "factors rounded to half precision": _forward(
        Conv2d, lambda conv, x: _convolve(conv, _halve(x), _halve(conv.weight))
    ),
    "convolution with (in, out)": _forward(
        Conv2d, lambda conv, x: _convolve(conv, x, conv.weight.swapaxes(0, 1)), _has_square_weight
    ),
    "linear with (in, out)": _forward(
        Linear, lambda linear, x: ops.dense(x, linear.weight.swapaxes(0, 1), _bias(linear)), _has_square_weight
    ),
    "pool's stride left at its default": _forget(MaxPool2d, "stride"),
    "pool's padding left out": _forget(MaxPool2d, "pad_mode", "padding"),
    "pool's axes swapped": _forward(MaxPool2d, _pool(nn.MaxPool2d, slice(None, None, -1))),
    "pool rounds up for down": _change(MaxPool2d, "ceil_mode", lambda _: True),
    "pool rounds down for up": _forget(AvgPool2d, "ceil_mode"),
    "padding left out of the mean": _change(AvgPool2d, "count_include_pad", lambda _: False),
    "more than padding in the mean": _forward(AvgPool2d, _average_all),
    "mean for maximum": _forward(MaxPool2d, _pool(nn.AvgPool2d)),
    "maximum for mean": _forward(AvgPool2d, _pool(nn.MaxPool2d)),
    "global pool not made": _skip("global_avg_pool1"),
    "global pool takes the maximum": _forward(GlobalAvgPool2d, lambda _, x: ops.amax(x, (2, 3), True)),
    "global pool takes the sum": _forward(GlobalAvgPool2d, lambda _, x: ops.sum(x, (2, 3), True)),
    "width before height in flatten": _forward(Flatten, lambda _, x: ops.flatten(x.swapaxes(2, 3))),
    "channels last in flatten": _forward(Flatten, lambda _, x: ops.flatten(ops.transpose(x, (0, 2, 3, 1)))),
    "ReLU left out": _forward(ReLU, lambda _, x: x),
    "ReLU left out at a block's end": _forward(ReLU, lambda _, x: x, _named("block1.relu2")),
    "ReLU not made at a block's end": _skip("block1.relu2"),
    "ReLU at the end of each block": _forward(
        Conv2d, lambda conv, x: ops.relu(_convolve(conv, x, conv.weight)), _named("block2.mlp1")
    ),
    "ReLU on the logits": _forward(
        Linear, lambda linear, x: ops.relu(ops.dense(x, linear.weight, _bias(linear))), _named("linear2")
    ),
    "leaky ReLU": _forward(ReLU, lambda _, x: ops.leaky_relu(x)),
    "sigmoid for ReLU": _forward(ReLU, lambda _, x: ops.sigmoid(x)),
    "dropout at work in evaluation": _set_always(True),
    "dropout scales in evaluation": _forward(Dropout, _drop_scaling_later),
    "mask not applied": _masks(lambda _, masks: {name: np.ones_like(mask) for name, mask in masks.items()}),
    "mask inverted": _masks(_invert),
    "kept values not scaled": _masks(lambda _, masks: {k: (m > 0).astype(np.float32) for k, m in masks.items()}),
    "own draws for the masks given": _masks(lambda *_: None),
    "first masks kept for ever": _masks(_keep_first),
    "not set back to evaluation": _forget_to_evaluate,
    "rate taken for the share kept": _change(Dropout, "p", lambda rate: 1 - rate),
    "own dropout idle in training": _set_always(False),
    "own dropout does not scale": _forward(Dropout, _drop_unscaled),
    "own dropout draws the same again": _forward(Dropout, _drop_alike),
    "loss summed": _loss(partial(ops.cross_entropy, reduction="sum")),
    "loss averaged twice": _loss(lambda logits, labels: ops.cross_entropy(logits, labels) / len(labels)),
    "labels smoothed": _loss(partial(ops.cross_entropy, label_smoothing=0.1)),
    "softmax before the loss": _loss(lambda logits, labels: ops.cross_entropy(ops.softmax(logits, 1), labels)),
    "gradient of the sum": _loss(_mean_with_gradient_of_sum),
    "gradients asked for, step taken": _step_when_asked_for_gradients,
    "step divided by the batch again": _divide_step,
    "learning rate ignored": _step(lambda p, g, lr: p - 0.01 * g),
    "Adam for SGD": _step(lambda p, g, lr: p - lr * g / (g.abs() + 1e-8)),
    "gradient ascent": _step(lambda p, g, lr: p + lr * g),
    "weight decay left on": _step(lambda p, g, lr: p - lr * (g + 1e-2 * p)),
    "a layer left out of the step": _step(lambda p, g, lr: p if "block1.conv." in p.name else _move(p, g, lr)),
    "first learning rate kept for ever": _keep_first_rate,
    "momentum not applied": _step(rule=lambda v, g, lr, m: (g, v)),
    "learning rate inside the velocity": _step(rule=_rate_inside),
    "Nesterov's momentum": _step(rule=_nesterov),
    "momentum with dampening": _step(rule=_dampened),
    "velocity as a mean": _step(rule=_mean),
}
