"""The mistakes of `mutations.MUTATIONS`, planted in the MindSpore adapter; what has to be said of them stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import mindspore
import numpy as np
from mindspore import nn, ops
from mutations_alike import (
    VELOCITIES,
    Adapter,
    Patch,
    Planting,
    Rule,
    has_square_weight,
    keep,
    named,
)

from nin_mindspore import layers, network
from nin_mindspore.network import MindSporeNetwork
from nin_multi.knobs import Tuning
from nin_multi.spec import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU

# Layers as people write them; the product form has a list of its own.
TUNING: Tuning = {"convolution": "conv2d"}
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


ADAPTER = Adapter(layers, network, MindSporeNetwork, nn, CLASSES, "construct")
_forget, _change, _forward = ADAPTER.forget, ADAPTER.change, ADAPTER.compute


def _image(change: Callable[[Any], Any]) -> Planting:
    """The net sees another image."""
    return _forward(Conv2d, lambda conv, x: _convolve(conv, change(x), conv.weight), named("conv1"))


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
    return _operate(cross_entropy=lambda logits, labels, **_: change(logits, labels))


def _operate(**others: Any) -> Planting:
    """Where the net at work calls one of MindSpore's operations, call another."""
    other = SimpleNamespace(**{**vars(ops), **others})
    return lambda patch: patch.setattr(network, "ops", other)


def _mean_with_gradient_of_sum(logits: Any, labels: Any) -> Any:
    total = ops.cross_entropy(logits, labels, reduction="sum")
    return total - ops.stop_gradient(total - total / len(labels))


def _forget_to_clear(patch: Patch) -> None:
    patch.setattr(network, "_forgetting", lambda gradients: lambda: None)


def _move(p: Any, g: Any, lr: Any) -> Any:
    return p - lr * g


def _step(move: Callable[[Any, Any, Any], Any] = _move, rule: Rule = keep) -> Planting:
    """Another step: `move(p, g, lr)` gives the next parameter, where g is what the `rule` has made of the gradient."""

    def sgd_step(weights: Any, gradients: Any, velocities: Any) -> Any:
        forget = network._forgetting(gradients)

        def step(lr: Any, momentum: Any) -> None:
            for index, (weight, held) in enumerate(zip(weights, gradients, strict=True)):
                gradient = held + 0.0  # the parameter itself is set to 0 below
                if velocities:
                    before = velocities[index] if velocities[index].asnumpy().any() else None
                    gradient, velocity = rule(before, gradient, lr, momentum)
                    ops.assign(velocities[index], velocity)
                ops.assign(weight, move(weight, gradient, lr))
            forget()

        return step

    return lambda patch: patch.setattr(network, "_sgd_step", sgd_step)


def _velocity(rule: Rule) -> Planting:
    """Another definition."""
    return _step(rule=rule)


PLANTINGS: dict[str, Planting] = {
    **ADAPTER.plantings(),
    **{name: _velocity(rule) for name, rule in VELOCITIES.items()},
    "convolution made without bias": _forget(Conv2d, "has_bias"),
    "linear made without bias": _change(Linear, "has_bias", lambda _: False),
    "linear's bias left at its default": _forget(Linear, "has_bias"),
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
        Conv2d, lambda conv, x: _convolve(conv, x, conv.weight.swapaxes(0, 1)), has_square_weight
    ),
    "linear with (in, out)": _forward(
        Linear, lambda linear, x: ops.dense(x, linear.weight.swapaxes(0, 1), _bias(linear)), has_square_weight
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
    "global pool takes the maximum": _forward(GlobalAvgPool2d, lambda _, x: ops.amax(x, (2, 3), True)),
    "global pool takes the sum": _forward(GlobalAvgPool2d, lambda _, x: ops.sum(x, (2, 3), True)),
    "width before height in flatten": _forward(Flatten, lambda _, x: ops.flatten(x.swapaxes(2, 3))),
    "channels last in flatten": _forward(Flatten, lambda _, x: ops.flatten(ops.transpose(x, (0, 2, 3, 1)))),
    "ReLU left out": _forward(ReLU, lambda _, x: x),
    "ReLU left out at a block's end": _forward(ReLU, lambda _, x: x, named("block1.relu2")),
    "ReLU at the end of each block": _forward(
        Conv2d, lambda conv, x: ops.relu(_convolve(conv, x, conv.weight)), named("block2.mlp1")
    ),
    "ReLU on the logits": _forward(
        Linear, lambda linear, x: ops.relu(ops.dense(x, linear.weight, _bias(linear))), named("linear2")
    ),
    "leaky ReLU": _forward(ReLU, lambda _, x: ops.leaky_relu(x)),
    "sigmoid for ReLU": _forward(ReLU, lambda _, x: ops.sigmoid(x)),
    "dropout at work in evaluation": _set_always(True),
    "dropout scales in evaluation": _forward(Dropout, _drop_scaling_later),
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
    "gradients not cleared": _forget_to_clear,
    "only the last piece's gradient counts": _operate(assign_add=ops.assign),
    "learning rate ignored": _step(lambda p, g, lr: p - 0.01 * g),
    "Adam for SGD": _step(lambda p, g, lr: p - lr * g / (g.abs() + 1e-8)),
    "gradient ascent": _step(lambda p, g, lr: p + lr * g),
    "weight decay left on": _step(lambda p, g, lr: p - lr * (g + 1e-2 * p)),
    "a layer left out of the step": _step(lambda p, g, lr: p if "block1.conv." in p.name else _move(p, g, lr)),
}
