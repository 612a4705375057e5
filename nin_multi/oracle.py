"""The specification in float64 NumPy, forward and backward: the arbiter, and the backend `numpy`; not made for speed.

Every layer is written as its definition reads, one image at a time where memory asks for it, and shares no code
with any framework.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import stride_tricks
from numpy.typing import NDArray

from nin_multi.backend import Images, Labels, Masks, Params, StepResult, check_params, check_request, unsupported
from nin_multi.book import BookRound
from nin_multi.errors import BackendUnavailable, UsageError
from nin_multi.knobs import Knob, Tuning, complete_tuning
from nin_multi.spec import (
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    NinBlock,
    Pool2d,
    ReLU,
    TracedLayer,
)

Array = NDArray[np.float64]
# Its type stubs differ between NumPy versions, and some know no tuple of axes.
sliding_window_view: Any = stride_tricks.sliding_window_view
Named = dict[str, Array]  # by parameter name
# Gradient of the loss by a layer's output -> gradient by its input; parameter gradients go into the dictionary.
Backward = Callable[[Array, Named], Array]


def apply_layer(traced: TracedLayer, x: Array, params: Mapping[str, Array], masks: Masks) -> tuple[Array, Backward]:
    """Output of one layer, and the function that leads gradients back through it."""
    layer, name = traced.layer, traced.name
    match layer:
        case Conv2d():
            return _conv2d(layer, name, x, params)
        case Linear():
            return _linear(name, x, params)
        case ReLU():
            return np.maximum(x, 0.0), lambda g, _: g * (x > 0.0)
        case MaxPool2d():
            return _max_pool2d(layer, x)
        case AvgPool2d():
            return _avg_pool2d(layer, x)
        case Dropout():
            mask = masks.get(name)
            return (x, lambda g, _: g) if mask is None else (x * mask, lambda g, _: g * mask)
        case GlobalAvgPool2d():
            area = x.shape[2] * x.shape[3]
            return x.mean((2, 3), keepdims=True), lambda g, _: np.broadcast_to(g / area, x.shape)
        case Flatten():
            return x.reshape(len(x), -1), lambda g, _: g.reshape(x.shape)
        case NinBlock():
            return _sequence(traced.inner, x, params, masks)
        case _:
            raise unsupported("numpy", traced)


def _sequence(
    layers: tuple[TracedLayer, ...], x: Array, params: Mapping[str, Array], masks: Masks
) -> tuple[Array, Backward]:
    steps: list[Backward] = []
    for traced in layers:
        x, step = apply_layer(traced, x, params, masks)
        steps.append(step)

    def backward(g: Array, gradients: Named) -> Array:
        for step in reversed(steps):
            g = step(g, gradients)
        return g

    return x, backward


def _conv2d(layer: Conv2d, name: str, x: Array, params: Mapping[str, Array]) -> tuple[Array, Backward]:
    weight, bias = params[f"{name}.weight"], params.get(f"{name}.bias")
    (ph, pw), (sh, sw), (kh, kw) = layer.padding, layer.stride, layer.kernel_size
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    n, out, rows, columns = layer.output_shape(x.shape)
    matrix = weight.reshape(out, -1)  # (out, C*kh*kw)

    def patches(image: Array) -> Array:  # (C, H, W) -> (C*kh*kw, rows*columns)
        windows = sliding_window_view(image, (kh, kw), axis=(1, 2))[:, ::sh, ::sw]  # (C, rows, columns, kh, kw)
        columns_first: Array = windows.transpose(0, 3, 4, 1, 2)
        return columns_first.reshape(matrix.shape[1], rows * columns)

    y = np.empty((n, out, rows * columns))
    for i in range(n):  # one image at a time: the patches of a whole batch would fill the memory
        np.matmul(matrix, patches(padded[i]), out=y[i])
    y = y.reshape(n, out, rows, columns)

    def backward(g: Array, gradients: Named) -> Array:
        flat = g.reshape(n, out, rows * columns)
        by_weight, by_padded = np.zeros_like(matrix), np.zeros_like(padded)
        for i in range(n):
            by_weight += flat[i] @ patches(padded[i]).T
            by_patch = (matrix.T @ flat[i]).reshape(-1, kh, kw, rows, columns)
            for a in range(kh):
                for b in range(kw):
                    by_padded[i, :, a : a + sh * rows : sh, b : b + sw * columns : sw] += by_patch[:, a, b]
        gradients[f"{name}.weight"] = by_weight.reshape(weight.shape)
        if bias is not None:
            gradients[f"{name}.bias"] = flat.sum((0, 2))
        return by_padded[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]

    return (y if bias is None else y + bias[:, None, None]), backward


def _linear(name: str, x: Array, params: Mapping[str, Array]) -> tuple[Array, Backward]:
    weight, bias = params[f"{name}.weight"], params.get(f"{name}.bias")

    def backward(g: Array, gradients: Named) -> Array:
        gradients[f"{name}.weight"] = g.T @ x
        if bias is not None:
            gradients[f"{name}.bias"] = g.sum(0)
        return g @ weight

    y = x @ weight.T
    return (y if bias is None else y + bias), backward


def windows_of(layer: Pool2d, x: Array, fill: float) -> tuple[Array, Callable[[Callable[[int, int], Array]], Array]]:
    """Windows (N, C, rows, columns, kh, kw), and a function that adds gradients, one per place, back into an image."""
    (ph, pw), (sh, sw), (kh, kw) = layer.padding, layer.stride, layer.kernel_size
    down, right = layer.overhang(x.shape)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph + down), (pw, pw + right)), constant_values=fill)
    windows = sliding_window_view(padded, (kh, kw), axis=(2, 3))[:, :, ::sh, ::sw]
    rows, columns = windows.shape[2:4]

    def scatter(at: Callable[[int, int], Array]) -> Array:
        total = np.zeros(padded.shape)
        for a in range(kh):
            for b in range(kw):
                total[:, :, a : a + sh * rows : sh, b : b + sw * columns : sw] += at(a, b)
        return total[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]

    return windows, scatter


def _max_pool2d(layer: MaxPool2d, x: Array) -> tuple[Array, Backward]:
    windows, scatter = windows_of(layer, x, -np.inf)
    flat = windows.reshape(*windows.shape[:4], -1)
    winner = flat.argmax(-1)  # the first of equal values, in reading order
    y = np.take_along_axis(flat, winner[..., None], -1)[..., 0]
    width = layer.kernel_size[1]
    return y, lambda g, _: scatter(lambda a, b: g * (winner == a * width + b))


def _avg_pool2d(layer: AvgPool2d, x: Array) -> tuple[Array, Backward]:
    windows, scatter = windows_of(layer, x, 0.0)
    counts = np.outer(*layer.window_sizes(x.shape))
    return windows.sum((4, 5)) / counts, lambda g, _: scatter(lambda a, b: g / counts)


def cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """Mean softmax cross-entropy of logits (N, classes), and its gradient by the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    each = np.arange(len(labels))
    gradient = np.exp(log_probabilities)
    gradient[each, labels] -= 1.0
    return float(-log_probabilities[each, labels].mean()), gradient / len(labels)


