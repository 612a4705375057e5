"""What would explain the output of a maxout, a local response normalisation or a unit that is not as expected.

Each is computed once more with one step changed: the steps are those of `nin_multi.oracle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from nin_multi.checks.explanations import Hypothesis
from nin_multi.oracle import Array, sliding_window_view
from nin_multi.oracle.units import sigmoid, softmax, squeeze, weigh
from nin_multi.oracle.windows import conv2d
from nin_multi.spec import LocalResponseNorm, Maxout, SEBlock, SKBlock, TracedLayer

Function = Callable[[Array], Array]
Held = Mapping[str, Array]  # by the names within the layer, "reduce.weight"


def of_unit(traced: TracedLayer, x: Array, params: Held, apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    """All that are known for these types of layer; the likelier come first."""
    held = {name.removeprefix(f"{traced.name}."): value for name, value in params.items()}
    match traced.layer:
        case Maxout():
            yield from _of_maxout(traced.layer, x)
        case LocalResponseNorm():
            yield from _of_local_response_norm(traced.layer, x, apply)
        case SEBlock():
            yield from _of_se_block(x, held)
        case SKBlock():
            yield from _of_sk_block(traced.layer, x, held)
        case _:
            pass


def _of_maxout(layer: Maxout, x: Array) -> Iterator[Hypothesis]:
    rest = x.shape[2:]
    following = x.reshape(len(x), -1, layer.pieces, *rest)
    apart = x.reshape(len(x), layer.pieces, -1, *rest)
    yield "channels compete that lie far apart, not those that follow one another", lambda: apart.max(1)
    yield "it takes the mean of the pieces, not the largest", lambda: following.mean(2)
    yield "it takes the sum of the pieces, not the largest", lambda: following.sum(2)
    yield "it takes the smallest of the pieces, not the largest", lambda: following.min(2)
    yield "it takes the first of the pieces, not the largest", lambda: following[:, :, 0]


def _of_local_response_norm(layer: LocalResponseNorm, x: Array, apply: Callable[..., Array]) -> Iterator[Hypothesis]:
    size, alpha = layer.size, layer.alpha
    divided, one = "its alpha is divided by the size", "its k is left at 1"
    yield divided, lambda: apply(alpha=alpha / size)
    yield "its alpha is multiplied by the size", lambda: apply(alpha=alpha * size)
    if layer.k != 1.0:
        yield one, lambda: apply(k=1.0)
        yield f"{divided}, and {one}", lambda: apply(alpha=alpha / size, k=1.0)
    for field in ("size", "alpha", "beta"):
        default = LocalResponseNorm.model_fields[field].default
        if getattr(layer, field) != default:
            yield f"its {field} is left at {default:g}", partial(apply, **{field: default})
    yield "its size is taken for a radius", lambda: apply(size=2 * size + 1)
    yield "its neighbours are pixels of one channel, not channels", lambda: _within_channels(layer, x)
    yield "it is left out", lambda: x


def _within_channels(layer: LocalResponseNorm, x: Array) -> Array:
    far = min(layer.size // 2, max(x.shape[2:]))
    padded = np.pad(x**2, ((0, 0), (0, 0), (far, far), (far, far)))
    total: Array = sliding_window_view(padded, (2 * far + 1, 2 * far + 1), axis=(2, 3)).sum((4, 5))
    return x / (layer.k + layer.alpha * total) ** layer.beta


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def _same(x: Array) -> Array:
    return x


def _mean(x: Array) -> Array:
    means: Array = x.mean((2, 3))
    return means


def _sum(x: Array) -> Array:
    sums: Array = x.sum((2, 3))
    return sums


def _largest(x: Array) -> Array:
    largest: Array = x.max((2, 3))
    return largest


def _dense(x: Array, held: Held, part: str) -> Array:
    result: Array = x @ held[f"{part}.weight"].T + held[f"{part}.bias"]
    return result


def _gates(x: Array, held: Held, squeezed: Function = _mean, between: Function = _relu) -> Array:
    """What the sigmoid of a squeeze-and-excitation unit is given, (N, C, 1, 1)."""
    return _dense(between(_dense(squeezed(x), held, "reduce")), held, "expand")[:, :, None, None]


def _of_se_block(x: Array, held: Held) -> Iterator[Hypothesis]:
    gates = partial(_gates, x, held)
    yield "its sigmoid is left out", lambda: x * gates()
    yield "its ReLU is left out", lambda: x * sigmoid(gates(between=_same))
    yield from _without_biases(held, lambda fewer: x * sigmoid(_gates(x, fewer)))
    yield "it squeezes by the largest value, not the mean", lambda: x * sigmoid(gates(_largest))
    yield "it squeezes by the sum, not the mean", lambda: x * sigmoid(gates(_sum))
    yield "a hard sigmoid, from -3 to 3, stands in place of the sigmoid", lambda: x * np.clip(gates() / 6 + 0.5, 0, 1)
    hard = "a hard sigmoid, from -2.5 to 2.5, stands in place of the sigmoid"
    yield hard, lambda: x * np.clip(gates() / 5 + 0.5, 0, 1)
    yield "a softmax over the channels stands in place of the sigmoid", lambda: x * _over_channels(gates())
    yield "its input is added once more", lambda: x + x * sigmoid(gates())
    yield "its gates are added to the channels, not multiplied with them", lambda: x + sigmoid(gates())
    yield "its gates are not multiplied with anything", lambda: np.broadcast_to(sigmoid(gates()), x.shape)
    yield "it is left out", lambda: x


def _over_channels(x: Array) -> Array:
    return softmax(x.swapaxes(0, 1)).swapaxes(0, 1)


def _without_biases(held: Held, output: Callable[[Held], Array]) -> Iterator[Hypothesis]:
    for name, value in held.items():
        if name.endswith(".bias"):
            yield f"the bias of {name.removesuffix('.bias')} is left out", partial(output, {**held, name: 0.0 * value})


def _branches(layer: SKBlock, x: Array, held: Held, activation: Function = _relu) -> Array:
    return np.stack([activation(conv2d(branch, branch.name, x, held)[0]) for branch in layer.branches()])


def _chosen(branches: Array, held: Held, squeezed: Function = squeeze, between: Function = _relu) -> Array:
    """What the softmax of a selective-kernel unit is given, (branches, N, C)."""
    middle = between(_dense(squeezed(branches), held, "reduce"))
    return np.stack([_dense(middle, held, f"select{i}") for i, _ in enumerate(branches, start=1)])


def _selected(layer: SKBlock, x: Array, held: Held) -> Array:
    branches = _branches(layer, x, held)
    return weigh(branches, softmax(_chosen(branches, held)))


def _of_sk_block(layer: SKBlock, x: Array, held: Held) -> Iterator[Hypothesis]:
    branches, linear = _branches(layer, x, held), partial(_branches, layer, x, held, _same)
    chosen = partial(_chosen, branches, held)
    over_channels = "its softmax goes over the channels, not over the branches"
    yield over_channels, lambda: weigh(branches, np.stack([_over_channels(each) for each in chosen()]))
    yield "a sigmoid stands in place of its softmax", lambda: weigh(branches, sigmoid(chosen()))
    yield "its softmax is left out", lambda: weigh(branches, chosen())
    yield "its branches are added up without their shares", lambda: branches.sum(0)
    yield "the mean of its branches is taken, without their shares", lambda: branches.mean(0)
    yield "the shares of its branches come in the opposite order", lambda: weigh(branches, softmax(chosen())[::-1])
    yield "the ReLUs of its branches are left out", lambda: weigh(linear(), softmax(_chosen(linear(), held)))
    yield "its ReLU after reduce is left out", lambda: weigh(branches, softmax(chosen(between=_same)))
    yield from _without_biases(held, partial(_selected, layer, x))
    for cause, squeezed in _OTHER_SQUEEZES:
        yield cause, partial(_with_squeeze, branches, held, squeezed)
    if layer.stride != (1, 1):
        plain = layer.model_copy(update={"stride": (1, 1)})
        yield "its stride is left at 1", lambda: _selected(plain, x, held)


def _with_squeeze(branches: Array, held: Held, squeezed: Function) -> Array:
    return weigh(branches, softmax(_chosen(branches, held, squeezed)))


_OTHER_SQUEEZES: tuple[tuple[str, Function], ...] = (
    ("it squeezes the first branch alone, not the sum of all", lambda branches: _mean(branches[0])),
    ("it squeezes the mean of the branches, not their sum", lambda branches: _mean(branches.mean(0))),
    ("it squeezes by the sum over the pixels, not the mean", lambda branches: _sum(branches.sum(0))),
    ("it squeezes by the largest value, not the mean", lambda branches: _largest(branches.sum(0))),
)
