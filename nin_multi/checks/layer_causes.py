"""What would explain a parameter or a layer's output that is not as expected; units and training stand elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Params
from nin_multi.checks.explanations import MATCH, Hypothesis, choose, distance
from nin_multi.checks.unit_causes import of_unit
from nin_multi.oracle import Array, apply_layer
from nin_multi.spec import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Pool2d,
    ReLU,
    TracedLayer,
)


def of_missing(name: str) -> tuple[str, ...]:
    """Why a parameter of the spec is not in the net."""
    return ("the layer is made without its bias",) if name.endswith(".bias") else ()


def of_unexpected(name: str, params: Params) -> tuple[str, ...]:
    """Why the net has a parameter that the spec has not."""
    layer, _, kind = name.rpartition(".")
    is_added = kind == "bias" and name not in params and f"{layer}.weight" in params
    return ("the layer is made with a bias, which the spec does not give it",) if is_added else ()


def of_parameter(name: str, held: NDArray[Any], params: Params) -> tuple[str, ...]:
    """Why a parameter does not come out as it went in."""
    given = params[name]
    if not np.any(held):
        return ("it was never put into the net: it is all zeros",)
    swaps = {2: [(0, 1)], 4: [(0, 1), (2, 3)]}.get(given.ndim, [])
    if any(np.array_equal(held, given.swapaxes(*pair)) for pair in swaps):
        return ("its axes are swapped",)
    for other, value in params.items():
        if other != name and np.array_equal(held, value):
            return (f"it holds what belongs to {other}",)
    if held.shape == given.shape and not np.any(held == given):
        return ("it was never put into the net: none of its numbers is the one given",)
    return ()


def of_layer(traced: TracedLayer, x: NDArray[Any], observed: NDArray[Any], params: Params) -> Iterator[str]:
    """What would turn this layer's right input into the observed output."""
    seen, exact = np.asarray(observed, np.float64), np.asarray(x, np.float64)
    if isinstance(traced.layer, Dropout):
        yield from _of_dropout(traced.layer, exact, seen)
        return
    held = {name: np.asarray(params[name], np.float64) for name in traced.parameters}
    right = apply_layer(traced, exact, held, {})[0]
    yield from choose(seen, right, _hypotheses(traced, exact, seen, params), MATCH)


def _hypotheses(traced: TracedLayer, x: Array, seen: Array, params: Params) -> Iterator[Hypothesis]:
    """All that are known for a type of layer; the likelier come first."""
    held = {name: np.asarray(params[name], np.float64) for name in traced.parameters}

    def apply(x: Array = x, held: Mapping[str, Array] = held, **changes: Any) -> Array:
        layer = traced.layer.model_copy(update=changes)
        return apply_layer(replace(traced, layer=layer, input=x.shape), x, held, {})[0]

    match traced.layer:
        case Conv2d():
            yield from _of_conv2d(traced.layer, x, held, apply)
            yield from _of_both(traced, x, seen, params, apply)
        case Linear():
            yield from _of_linear(held, apply)
            yield from _of_both(traced, x, seen, params, apply)
        case ReLU():
            yield from _of_relu(x, seen)
        case Pool2d():
            yield from _of_pool2d(traced.layer, x, apply)
        case GlobalAvgPool2d():
            yield "the global pool takes the largest value, not the mean", lambda: x.max((2, 3), keepdims=True)
            yield "the global pool takes the sum, not the mean", lambda: x.sum((2, 3), keepdims=True)
        case Flatten():
            yield "axes are swapped before the flatten: channels come last", lambda: _flat(x.transpose(0, 2, 3, 1))
            yield "axes are swapped before the flatten: width before height", lambda: _flat(x.transpose(0, 1, 3, 2))
        case _:
            yield from of_unit(traced, x, held, apply)


def _of_relu(x: Array, seen: Array) -> Iterator[Hypothesis]:
    yield "the ReLU is left out", lambda: x
    yield "a sigmoid stands in place of the ReLU", lambda: 1 / (1 + np.exp(-x))
    yield "a tanh stands in place of the ReLU", lambda: np.tanh(x)
    below = np.minimum(x, 0.0)
    slope = float(np.vdot(seen, below) / (np.vdot(below, below) or 1.0)) if seen.shape == x.shape else 0.0
    if 1e-4 < slope < 0.999:
        yield f"the ReLU lets {slope:.3g} of negative values through", lambda: np.where(x > 0, x, slope * x)


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1)


