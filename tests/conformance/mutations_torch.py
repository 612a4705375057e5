"""The mistakes of `mutations.MUTATIONS`, planted in the PyTorch adapter; what has to be said of them stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from nin_multi.spec import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU
from nin_torch import layers, network
from nin_torch.network import TorchNetwork

Patch = pytest.MonkeyPatch
Planting = Callable[[Patch], None]
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


def _call(patch: Patch, kind: type, make: Callable[..., Any]) -> None:
    """Where the adapter calls the framework's class for a kind of layer, call `make(class, ...)`."""
    name = CLASSES[kind]
    names = {key: getattr(nn, key) for key in dir(nn)} | vars(layers.nn)
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
                made.forward = partial(compute, made)
            return made

        patch.setattr(layers, "compile_layer", compile_other)

    return plant


def _image(change: Callable[[Any], Any]) -> Planting:
    """The net sees another image."""
    return _forward(Conv2d, lambda conv, x: conv._conv_forward(change(x), conv.weight, conv.bias), _named("conv1"))


def _named(name: str) -> Callable[[Any], bool]:
    return lambda traced: traced.name == name


def _has_square_weight(traced: Any) -> bool:
    return traced.input[1] == traced.output[1]


def _convolve_same(conv: Any, x: Any) -> Any:
    """As a net comes over from Keras: as much padding as keeps the size, the odd one below and to the right."""
    around: list[int] = []
    for size, kernel, stride in zip(x.shape[:1:-1], conv.kernel_size[::-1], conv.stride[::-1], strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        around += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, around), conv.weight, conv.bias, conv.stride)


def _average_all(pool: Any, x: Any) -> Any:
    """Round up, and divide by the whole window."""
    down, right = pool.traced.layer.overhang(tuple(x.shape))
    (ph, pw) = pool.padding
    return F.avg_pool2d(F.pad(x, (pw, pw + right, ph, ph + down)), pool.kernel_size, pool.stride)


def _skip(name: str) -> Planting:
    """The layer is not made at all."""
    sequential = layers._sequential
    return lambda patch: patch.setattr(
        layers, "_sequential", lambda traced: sequential(tuple(part for part in traced if part.name != name))
    )