class NumpyNetwork:
    """A net in float64: parameters, evaluation, gradients, SGD."""

    def __init__(self, architecture: Architecture, params: Params, seed: int | None = None) -> None:
        self.architecture = architecture
        self.module: Any = self  # there is no framework's net behind it
        self._random = np.random.default_rng(seed)
        self._params: Named = {}
        self._velocities: Named = {}
        self.restore(params, {})

    def activations(self, x: Images) -> Iterator[tuple[str, Array]]:
        value = np.asarray(x, np.float64)
        for traced in self.architecture.trace(len(x)):
            for part in traced.inner or (traced,):
                with np.errstate(over="ignore", invalid="ignore"):  # a net that diverges is told of elsewhere
                    value, _ = apply_layer(part, value, self._params, {})
                yield part.name, value
            if traced.inner:
                yield traced.name, value

    def logits(self, x: Images) -> Array:
        *_, (_, last) = self.activations(x)
        return last

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        loss, gradients, _ = self.differentiate(x, y, masks)
        return loss, {name: gradients[name].astype(np.float32) for name in self._params}

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        loss, gradients, logits = self.differentiate(x, y, masks)
        if math.isfinite(loss):
            self._descend(gradients, lr, momentum)
        return StepResult(loss * len(y), int((logits.argmax(1) == y).sum()), len(y), logits)

    def _descend(self, gradients: Named, lr: float, momentum: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            if momentum:
                for name, gradient in gradients.items():
                    self._velocities[name] = momentum * self._velocities.get(name, 0.0) + gradient
            moves = self._velocities if momentum else gradients
            self._params = {name: value - lr * moves[name] for name, value in self._params.items()}

    def exact_params(self) -> Named:
        """The parameters in float64, not copied."""
        return self._params

    def params(self) -> Params:
        return {name: value.astype(np.float32) for name, value in self._params.items()}

    def velocities(self) -> Params:
        return {name: self._velocities[name].astype(np.float32) for name in self._params if name in self._velocities}

    def restore(self, params: Params, velocities: Params) -> None:
        self._params = {name: np.asarray(value, np.float64) for name, value in params.items()}
        self._velocities = {name: np.asarray(value, np.float64) for name, value in velocities.items()}

    def _draw(self, batch: int) -> Masks:
        """The masks of a dropout of our own."""
        drawn = {
            name: (rate, self._random.random((batch, *shape)))
            for name, (rate, shape) in self.architecture.dropouts().items()
        }
        return {name: ((value >= rate) / (1.0 - rate)).astype(np.float32) for name, (rate, value) in drawn.items()}

    def differentiate(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Named, Array]:
        """Loss, gradients and logits (N, classes) in training mode, all in float64."""
        masks = self._draw(len(x)) if masks is None else masks
        layers = self.architecture.trace(len(x))
        gradients: Named = {}
        with np.errstate(over="ignore", invalid="ignore"):
            logits, backward = _sequence(layers, np.asarray(x, np.float64), self._params, masks)
            loss, by_logits = cross_entropy(logits, y)
            backward(by_logits, gradients)
        return loss, gradients, logits


def matrix_product(size: int, kind: np.dtype[Any]) -> Callable[[], float]:
    """Seconds that NumPy's product of two matrices takes, each time it is called."""
    a, b, result = np.ones((size, size), kind), np.ones((size, size), kind), np.empty((size, size), kind)

    def run() -> float:
        began = time.perf_counter()
        np.matmul(a, b, out=result)
        return time.perf_counter() - began

    return run


class NumpyBackend:
    """The oracle as a backend: float64 on the CPU, no framework needed."""

    name = "numpy"
    precisions = ("fp64",)
    weights_suffixes = ()
    relu_takes_an_index = True

    def version(self) -> str:
        return np.__version__

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def facts(self) -> Mapping[str, str]:
        return {}

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        return {}

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        return ()

    def build(
        self,
        architecture: Architecture,
        params: Params,
        *,
        device: str,
        precision: str,
        seed: int | None = None,
        tuning: Tuning | None = None,
    ) -> NumpyNetwork:
        check_request(self, device, precision)
        check_params(architecture, params)
        complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        return NumpyNetwork(architecture, params, seed)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)

        def run(steps: int) -> float:
            began = time.perf_counter()
            for _ in range(steps):
                network.train_step(x, y, {}, 0.01)
            return time.perf_counter() - began

        return run

    @property
    def warm_up_steps(self) -> int:
        return 1

    @property
    def bare_tuning(self) -> Tuning:
        return {}

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        check_request(self, device, precision)
        return matrix_product(size, np.dtype(np.float64))

    def layer_times(
        self,
        architecture: Architecture,
        params: Params,
        x: Images,
        *,
        device: str,
        precision: str,
        repeats: int,
        tuning: Tuning | None = None,
    ) -> Iterator[tuple[str, float, float]]:
        exact = {name: np.asarray(value, np.float64) for name, value in params.items()}
        value = np.asarray(x, np.float64)
        for traced in (row for row in architecture.walk(len(x)) if not row.inner):
            forward, backward = [], []
            for _ in range(repeats):
                began = time.perf_counter()
                y, back = apply_layer(traced, value, exact, {})
                half = time.perf_counter()
                back(np.ones_like(y), {})
                forward.append(half - began)
                backward.append(time.perf_counter() - half)
            yield traced.name, statistics.median(forward), statistics.median(backward)
            value = y

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        raise BackendUnavailable("numpy: the book has no code for it")

    def source(self, architecture: Architecture) -> str:
        from nin_multi.export import numpy_source

        return numpy_source.source(architecture)

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        raise UsageError(f"{path}: numpy has no weights files of its own; convert it to .safetensors")

    def write_weights(self, path: Path, named: Params) -> None:
        raise UsageError(f"{path}: numpy has no weights files of its own; write .safetensors")