def _of_conv2d(layer: Conv2d, x: Array, held: Mapping[str, Array], apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    weight_name = next(name for name in held if name.endswith(".weight"))
    weight, padding, stride = held[weight_name], layer.padding, layer.stride

    def with_weight(other: Array, **changes: Any) -> Array:
        return apply(held={**held, weight_name: np.ascontiguousarray(other)}, **changes)

    if layer.bias:
        yield "its bias is left out", lambda: apply(held=_without_bias(held))
    yield "its padding is 'same': as much as keeps the size", lambda: apply(x=_same(layer, x, 0.0), padding=(0, 0))
    if padding != (0, 0):
        yield "its padding is left out", lambda: apply(padding=(0, 0))
    if stride != (1, 1):
        yield "its stride is left at 1", lambda: apply(stride=(1, 1))
    turned = weight.transpose(0, 1, 3, 2)
    pairs = {"stride": stride[::-1], "padding": padding[::-1]}
    yield (
        "its kernel's axes are swapped: width before height",
        lambda: with_weight(turned, kernel_size=layer.kernel_size[::-1]),
    )
    if stride[0] != stride[1] or padding[0] != padding[1]:
        yield (
            "its kernel's, stride's and padding's axes are swapped: width before height",
            lambda: with_weight(turned, kernel_size=layer.kernel_size[::-1], **pairs),
        )
        yield "its stride and padding are swapped: width before height", lambda: apply(**pairs)
    yield "the image's axes are swapped: width before height", lambda: apply(x=x.transpose(0, 1, 3, 2))
    yield "the image's channels come in the opposite order", lambda: apply(x=x[:, ::-1])
    if weight.shape[0] == weight.shape[1]:
        yield "its weight's axes are swapped: (in, out, kh, kw)", lambda: with_weight(weight.transpose(1, 0, 2, 3))
    yield "its kernel is turned around: a true convolution", lambda: with_weight(weight[:, :, ::-1, ::-1])


def _of_linear(held: Mapping[str, Array], apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    weight_name = next(name for name in held if name.endswith(".weight"))
    weight = held[weight_name]
    if len(held) > 1:
        yield "its bias is left out", lambda: apply(held=_without_bias(held))
    if weight.shape[0] == weight.shape[1]:
        yield "its weight's axes are swapped: (in, out)", lambda: apply(held={**held, weight_name: weight.T})


def _of_both(
    traced: TracedLayer, x: Array, seen: Array, params: Params, apply: Callable[..., Array]
) -> Iterator[Hypothesis]:
    """What may happen to a convolution and to a linear layer."""
    yield "an activation is part of it: a ReLU", lambda: np.maximum(apply(), 0.0)
    for bits, formats in ((11, "TF32 and float16"), (8, "bfloat16")):
        held = {name: np.asarray(params[name], np.float64) for name in traced.parameters}
        rounded = {name: _round(value, bits) if name.endswith(".weight") else value for name, value in held.items()}
        cause = f"its factors are rounded to {bits} bits, as {formats} have them"
        yield cause, partial(apply, x=_round(x, bits), held=rounded)
    for name, others in _of_equal_shape(traced, params):
        yield f"it works with the parameters of {name}", partial(apply, held=others)
    right, constant = apply(), apply(x=np.zeros_like(x))
    if seen.shape == right.shape:
        linear = right - constant
        factor = float(np.vdot(seen - constant, linear) / (np.vdot(linear, linear) or 1.0))
        yield f"its input is multiplied by {factor:.4g}", lambda: factor * linear + constant


def _round(x: Array, bits: int) -> Array:
    """To the nearest number with so many bits of its own, the first one included."""
    mantissa, exponent = np.frexp(x)
    result: Array = np.ldexp(np.rint(mantissa * 2.0**bits) / 2.0**bits, exponent)
    return result


def _of_equal_shape(traced: TracedLayer, params: Params) -> Iterator[tuple[str, dict[str, Array]]]:
    """Other layers whose parameters could stand here, and those, by this layer's names."""
    mine = {name.rpartition(".")[2]: shape for name, shape in traced.parameters.items()}
    for other in dict.fromkeys(name.rpartition(".")[0] for name in params):
        theirs = {key: params.get(f"{other}.{key}") for key in mine}
        if other != traced.name and all(a is not None and a.shape == mine[key] for key, a in theirs.items()):
            yield other, {f"{traced.name}.{key}": np.asarray(value, np.float64) for key, value in theirs.items()}


def _without_bias(held: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value if name.endswith(".weight") else np.zeros_like(value) for name, value in held.items()}


def _of_pool2d(layer: Pool2d, x: Array, apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    rounding = "down (floor)" if layer.ceil_mode else "up (ceil)"
    yield f"its output size is rounded {rounding}", lambda: apply(ceil_mode=not layer.ceil_mode)
    same = "its padding is 'same': as much as keeps the size"
    if isinstance(layer, MaxPool2d):
        yield same, lambda: apply(x=_same(layer, x, -np.inf), padding=(0, 0), ceil_mode=False)
        yield "it takes the mean, not the largest value", lambda: _other_pool(AvgPool2d, layer, x)
    else:
        if layer.padding != (0, 0):
            yield "its padding does not count in the mean", lambda: _average(layer, x, same=False)
        yield same, lambda: _average(layer, x, same=True)
        past = "what it reads past the padding counts in the mean"
        yield past if layer.ceil_mode else f"its output size is rounded up (ceil), and {past}", lambda: _past(layer, x)
        yield "it takes the largest value, not the mean", lambda: _other_pool(MaxPool2d, layer, x)
    if layer.stride != layer.kernel_size:
        yield "its stride is left at the kernel's size", lambda: apply(stride=layer.kernel_size)
    if layer.stride != (1, 1):
        yield "its stride is left at 1", lambda: apply(stride=(1, 1))
    if layer.padding != (0, 0):
        yield "its padding is left out", lambda: apply(padding=(0, 0))
    swapped = {
        "kernel_size": layer.kernel_size[::-1],
        "stride": layer.stride[::-1],
        "padding": layer.padding[::-1],
    }
    if any(pair[0] != pair[1] for pair in swapped.values()):
        yield "its axes are swapped: width before height", lambda: apply(**swapped)


def _other_pool(kind: type[Pool2d], layer: Pool2d, x: Array) -> Array:
    other: Any = kind(**layer.model_dump(exclude={"type"}))
    return apply_layer(TracedLayer(layer.name, other, x.shape, (), {}, 0), x, {}, {})[0]


def _average(layer: Pool2d, x: Array, *, same: bool) -> Array:
    """Means over what lies on the image alone; with the layer's own padding, or with "same"."""
    return _floor_mean(layer, _around(layer, x, same=same)) / _floor_mean(
        layer, _around(layer, np.ones_like(x), same=same)
    )


def _past(layer: Pool2d, x: Array) -> Array:
    """Means over whole windows, rounding up: what ceil mode reads past the padding counts as zeros."""
    up = layer.model_copy(update={"ceil_mode": True})
    return _floor_mean(layer, _around(up, x, same=False))


def _floor_mean(layer: Pool2d, x: Array) -> Array:
    plain: Any = AvgPool2d(kernel_size=layer.kernel_size, stride=layer.stride)
    return apply_layer(TracedLayer(layer.name, plain, x.shape, (), {}, 0), x, {}, {})[0]


def _around(layer: Pool2d, x: Array, *, same: bool) -> Array:
    """With zeros all around, as far as the layer's windows reach."""
    if same:
        return _same(layer, x, 0.0)
    (ph, pw), (down, right) = layer.padding, layer.overhang(x.shape)
    return np.pad(x, ((0, 0), (0, 0), (ph, ph + down), (pw, pw + right)))


def _same(layer: Conv2d | Pool2d, x: Array, fill: float) -> Array:
    """Padded so that the output has ceil(size / stride) rows and columns, the odd one below and to the right."""
    widths = [(0, 0), (0, 0)]
    for size, kernel, stride in zip(x.shape[2:], layer.kernel_size, layer.stride, strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        widths.append((total // 2, total - total // 2))
    return np.pad(x, widths, constant_values=fill)


def _of_dropout(layer: Dropout, x: Array, observed: Array) -> Iterator[str]:
    """Dropout in evaluation has to pass everything on."""
    if observed.shape != x.shape or not layer.rate:
        return
    kept, some_is_dropped = observed != 0, bool(np.any((observed == 0) & (x != 0)))
    if some_is_dropped and np.allclose(observed[kept], x[kept] / (1 - layer.rate), rtol=MATCH):
        yield "dropout is at work in evaluation: a mode switch is missing"
    elif some_is_dropped and np.allclose(observed[kept], x[kept] / layer.rate, rtol=MATCH):
        yield "dropout is at work in evaluation, and its rate is taken for the share that is kept"
    elif distance(observed, x * (1 - layer.rate)) < MATCH:
        yield "values are scaled by 1 - rate in evaluation: they must be scaled in training"