def _load(change: Callable[[Any, Any], Any]) -> Planting:
    """Put other parameters into the net: `change(network, params)`."""
    restore = TorchNetwork.restore
    return lambda patch: patch.setattr(
        TorchNetwork, "restore", lambda net, params, velocities: restore(net, change(net, dict(params)), velocities)
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
    params = TorchNetwork.params
    _load(_exchange)(patch)
    patch.setattr(TorchNetwork, "params", lambda net: _exchange(net, params(net)))


def _masks(change: Callable[[Any, Any], Any]) -> Planting:
    """Train with other masks: `change(network, masks)`."""

    def plant(patch: Patch) -> None:
        differentiate = TorchNetwork._differentiate

        def differentiate_otherwise(net: Any, x: Any, y: Any, masks: Any) -> Any:
            return differentiate(net, x, y, masks if masks is None else change(net, masks))

        patch.setattr(TorchNetwork, "_differentiate", differentiate_otherwise)

    return plant


def _invert(net: Any, masks: Any) -> Any:
    rates = {name: rate for name, (rate, _) in net.architecture.dropouts().items()}
    return {name: (mask == 0).astype(np.float32) / np.float32(rates[name]) for name, mask in masks.items()}


def _keep_first(net: Any, masks: Any) -> Any:
    net.first_masks = getattr(net, "first_masks", masks)
    return net.first_masks


def _drop_alike(dropout: Any, x: Any) -> Any:
    torch.manual_seed(0)
    return F.dropout(x, dropout.p, dropout.training)


def _drop_unscaled(dropout: Any, x: Any) -> Any:
    return x * (torch.rand_like(x) >= dropout.p) if dropout.training else x


def _evaluate_in_training_mode(patch: Patch) -> None:
    patch.setattr(nn.Module, "eval", lambda module: module.train(True))


def _forget_eval(patch: Patch) -> None:
    """`logits` relies on the mode in which it finds the net."""
    patch.setattr(TorchNetwork, "logits", lambda net, x: network._array(net._evaluate(net.module, net._tensor(x))))


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


def _step_when_asked_for_gradients(patch: Patch) -> None:
    ask = TorchNetwork.loss_and_gradients

    def ask_and_step(net: Any, x: Any, y: Any, masks: Any) -> Any:
        answer = ask(net, x, y, masks)
        net.train_step(x, y, masks, 0.1)
        return answer

    patch.setattr(TorchNetwork, "loss_and_gradients", ask_and_step)


def _divide_step(patch: Patch) -> None:
    step = TorchNetwork.train_step
    patch.setattr(
        TorchNetwork, "train_step", lambda net, x, y, masks, lr, m=0.0: step(net, x, y, masks, lr / len(y), m)
    )


def _optimize(step: Callable[[Any, Any], None] | None = None, **fields: Any) -> Planting:
    """Before each step: other `fields` in the optimizer's group; `step(optimizer, group)` for the whole of it."""

    class Other(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group.update(fields)
                if step is not None:
                    step(self, group)
            return super().step(closure) if step is None or fields else None

    return lambda patch: patch.setattr(torch.optim, "SGD", Other)


def _keep_first_rate(patch: Patch) -> None:
    class Other(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.first = getattr(self, "first", self.param_groups[0]["lr"])
            self.param_groups[0]["lr"] = self.first
            return super().step(closure)

    patch.setattr(torch.optim, "SGD", Other)


def _forget_a_layer(patch: Patch) -> None:
    class Other(torch.optim.SGD):
        def __init__(self, params: Any, **given: Any) -> None:
            some = list(params)
            super().__init__(some[:2] + some[4:], **given)

    patch.setattr(torch.optim, "SGD", Other)


def _velocity(rule: Callable[..., tuple[Any, Any]]) -> Planting:
    """Another definition: `rule(p, v, g, lr, momentum)` gives the next parameter and velocity."""

    @torch.no_grad()
    def step(optimizer: Any, group: Any) -> None:
        for p in group["params"]:
            before = optimizer.state[p].get("momentum_buffer", torch.zeros_like(p))
            moved, velocity = rule(p, before, p.grad, group["lr"], group["momentum"])
            p.copy_(moved)
            optimizer.state[p]["momentum_buffer"] = velocity

    return _optimize(step)


def _rate_inside(p: Any, v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    v = m * v - lr * g
    return p + v, v


def _mean(p: Any, v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    v = m * v + (1 - m) * g
    return p - lr * v, v


PLANTINGS: dict[str, Planting] = {
    "convolution made without bias": _change(Conv2d, "bias", lambda _: False),
    "linear made without bias": _change(Linear, "bias", lambda _: False),
    "linear's bias left at its default": _forget(Linear, "bias"),
    "biases never loaded": _keep_own(".bias"),
    "weights never loaded": _keep_own(".weight"),
    "weights loaded as (in, out)": _load(_turn_square),
    "equal layers exchanged when loaded": _load(_exchange),
    "equal layers exchanged": _exchange_both_ways,
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
        Conv2d, lambda conv, x: conv._conv_forward(x, conv.weight.transpose(0, 1), conv.bias), _has_square_weight
    ),
    "linear with (in, out)": _forward(
        Linear, lambda linear, x: F.linear(x, linear.weight.T, linear.bias), _has_square_weight
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
    "global pool not made": _skip("global_avg_pool1"),
    "global pool takes the maximum": _forward(GlobalAvgPool2d, lambda _, x: F.adaptive_max_pool2d(x, (1, 1))),
    "global pool takes the sum": _forward(GlobalAvgPool2d, lambda _, x: x.sum((2, 3), keepdim=True)),
    "width before height in flatten": _forward(Flatten, lambda _, x: x.transpose(2, 3).flatten(1)),
    "channels last in flatten": _forward(Flatten, lambda _, x: x.permute(0, 2, 3, 1).flatten(1)),
    "ReLU left out": _forward(ReLU, lambda _, x: x),
    "ReLU left out at a block's end": _forward(ReLU, lambda _, x: x, _named("block1.relu2")),
    "ReLU not made at a block's end": _skip("block1.relu2"),
    "ReLU at the end of each block": _forward(
        Conv2d, lambda conv, x: F.relu(conv._conv_forward(x, conv.weight, conv.bias)), _named("block2.mlp1")
    ),
    "ReLU on the logits": _forward(
        Linear, lambda linear, x: F.relu(F.linear(x, linear.weight, linear.bias)), _named("linear2")
    ),
    "leaky ReLU": _forward(ReLU, lambda _, x: F.leaky_relu(x)),
    "sigmoid for ReLU": _forward(ReLU, lambda _, x: torch.sigmoid(x)),
    "dropout at work in evaluation": _evaluate_in_training_mode,
    "dropout scales in evaluation": _forward(Dropout, lambda drop, x: x if drop.training else x * (1 - drop.p)),
    "mask not applied": _masks(lambda _, masks: {name: np.ones_like(mask) for name, mask in masks.items()}),
    "mask inverted": _masks(_invert),
    "kept values not scaled": _masks(lambda _, masks: {k: (m > 0).astype(np.float32) for k, m in masks.items()}),
    "own draws for the masks given": _masks(lambda *_: None),
    "first masks kept for ever": _masks(_keep_first),
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
    "gradients asked for, step taken": _step_when_asked_for_gradients,
    "step divided by the batch again": _divide_step,
    "learning rate ignored": _optimize(lr=0.01),
    "Adam for SGD": _velocity(lambda p, v, g, lr, m: (p - lr * g / (g.abs() + 1e-8), v)),
    "gradient ascent": _optimize(maximize=True),
    "weight decay left on": _optimize(weight_decay=1e-2),
    "a layer left out of the step": _forget_a_layer,
    "first learning rate kept for ever": _keep_first_rate,
    "momentum not applied": _optimize(momentum=0.0),
    "learning rate inside the velocity": _velocity(_rate_inside),
    "Nesterov's momentum": _optimize(nesterov=True),
    "momentum with dampening": _optimize(dampening=0.9),
    "velocity as a mean": _velocity(_mean),
}
