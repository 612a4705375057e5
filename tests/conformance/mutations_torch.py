"""The mistakes of `mutations.MUTATIONS`, planted in the PyTorch adapter; what has to be said of them stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from mutations_alike import (
    VELOCITIES,
    Adapter,
    Patch,
    Planting,
    Rule,
    has_square_weight,
    named,
    same_padding,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812  (its usual name)
from torch.optim.sgd import sgd

from nin_multi.knobs import Tuning
from nin_multi.spec import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU
from nin_torch import layers, network
from nin_torch.network import TorchNetwork

TUNING: Tuning = {}
CLASSES = {
    Conv2d: "Conv2d",
    Linear: "Linear",
    MaxPool2d: "MaxPool2d",
    AvgPool2d: "AvgPool2d",
    Dropout: "Dropout",
    ReLU: "ReLU",
}


@contextmanager
def surroundings() -> Iterator[None]:
    """One thread: these tensors are smaller than what it takes to share them out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


ADAPTER = Adapter(layers, network, TorchNetwork, nn, CLASSES, "forward")
_forget, _change, _forward = ADAPTER.forget, ADAPTER.change, ADAPTER.compute


def _image(change: Callable[[Any], Any]) -> Planting:
    """The net sees another image."""
    return _forward(Conv2d, lambda conv, x: conv._conv_forward(change(x), conv.weight, conv.bias), named("conv1"))


def _convolve_same(conv: Any, x: Any) -> Any:
    above, below, left, right = same_padding(conv.traced.layer, *x.shape[2:])
    return F.conv2d(F.pad(x, (left, right, above, below)), conv.weight, conv.bias, conv.stride)


def _average_all(pool: Any, x: Any) -> Any:
    """Round up, and divide by the whole window."""
    down, right = pool.traced.layer.overhang(tuple(x.shape))
    (ph, pw) = pool.padding
    return F.avg_pool2d(F.pad(x, (pw, pw + right, ph, ph + down)), pool.kernel_size, pool.stride)


def _drop_alike(dropout: Any, x: Any) -> Any:
    torch.manual_seed(0)
    return F.dropout(x, dropout.p, dropout.training)


def _drop_unscaled(dropout: Any, x: Any) -> Any:
    return x * (torch.rand_like(x) >= dropout.p) if dropout.training else x


def _evaluate_in_training_mode(patch: Patch) -> None:
    patch.setattr(nn.Module, "eval", lambda module: module.train(True))


def _forget_eval(patch: Patch) -> None:
    """`logits` relies on the mode in which it finds the net."""
    patch.setattr(TorchNetwork, "logits", lambda net, x: network._array(net._evaluate(net.module, net.batch_tensor(x))))


def _forget_train(patch: Patch) -> None:
    train = nn.Module.train
    patch.setattr(nn.Module, "train", lambda module, mode=True: train(module, False))


def _loss(change: Callable[[Any, Any], Any]) -> Planting:
    """`change(logits, labels)` for the loss."""
    return lambda patch: patch.setattr(
        network, "F", SimpleNamespace(cross_entropy=lambda logits, labels, **_: change(logits, labels))
    )


def _mean_with_gradient_of_sum(logits: Any, labels: Any) -> Any:
    total = F.cross_entropy(logits, labels, reduction="sum")
    return total - (total - total / len(labels)).detach()


def _forget_to_clear(patch: Patch) -> None:
    patch.setattr(nn.Module, "zero_grad", lambda module, set_to_none=True: None)


def _clear_before_each_piece(summing: Any, net: Any, is_last: bool) -> Any:
    net.module.zero_grad(set_to_none=True)
    return summing(net, is_last)


def _descend(**settings: Any) -> Planting:
    """Other settings for each step."""

    def other(*lists: Any, **given: Any) -> None:
        sgd(*lists, **{**given, **settings})

    return lambda patch: patch.setattr(network, "sgd", other)


def _forget_a_layer(patch: Patch) -> None:
    def other(weights: Any, gradients: Any, velocities: Any, **given: Any) -> None:
        moved = velocities[:2] + velocities[4:]
        sgd(weights[:2] + weights[4:], gradients[:2] + gradients[4:], moved, **given)
        velocities[:] = [*moved[:2], *velocities[2:4], *moved[2:]]

    patch.setattr(network, "sgd", other)


def _velocity(rule: Rule) -> Planting:
    """Another definition."""

    def other(weights: Any, gradients: Any, velocities: Any, *, lr: float, momentum: float, **_: Any) -> None:
        for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            move, velocities[index] = rule(velocities[index], gradient.clone(), lr, momentum)
            weight.sub_(lr * move)

    return lambda patch: patch.setattr(network, "sgd", other)


