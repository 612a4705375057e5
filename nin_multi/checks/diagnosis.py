"""Which known default would explain a difference; whether there is one is found in `values`.

Frameworks differ in what they do when nothing is said: bias, padding, rounding of pools, what a dropout rate means,
sums or means, the order of axes, and whether a net knows that it is evaluated. Each is tried here on the oracle's
own numbers; one is named only if it gives what was observed, shape and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Masks, Params
from nin_multi.checks.problem import Problem
from nin_multi.checks.truth import MOMENTUM, MOMENTUM_RATES, STEP_RATE
from nin_multi.oracle import Array, NumpyNetwork, apply_layer, cross_entropy
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

MATCH = 1e-3  # of an explanation with what was observed; two explanations differ by far more
MATCH_MOVE = 1e-2  # a step is a small difference of rounded parameters

Named = Mapping[str, NDArray[Any]]
Hypothesis = tuple[str, Callable[[], Array]]  # what would explain it, and what it would give


def of_missing(name: str) -> tuple[str, ...]:
    """Why a parameter of the spec is not in the net."""
    return ("the layer is made without its bias",) if name.endswith(".bias") else ()


def of_parameter(held: NDArray[Any], given: NDArray[Any]) -> tuple[str, ...]:
    """Why a parameter does not come out as it went in."""
    if not np.any(held):
        return ("it was never put into the net: it is all zeros",)
    swaps = {2: [(0, 1)], 4: [(0, 1), (2, 3)]}.get(given.ndim, [])
    if any(np.array_equal(held, given.swapaxes(*pair)) for pair in swaps):
        return ("its axes are swapped",)
    return ()


def of_layer(traced: TracedLayer, x: NDArray[Any], observed: NDArray[Any], params: Params) -> Iterator[str]:
    """What would turn this layer's right input into the observed output."""
    seen = np.asarray(observed, np.float64)
    if isinstance(traced.layer, Dropout):
        yield from _of_dropout(traced.layer, x, seen)
    for cause, compute in _hypotheses(traced, np.asarray(x, np.float64), params):
        try:
            if _matches(seen, compute()):
                yield cause
        except ValueError:  # the hypothesis does not fit this input
            continue


def _matches(observed: Array, expected: Array, within: float = MATCH) -> bool:
    if observed.shape != expected.shape:
        return False
    return bool(np.linalg.norm(observed - expected) <= within * np.linalg.norm(expected))


def _hypotheses(traced: TracedLayer, x: Array, params: Params) -> Iterator[Hypothesis]:
    """All that are known for a type of layer."""
    held = {name: np.asarray(params[name], np.float64) for name in traced.parameters}

    def apply(x: Array = x, held: Mapping[str, Array] = held, **changes: Any) -> Array:
        layer = traced.layer.model_copy(update=changes)
        return apply_layer(replace(traced, layer=layer, input=x.shape), x, held, {})[0]

    match traced.layer:
        case Conv2d():
            yield from _of_conv2d(traced.layer, x, held, apply)
        case Linear():
            yield from _of_linear(held, apply)
        case ReLU():
            yield "the ReLU is left out", lambda: x
            yield "the ReLU lets a hundredth of negative values through", lambda: np.where(x > 0, x, 0.01 * x)
        case Pool2d():
            yield from _of_pool2d(traced.layer, x, apply)
        case GlobalAvgPool2d():
            yield "the global pool takes the largest value, not the mean", lambda: x.max((2, 3), keepdims=True)
            yield "the global pool takes the sum, not the mean", lambda: x.sum((2, 3), keepdims=True)
        case Flatten():
            yield "axes are swapped before the flatten: channels come last", lambda: _flat(x.transpose(0, 2, 3, 1))
            yield "axes are swapped before the flatten: width before height", lambda: _flat(x.transpose(0, 1, 3, 2))
        case _:
            pass


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
    swapped = {"kernel_size": layer.kernel_size[::-1], "stride": stride[::-1], "padding": padding[::-1]}
    yield (
        "its kernel's axes are swapped: width before height",
        lambda: with_weight(weight.transpose(0, 1, 3, 2), **swapped),
    )
    if stride[0] != stride[1] or padding[0] != padding[1]:
        pairs = {"stride": stride[::-1], "padding": padding[::-1]}
        yield "its stride and padding are swapped: width before height", lambda: apply(**pairs)
    yield "the image's axes are swapped: width before height", lambda: apply(x=x.transpose(0, 1, 3, 2))
    if weight.shape[0] == weight.shape[1]:
        yield "its weight's axes are swapped: (in, out, kh, kw)", lambda: with_weight(weight.transpose(1, 0, 2, 3))
    yield "its kernel is turned around: a true convolution", lambda: with_weight(weight[:, :, ::-1, ::-1])
    yield "an activation is part of it: a ReLU", lambda: np.maximum(apply(), 0.0)


