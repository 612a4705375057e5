"""Mistakes planted through what the three adapters have in common: the same names, and the `Network` protocol.

What only one framework's own words can say stands in `mutations_torch.py` and its siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

Patch = pytest.MonkeyPatch
Planting = Callable[[Patch], None]
# (velocity so far, gradient, learning rate, momentum) -> what the parameter moves by, times the rate, and the next
# velocity; there is none so far before the first step.
Rule = Callable[[Any, Any, float, float], tuple[Any, Any]]


@dataclass(frozen=True)
class Adapter:
    """One adapter, as these mistakes know it.

    Attributes:
        layers: its module of layers, which calls the framework's classes as `nn.X`.
        network: its module of the net at work.
        net: the class in there that is the protocol's `Network`.
        nn: the framework's layers.
        classes: what a kind of layer is called there.
        forward: the method in which a layer computes.
    """

    layers: ModuleType
    network: ModuleType
    net: Any
    nn: ModuleType
    classes: Mapping[type, str]
    forward: str

    def forget(self, kind: type, *keywords: str, **others: Any) -> Planting:
        """Leave keywords out, so that the framework's default holds, or pass others."""

        def make(cls: Any, *args: Any, **given: Any) -> Any:
            return cls(*args, **{key: value for key, value in given.items() if key not in keywords}, **others)

        return self._call(kind, make)

    def change(self, kind: type, keyword: str, change: Callable[[Any], Any]) -> Planting:
        """Pass something else for a keyword."""
        return self._call(kind, lambda cls, *args, **given: cls(*args, **{**given, keyword: change(given[keyword])}))

    def _call(self, kind: type, make: Callable[..., Any]) -> Planting:
        """Where the adapter calls the framework's class for a kind of layer, call `make(class, ...)`."""
        name = self.classes[kind]
        names = {key: getattr(self.nn, key) for key in dir(self.nn)}
        other = SimpleNamespace(**{**names, name: partial(make, names[name])})
        return lambda patch: patch.setattr(self.layers, "nn", other)

    def compute(
        self, kind: type, compute: Callable[..., Any], where: Callable[[Any], bool] = lambda _: True
    ) -> Planting:
        """Layers of a kind give `compute(layer, ...)`, where `...` is what the framework's own method takes."""

        def plant(patch: Patch) -> None:
            compile_layer = self.layers.compile_layer

            def compile_other(traced: Any) -> Any:
                made = compile_layer(traced)
                if isinstance(traced.layer, kind) and where(traced):
                    made.traced = traced
                    setattr(made, self.forward, partial(compute, made))
                return made

            patch.setattr(self.layers, "compile_layer", compile_other)

        return plant

    def skip(self, name: str) -> Planting:
        """The layer is not made at all."""
        sequential = self.layers._sequential
        return lambda patch: patch.setattr(
            self.layers, "_sequential", lambda traced: sequential(tuple(part for part in traced if part.name != name))
        )

    def around(self, method: str, change: Callable[..., Any]) -> Planting:
        """For a method of the net, `change(method, net, ...)`."""
        own = getattr(self.net, method)
        return lambda patch: patch.setattr(self.net, method, lambda net, *given: change(own, net, *given))

    def load(self, change: Callable[[Any, Any], Any]) -> Planting:
        """Put other parameters into the net: `change(network, params)`."""
        return self.around(
            "restore", lambda restore, net, params, velocities: restore(net, change(net, dict(params)), velocities)
        )

    def keep_own(self, ending: str) -> Planting:
        return self.load(lambda net, params: params | {k: v for k, v in net.params().items() if k.endswith(ending)})

    def differentiate(self, change: Callable[..., Any]) -> Planting:
        """`change(differentiate, net, x, y, masks)` for a training pass."""
        return self.around("_differentiate", change)

    def masks(self, change: Callable[[Any, Any], Any]) -> Planting:
        """Train with other masks: `change(network, masks)`."""
        return self.differentiate(
            lambda go, net, x, y, masks: go(net, x, y, masks if masks is None else change(net, masks))
        )

    def pieces(self, change: Callable[[list[slice], int], list[Any]]) -> Planting:
        """Train on other pieces of a batch: `change(pieces, images in the batch)`."""

        def differentiate_otherwise(differentiate: Any, net: Any, *given: Any) -> Any:
            cut = self.network.pieces
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self.network, "pieces", lambda group, n, tuning: change(cut(group, n, tuning), n))
                return differentiate(net, *given)

        return self.differentiate(differentiate_otherwise)

    def plantings(self) -> dict[str, Planting]:
        """All mistakes that need no word of the framework's."""
        return {
            "biases never loaded": self.keep_own(".bias"),
            "weights never loaded": self.keep_own(".weight"),
            "weights loaded as (in, out)": self.load(_turn_square),
            "equal layers exchanged when loaded": self.load(_exchange),
            "equal layers exchanged": both(
                self.load(_exchange), self.around("params", lambda params, net: _exchange(net, params(net)))
            ),
            "global pool not made": self.skip("global_avg_pool1"),
            "ReLU not made at a block's end": self.skip("block1.relu2"),
            "mask not applied": self.masks(lambda _, masks: {k: np.ones_like(mask) for k, mask in masks.items()}),
            "mask inverted": self.masks(_invert),
            "kept values not scaled": self.masks(lambda _, masks: {k: np.float32(m > 0) for k, m in masks.items()}),
            "own draws for the masks given": self.masks(lambda *_: None),
            "first masks kept for ever": self.masks(_keep_first_masks),
            "pieces weighed alike": self.pieces(
                lambda pieces, count: [_weighed(piece, count / len(pieces)) for piece in pieces]
            ),
            "pieces summed without their shares": self.pieces(
                lambda pieces, count: [_weighed(piece, count) for piece in pieces]
            ),
            "last piece left out": self.pieces(lambda pieces, _: pieces[:-1]),
            "gradients asked for, step taken": self.around("loss_and_gradients", _ask_and_step),
            "step divided by the batch again": self.around("train_step", _divide_step),
            "first learning rate kept for ever": self.around("train_step", _keep_first_rate),
        }