PLANTINGS: dict[str, Planting] = {
    **ADAPTER.plantings(),
    **{name: _velocity(rule) for name, rule in VELOCITIES.items()},
    "convolution made without bias": _change(Conv2d, "bias", lambda _: False),
    "linear made without bias": _change(Linear, "bias", lambda _: False),
    "linear's bias left at its default": _forget(Linear, "bias"),
    "bias not added": _forward(Conv2d, lambda conv, x: conv._conv_forward(x, conv.weight, None)),
    "padding 'same'": _forward(Conv2d, _convolve_same),
    "padding left out": _forget(Conv2d, "padding"),
    "stride left at its default": _forget(Conv2d, "stride"),
    "stride and padding swapped": _forward(
        Conv2d, lambda conv, x: F.conv2d(x, conv.weight, conv.bias, conv.stride[::-1], conv.padding[::-1])
    ),
    "height and width swapped in the kernel": _forward(
        Conv2d, lambda conv, x: conv._conv_forward(x, conv.weight.transpose(2, 3), conv.bias)
    ),
    "height and width swapped in the image": _image(lambda x: x.transpose(2, 3)),
    "colours in the opposite order": _image(lambda x: x.flip(1)),
    "pixels divided by 255 again": _image(lambda x: x / 255),
    "kernel turned around": _forward(Conv2d, lambda conv, x: conv._conv_forward(x, conv.weight.flip(2, 3), conv.bias)),
    "factors rounded to half precision": _forward(
        Conv2d, lambda conv, x: conv._conv_forward(x.half().float(), conv.weight.half().float(), conv.bias)
    ),
    "convolution with (in, out)": _forward(
        Conv2d, lambda conv, x: conv._conv_forward(x, conv.weight.transpose(0, 1), conv.bias), has_square_weight
    ),
    "linear with (in, out)": _forward(
        Linear, lambda linear, x: F.linear(x, linear.weight.T, linear.bias), has_square_weight
    ),
    "pool's stride left at its default": _forget(MaxPool2d, "stride"),
    "pool's padding left out": _forget(MaxPool2d, "padding"),
    "pool's axes swapped": _forward(
        MaxPool2d, lambda pool, x: F.max_pool2d(x, pool.kernel_size[::-1], pool.stride[::-1], pool.padding[::-1])
    ),
    "pool rounds up for down": _change(MaxPool2d, "ceil_mode", lambda _: True),
    "pool rounds down for up": _forget(AvgPool2d, "ceil_mode"),
    "padding left out of the mean": _change(AvgPool2d, "count_include_pad", lambda _: False),
    "more than padding in the mean": _forward(AvgPool2d, _average_all),
    "mean for maximum": _forward(
        MaxPool2d, lambda pool, x: F.avg_pool2d(x, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
    ),
    "maximum for mean": _forward(
        AvgPool2d, lambda pool, x: F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, 1, pool.ceil_mode)
    ),
    "global pool takes the maximum": _forward(GlobalAvgPool2d, lambda _, x: F.adaptive_max_pool2d(x, (1, 1))),
    "global pool takes the sum": _forward(GlobalAvgPool2d, lambda _, x: x.sum((2, 3), keepdim=True)),
    "width before height in flatten": _forward(Flatten, lambda _, x: x.transpose(2, 3).flatten(1)),
    "channels last in flatten": _forward(Flatten, lambda _, x: x.permute(0, 2, 3, 1).flatten(1)),
    "ReLU left out": _forward(ReLU, lambda _, x: x),
    "ReLU left out at a block's end": _forward(ReLU, lambda _, x: x, named("block1.relu2")),
    "ReLU at the end of each block": _forward(
        Conv2d, lambda conv, x: F.relu(conv._conv_forward(x, conv.weight, conv.bias)), named("block2.mlp1")
    ),
    "ReLU on the logits": _forward(
        Linear, lambda linear, x: F.relu(F.linear(x, linear.weight, linear.bias)), named("linear2")
    ),
    "leaky ReLU": _forward(ReLU, lambda _, x: F.leaky_relu(x)),
    "sigmoid for ReLU": _forward(ReLU, lambda _, x: torch.sigmoid(x)),
    "dropout at work in evaluation": _evaluate_in_training_mode,
    "dropout scales in evaluation": _forward(Dropout, lambda drop, x: x if drop.training else x * (1 - drop.p)),
    "not set back to evaluation": _forget_eval,
    "rate taken for the share kept": _change(Dropout, "p", lambda rate: 1 - rate),
    "own dropout idle in training": _forget_train,
    "own dropout does not scale": _forward(Dropout, _drop_unscaled),
    "own dropout draws the same again": _forward(Dropout, _drop_alike),
    "loss summed": _loss(partial(F.cross_entropy, reduction="sum")),
    "loss averaged twice": _loss(lambda logits, labels: F.cross_entropy(logits, labels) / len(labels)),
    "labels smoothed": _loss(partial(F.cross_entropy, label_smoothing=0.1)),
    "softmax before the loss": _loss(lambda logits, labels: F.cross_entropy(logits.softmax(1), labels)),
    "gradient of the sum": _loss(_mean_with_gradient_of_sum),
    "gradients not cleared": _forget_to_clear,
    "only the last piece's gradient counts": ADAPTER.around("_summing", _clear_before_each_piece),
    "learning rate ignored": _descend(lr=0.01),
    "Adam for SGD": _velocity(lambda v, g, lr, m: (g / (g.abs() + 1e-8), g)),
    "gradient ascent": _descend(maximize=True),
    "weight decay left on": _descend(weight_decay=1e-2),
    "a layer left out of the step": _forget_a_layer,
    "momentum not applied": _descend(momentum=0.0),
    "Nesterov's momentum": _descend(nesterov=True),
    "momentum with dampening": _descend(dampening=0.9),
}