def _of_linear(held: Mapping[str, Array], apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    weight_name = next(name for name in held if name.endswith(".weight"))
    weight = held[weight_name]
    if len(held) > 1:
        yield "its bias is left out", lambda: apply(held=_without_bias(held))
    if weight.shape[0] == weight.shape[1]:
        yield "its weight's axes are swapped: (in, out)", lambda: apply(held={**held, weight_name: weight.T})
    yield "an activation is part of it: a ReLU", lambda: np.maximum(apply(), 0.0)


def _without_bias(held: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value if name.endswith(".weight") else np.zeros_like(value) for name, value in held.items()}


def _of_pool2d(layer: Pool2d, x: Array, apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    rounding = "down (floor)" if layer.ceil_mode else "up (ceil)"
    yield f"its output size is rounded {rounding}", lambda: apply(ceil_mode=not layer.ceil_mode)
    fill = -np.inf if isinstance(layer, MaxPool2d) else 0.0
    if isinstance(layer, MaxPool2d):
        same = "its padding is 'same': as much as keeps the size"
        yield same, lambda: apply(x=_same(layer, x, fill), padding=(0, 0), ceil_mode=False)
        yield "it takes the mean, not the largest value", lambda: _other_pool(AvgPool2d, layer, x)
    else:
        yield "its padding is 'same': as much as keeps the size", lambda: _average(layer, x, same=True)
        yield "its padding does not count in the mean", lambda: _average(layer, x, same=False)
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
    plain: Any = AvgPool2d(**{**layer.model_dump(exclude={"type"}), "padding": (0, 0), "ceil_mode": False})
    (ph, pw), ones = layer.padding, np.ones_like(x)
    around = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    sums, counts = (_same(layer, value, 0.0) if same else np.pad(value, around) for value in (x, ones))
    traced = TracedLayer(layer.name, plain, sums.shape, (), {}, 0)
    return apply_layer(traced, sums, {}, {})[0] / apply_layer(traced, counts, {}, {})[0]


def _same(layer: Conv2d | Pool2d, x: Array, fill: float) -> Array:
    """Padded so that the output has ceil(size / stride) rows and columns, the odd one below and to the right."""
    widths = [(0, 0), (0, 0)]
    for size, kernel, stride in zip(x.shape[2:], layer.kernel_size, layer.stride, strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        widths.append((total // 2, total - total // 2))
    return np.pad(x, widths, constant_values=fill)


def _of_dropout(layer: Dropout, x: NDArray[Any], observed: Array) -> Iterator[str]:
    """Dropout in evaluation has to pass everything on."""
    if observed.shape != x.shape or not layer.rate:
        return
    exact = np.asarray(x, np.float64)
    kept = observed != 0
    if not kept.all() and np.allclose(observed[kept], exact[kept] / (1 - layer.rate), rtol=MATCH):
        yield "dropout is at work in evaluation: a mode switch is missing"
    elif not kept.all() and np.allclose(observed[kept], exact[kept] / layer.rate, rtol=MATCH):
        yield "dropout is at work in evaluation, and its rate is taken for the share that is kept"
    if _matches(observed, exact * (1 - layer.rate)):
        yield "values are scaled by 1 - rate in evaluation: they must be scaled in training"


def of_loss(problem: Problem, observed: float, expected: float) -> Iterator[str]:
    """What would give this loss instead; both may be means or both sums."""
    ratio, count = observed / expected, len(problem.y)
    if abs(ratio / count - 1) < MATCH:
        yield "the loss is summed over the batch, not averaged"
    if abs(ratio * count - 1) < MATCH:
        yield "the loss is averaged twice"
    network = NumpyNetwork(problem.architecture, problem.params)
    truth, _, logits = network.differentiate(problem.x, problem.y, problem.masks)
    for cause, masks in _other_masks(problem):
        if abs(ratio / (network.differentiate(problem.x, problem.y, masks)[0] / truth) - 1) < MATCH:
            yield cause
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    if abs(ratio / (cross_entropy(shares, problem.y)[0] / truth) - 1) < MATCH:
        yield "a softmax comes before the cross-entropy, which has one of its own"


def _other_masks(problem: Problem) -> Iterator[tuple[str, Masks]]:
    rates = {name: rate for name, (rate, _) in problem.architecture.dropouts().items() if rate}
    if not rates:
        return
    yield "dropout does nothing in training: its mask is not used, or a mode switch is missing", {}
    dropped = {name: np.float32(1.0) * (problem.masks[name] == 0) for name in rates}
    yield "dropout keeps what it should drop", {name: dropped[name] / np.float32(rate) for name, rate in rates.items()}
    scaled = {name: dropped[name] / np.float32(1 - rate) for name, rate in rates.items()}
    yield "dropout keeps what it should drop, scaled by 1 / (1 - rate)", scaled
    unscaled = {name: np.float32(1.0) * (problem.masks[name] > 0) for name in rates}
    yield "what dropout keeps is not divided by 1 - rate", unscaled


def of_moves(check: str, problem: Problem, observed: Named, expected: Named, start: Named | None) -> Iterator[str]:
    """What would explain gradients (or, with `start`, how far parameters moved) that are not as expected."""
    if set(expected) - set(observed):
        return
    seen, right = (_joined(named, expected, start) for named in (observed, expected))
    size = float(right @ right)
    factor = float(seen @ right) / size if size else 0.0
    within = MATCH if start is None else MATCH_MOVE
    if abs(factor) > within and _matches(seen, factor * right, within):
        yield _of_factor(factor, len(problem.y), "gradients" if start is None else "the step")
        return
    if not np.any(seen):
        yield "no gradient reaches the parameters" if start is None else "the step does not move the parameters"
    still = [name for name in expected if np.any(expected[name]) and not np.any(_moved(observed, name, start))]
    if still and np.any(seen):
        yield f"nothing reaches {still[0]}" + (f" and {len(still) - 1} more" if len(still) > 1 else "")
    explain = {"gradient": _of_gradient, "step": _of_step, "momentum": _of_momentum}[check]
    yield from explain(problem, seen, expected, start)


def _moved(named: Named, name: str, start: Named | None) -> Array:
    value = np.asarray(named[name], np.float64)
    return value if start is None else value - start[name]


def _joined(named: Named, order: Named, start: Named | None) -> Array:
    """All tensors in one row, in the order of `order`."""
    return np.concatenate([_moved(named, name, start).ravel() for name in order] or [np.empty(0)])


def _of_factor(factor: float, count: int, what: str) -> str:
    known = {
        float(count): f"{what}: summed over the batch, not averaged",
        1.0 / count: f"{what}: divided by the batch size a second time",
        2.0: f"{what}: added to those before, which are not cleared",
        -1.0: f"{what}: with the wrong sign",
    }
    for value, cause in known.items():
        if abs(factor / value - 1) < MATCH_MOVE:
            return cause
    return f"{what}: multiplied by {factor:.4g}"


def _of_gradient(problem: Problem, seen: Array, expected: Named, _: Named | None) -> Iterator[str]:
    network = NumpyNetwork(problem.architecture, problem.params)
    for cause, masks in _other_masks(problem):
        gradients = network.differentiate(problem.x, problem.y, masks)[1]
        if _matches(seen, _joined(gradients, expected, None)):
            yield cause


def _of_step(problem: Problem, seen: Array, expected: Named, start: Named | None) -> Iterator[str]:
    right, weights = _joined(expected, expected, start), _joined(problem.params, expected, None)
    decay = -float((seen - right) @ weights) / float(weights @ weights) / STEP_RATE
    if abs(decay) > 1e-7 and _matches(seen, right - STEP_RATE * decay * weights, MATCH_MOVE):
        yield f"the step has a weight decay of {decay:.4g}"


def _of_momentum(problem: Problem, seen: Array, expected: Named, _: Named | None) -> Iterator[str]:
    """Other definitions of the same word. v: velocity, g: gradient, r: learning rate, m: momentum."""
    r1, r2 = MOMENTUM_RATES
    m = MOMENTUM
    begin = _joined(problem.params, expected, None)

    def gradient(moved: Array) -> Array:
        return _joined(_gradients_at(problem, expected, begin + moved), expected, None)

    g1 = gradient(0.0 * begin)
    first = -r1 * g1
    g2 = gradient(first)
    eased = -r1 * (1 - m) * g1
    ahead = -r1 * (1 + m) * g1
    g2_eased, g2_ahead = gradient(eased), gradient(ahead)
    known = {
        "the velocity has the learning rate inside: v <- m v - r g, p <- p + v": first + m * first - r2 * g2,
        "momentum is not applied, or the velocity is not kept": first - r2 * g2,
        "the gradient is damped by 1 - m after the first step": first - r2 * (m * g1 + (1 - m) * g2),
        "the velocity is a mean: v <- m v + (1 - m) g": eased - r2 * (1 - m) * (m * g1 + g2_eased),
        "it is Nesterov's momentum": ahead - r2 * (g2_ahead + m * (m * g1 + g2_ahead)),
    }
    for cause, moved in known.items():
        if _matches(seen, moved, MATCH_MOVE):
            yield cause


def _gradients_at(problem: Problem, order: Named, row: Array) -> Mapping[str, Array]:
    """The oracle's gradients for parameters in one row."""
    named: dict[str, Any] = {}
    begin = 0
    for name, value in order.items():
        named[name] = row[begin : begin + value.size].reshape(value.shape)
        begin += value.size
    network = NumpyNetwork(problem.architecture, {})
    network.restore(named, {})
    return network.differentiate(problem.x, problem.y, problem.masks)[1]