def both(first: Planting, second: Planting) -> Planting:
    def plant(patch: Patch) -> None:
        first(patch)
        second(patch)

    return plant


def named(name: str) -> Callable[[Any], bool]:
    return lambda traced: bool(traced.name == name)


def has_square_weight(traced: Any) -> bool:
    return bool(traced.input[1] == traced.output[1])


def same_padding(layer: Any, height: int, width: int) -> list[int]:
    """As a net comes over from Keras, as much as keeps the size, the odd one below and to the right.

    Above, below, to the left, to the right.
    """
    around: list[int] = []
    for size, kernel, stride in zip((height, width), layer.kernel_size, layer.stride, strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        around += [total // 2, total - total // 2]
    return around


def _turn_square(_: Any, params: Any) -> Any:
    return {k: v.swapaxes(0, 1) if v.ndim > 1 and v.shape[0] == v.shape[1] else v for k, v in params.items()}


def _exchange(_: Any, params: Any) -> Any:
    other = {"block1.mlp1": "block1.mlp2", "block1.mlp2": "block1.mlp1"}
    layer_and_kind = {name: name.rpartition(".") for name in params}
    return {name: params.get(f"{other.get(of, of)}.{kind}") for name, (of, _, kind) in layer_and_kind.items()}


def _invert(net: Any, masks: Any) -> Any:
    rates = {name: rate for name, (rate, _) in net.architecture.dropouts().items()}
    return {name: np.float32(mask == 0) / np.float32(rates[name]) for name, mask in masks.items()}


def _keep_first_masks(net: Any, masks: Any) -> Any:
    net.first_masks = getattr(net, "first_masks", masks)
    return net.first_masks


class _Piece(np.ndarray):  # type: ignore[type-arg]
    """Numbers of images that pass for a slice of them; `stop - start` need not be how many they are."""

    start: float
    stop: float


def _weighed(piece: slice, count: float) -> _Piece:
    """The same images, which the adapter takes for so many when it weighs them."""
    images = np.arange(piece.start, piece.stop).view(_Piece)
    images.start, images.stop = 0, count
    return images


def _ask_and_step(ask: Any, net: Any, x: Any, y: Any, masks: Any) -> Any:
    answer = ask(net, x, y, masks)
    net.train_step(x, y, masks, 0.1)
    return answer


def _divide_step(step: Any, net: Any, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> Any:
    return step(net, x, y, masks, lr / len(y), momentum)


def _keep_first_rate(step: Any, net: Any, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> Any:
    net.first_rate = getattr(net, "first_rate", lr)
    return step(net, x, y, masks, net.first_rate, momentum)


def keep(v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    """The definition as it should be."""
    v = g if v is None else m * v + g
    return v, v


def _rate_inside(v: Any, g: Any, lr: float, m: float) -> tuple[Any, Any]:
    """The adapter multiplies by the rate once more."""
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


VELOCITIES: Mapping[str, Rule] = {
    "momentum not applied": lambda v, g, lr, m: (g, g),
    "learning rate inside the velocity": _rate_inside,
    "Nesterov's momentum": _nesterov,
    "momentum with dampening": _dampened,
    "velocity as a mean": _mean,
}
