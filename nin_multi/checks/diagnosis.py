"""Which known default would explain a difference; whether there is one is found in `values`.

Frameworks differ in what they do when nothing is said: bias, padding, rounding of pools, what a dropout rate means,
sums or means, the order of axes, and whether a net knows that it is evaluated. Each is tried here on the oracle's
own numbers; one is named only if it gives what was observed, shape and values, and if no other comes nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Labels, Masks, Params
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
NEARLY_NOTHING = 1e-3  # of the largest tensor; in a smaller one float32 leaves little but rounding
MATCH_LOSS = 1e-5  # a single number fits by chance where a tensor would not

Named = Mapping[str, NDArray[Any]]
Hypothesis = tuple[str, Callable[[], Array]]  # what would explain it, and what it would give


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
    yield from _explain(seen, right, _hypotheses(traced, exact, seen, params), MATCH)


def _explain(seen: Array, right: Array, hypotheses: Iterable[Hypothesis], within: float) -> list[str]:
    """The causes that give what was seen; of two that come near, only the one that comes much nearer."""
    off, found = _distance(seen, right), []
    with np.errstate(all="ignore"):  # what is tried may well overflow
        for cause, compute in hypotheses:
            try:
                distance = _distance(seen, compute())
            except ValueError:  # the hypothesis does not fit this input
                continue
            if distance <= within and distance < off / 10:  # what is hardly nearer than the truth explains nothing
                found.append((distance, cause))
    best = min(found)[0] if found else 0.0
    return [cause for distance, cause in found if distance <= 3 * best + 1e-12]


def _just(value: Array) -> Callable[[], Array]:
    return lambda: value


def _distance(observed: Array, expected: Array) -> float:
    """Relative; infinite where shapes differ or a number is none."""
    if observed.shape != expected.shape:
        return np.inf
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(expected))
        distance = float(np.linalg.norm(observed - expected)) / size if size else np.inf
    return distance if np.isfinite(distance) else np.inf


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
            pass


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
    elif _distance(observed, x * (1 - layer.rate)) < MATCH:
        yield "values are scaled by 1 - rate in evaluation: they must be scaled in training"


def of_mode(after: NDArray[Any], again: NDArray[Any]) -> tuple[str, ...]:
    """Why logits differ after a training pass; `again` are those of the next evaluation."""
    if after.shape == again.shape and not np.allclose(after, again, rtol=MATCH):
        return ("after a training pass the net is not set back to evaluation: a mode switch is missing",)
    return ()


def of_loss(problem: Problem, observed: float, expected: float, again: float | None = None) -> Iterator[str]:
    """What would give this loss instead; both may be means or both sums. `again`: the loss of a second pass."""
    if again is not None and not np.isclose(again, observed, rtol=MATCH):
        yield "two passes over one batch differ: dropout draws masks of its own in place of those given"
        return
    network, count = NumpyNetwork(problem.architecture, problem.params), len(problem.y)
    truth, _, logits = network.differentiate(problem.x, problem.y, problem.masks)
    unit = expected / truth if truth else 1.0
    losses = [
        ("the loss is summed over the batch, not averaged", truth * count),
        ("the loss is averaged twice", truth / count),
        *((cause, network.differentiate(problem.x, problem.y, masks)[0]) for cause, masks in _other_masks(problem)),
        *_other_losses(logits, problem.y, truth),
    ]
    hypotheses = [(cause, _just(np.array([unit * loss]))) for cause, loss in losses]
    yield from _explain(np.array([observed]), np.array([expected]), hypotheses, MATCH_LOSS)


def _other_losses(logits: Array, y: Labels, truth: float) -> Iterator[tuple[str, float]]:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    twice = cross_entropy(shares / shares.sum(1, keepdims=True), y)[0]
    yield "a softmax comes before the cross-entropy, which has one of its own", twice
    even = [cross_entropy(logits, np.full_like(y, label))[0] for label in range(logits.shape[1])]
    yield "labels are smoothed by 0.1", 0.9 * truth + 0.1 * float(np.mean(even))


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
    if any(name not in observed or observed[name].shape != value.shape for name, value in expected.items()):
        return
    what = "gradients" if start is None else "the step"
    seen, right = (_joined(named, expected, start) for named in (observed, expected))
    if not np.any(seen):
        yield "no gradient reaches the parameters" if start is None else "the step does not move the parameters"
        return
    sizes = {name: float(np.linalg.norm(_moved(expected, name, start))) for name in expected}
    least = NEARLY_NOTHING * max(sizes.values()) or 1.0
    still = [name for name, size in sizes.items() if size > least and not np.any(_moved(observed, name, start))]
    if still:
        yield f"nothing reaches {still[0]}" + (f" and {len(still) - 1} more" if len(still) > 1 else "")
        return
    # Every tensor counts alike, apart from those that are rounding alone.
    scale = np.concatenate([np.full(expected[name].size, 1.0 / max(size, least)) for name, size in sizes.items()])
    hypotheses = (
        (cause, _just(row * scale)) for cause, row in _other_moves(check, what, problem, seen, right, expected, start)
    )
    yield from _explain(seen * scale, right * scale, hypotheses, MATCH if start is None else MATCH_MOVE)


def _other_moves(
    check: str, what: str, problem: Problem, seen: Array, right: Array, expected: Named, start: Named | None
) -> Iterator[tuple[str, Array]]:
    factor = float(seen @ right) / (float(right @ right) or 1.0)
    yield _of_factor(factor, len(problem.y), what), factor * right
    explain = {"gradient": _of_gradient, "step": _of_step, "momentum": _of_momentum}[check]
    yield from explain(problem, seen, expected, start)


def _moved(named: Named, name: str, start: Named | None) -> Array:
    value = np.asarray(named[name], np.float64)
    return value if start is None else value - start[name]


def _joined(named: Named, order: Named, start: Named | None) -> Array:
    """All tensors in one row, in the order of `order`."""
    return np.concatenate([_moved(named, name, start).ravel() for name in order] or [np.empty(0)])


def _of_factor(factor: float, count: int, what: str) -> str:
    known = (
        (-1.0, "with the wrong sign"),
        (float(count), "summed over the batch, not averaged"),
        (1.0 / count, "divided by the batch size a second time"),
        (2.0, "added to those before, which are not cleared"),
        (3.0, "added to those before, which are not cleared"),
    )
    for value, cause in known:
        if abs(factor / value - 1) < MATCH_MOVE:
            return f"{what}: {cause}"
    rate = "" if what == "gradients" else f", as with a learning rate of {factor * STEP_RATE:.4g} for {STEP_RATE:g}"
    return f"{what}: multiplied by {factor:.4g}{rate}"


def _of_gradient(problem: Problem, seen: Array, expected: Named, _: Named | None) -> Iterator[tuple[str, Array]]:
    network = NumpyNetwork(problem.architecture, problem.params)
    for cause, masks in _other_masks(problem):
        gradients = network.differentiate(problem.x, problem.y, masks)[1]
        yield cause, _joined(gradients, expected, None)


def _of_step(problem: Problem, seen: Array, expected: Named, start: Named | None) -> Iterator[tuple[str, Array]]:
    right, weights = _joined(expected, expected, start), _joined(problem.params, expected, None)
    yield "it is Adam's step: each number moves by the learning rate", STEP_RATE * np.sign(right)
    decay = -float((seen - right) @ weights) / float(weights @ weights) / STEP_RATE
    if abs(decay) > 1e-7:
        yield f"the step has a weight decay of {decay:.4g}", right - STEP_RATE * decay * weights


def _of_momentum(problem: Problem, seen: Array, expected: Named, _: Named | None) -> Iterator[tuple[str, Array]]:
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
    yield "momentum is not applied, or the velocity is not kept", first - r2 * g2
    yield "the velocity has the learning rate inside: v <- m v - r g, p <- p + v", first + m * first - r2 * g2
    yield "the learning rate of the first step is kept in the next", first + m * first - r1 * g2
    kept = -STEP_RATE * g1  # of the step that was taken before these two
    yield "the learning rate of the first step is kept for ever", kept - STEP_RATE * (m * g1 + gradient(kept))
    yield "the gradient is damped by 1 - m after the first step", first - r2 * (m * g1 + (1 - m) * g2)
    yield "the velocity is a mean: v <- m v + (1 - m) g", eased - r2 * (1 - m) * (m * g1 + g2_eased)
    yield "it is Nesterov's momentum", ahead - r2 * (g2_ahead + m * (m * g1 + g2_ahead))


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


def of_curve(problem: Problem, rate: float, step: int, observed: float) -> list[str]:
    """What would give this loss in step `step` (from 0) of training at this rate, if all was right before."""

    def loss(rate: float = rate, *, stale: bool = False) -> Array:
        network = NumpyNetwork(problem.architecture, problem.params)
        for i in range(step):
            network.train_step(problem.x, problem.y, problem.masks_of(0 if stale else i), rate)
        return np.array([network.differentiate(problem.x, problem.y, problem.masks_of(0 if stale else step))[0]])

    hypotheses: list[Hypothesis] = [
        ("the masks of the first step are used in every step", lambda: loss(stale=True)),
        ("the parameters do not move", lambda: loss(0.0)),
        ("the learning rate of an earlier step is kept", lambda: loss(STEP_RATE)),
    ]
    return _explain(np.array([observed]), loss(), hypotheses, MATCH_LOSS)
