"""Convolution and pools: what moves a window over an image; one image at a time where memory asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nin_multi.oracle.arrays import Array, Backward, Named, sliding_window_view
from nin_multi.spec import AvgPool2d, Conv2d, MaxPool2d, Pool2d


def conv2d(layer: Conv2d, name: str, x: Array, params: Mapping[str, Array]) -> tuple[Array, Backward]:
    """The layer called `name`, its output (N, out, rows, columns), and the way back."""
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


def max_pool2d(layer: MaxPool2d, x: Array) -> tuple[Array, Backward]:
    """The largest value of each window; the first of equal ones passes the gradient on."""
    windows, scatter = windows_of(layer, x, -np.inf)
    flat = windows.reshape(*windows.shape[:4], -1)
    winner = flat.argmax(-1)  # the first of equal values, in reading order
    y = np.take_along_axis(flat, winner[..., None], -1)[..., 0]
    width = layer.kernel_size[1]
    return y, lambda g, _: scatter(lambda a, b: g * (winner == a * width + b))


def avg_pool2d(layer: AvgPool2d, x: Array) -> tuple[Array, Backward]:
    """The mean of each window, by what of it lies on the padded image."""
    windows, scatter = windows_of(layer, x, 0.0)
    counts = np.outer(*layer.window_sizes(x.shape))
    return windows.sum((4, 5)) / counts, lambda g, _: scatter(lambda a, b: g / counts)
