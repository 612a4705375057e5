"""The net as a program of its own, as Gluon people would write it; mxnet is not needed for writing it."""

from __future__ import annotations

from nin_multi.backend import unsupported
from nin_multi.export import Call, Code, Dialect, call, pair, unless, write_program
from nin_multi.spec import (
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    LocalResponseNorm,
    Maxout,
    MaxPool2d,
    Pool2d,
    ReLU,
    SEBlock,
    SKBlock,
    TracedLayer,
)

PROGRAM = '''\
$docstring

import sys

import numpy as np

if "bool" not in vars(np):  # MXNet 1.9.1 needs it, and NumPy 1.24 took it away
    np.bool = bool

import mxnet as mx
from mxnet import autograd, gluon, init, npx
from mxnet.gluon import nn

npx.set_np()


def sequential(**layers):
    """Layers one after another, each under its name."""
    net = nn.HybridSequential()
    for name, layer in layers.items():
        net.register_child(layer, name)
    return net


${functions}def make_net():
    """The net, with Xavier's uniform weights and biases of 0."""
$net
    net.initialize(init.Xavier())
    return net


def print_shapes(net):
    """What comes out of each layer, for one image."""
    x = mx.np.random.uniform(size=($shape))
    for name, layer in net._children.items():
        x = layer(x)
        print(f"{name:$width}  {x.shape}")


def train(net, x, y, epochs=10, batch_size=128, lr=0.1):
    """Train by SGD on images x (N, C, H, W) and labels y (N,), arrays of NumPy."""
    x, y = mx.np.array(x, dtype="float32"), mx.np.array(y, dtype="int64")
    n = len(x)
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})
    net.hybridize()  # from here on it is a graph
    for epoch in range(1, epochs + 1):
        loss_sum = correct = 0
        order = np.random.permutation(n)
        for start in range(0, n, batch_size):
            batch = order[start : start + batch_size]
            images, labels = x[batch], y[batch]
            with autograd.record():
                scores = net(images)
                loss = loss_function(scores, labels)
            loss.backward()
            trainer.step(len(batch))
            loss_sum += loss.sum().item()
            correct += (scores.argmax(1) == labels).sum().item()
        print(f"epoch {epoch}: loss {loss_sum / n:.3f}, accuracy {correct / n:.3f}")


def load_weights(net, path):
    """Take the weights of a run of `nin_multi train`: its weights.safetensors."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    for name, parameter in net._collect_params_with_prefix().items():
        parameter.set_data(mx.np.array(arrays[name]))
'''

DEFINITIONS = {
    "CeilMaxPool2D": '''
class CeilMaxPool2D(gluon.HybridBlock):
    """Max pooling that rounds up; unlike MXNet's, with no window outside the image."""

    def __init__(self, kernel, stride, padding, overhang):
        super().__init__()
        (ph, pw), (down, right) = padding, overhang
        self.extended = (0, 0, 0, 0, ph, ph + down, pw, pw + right)
        self.window = {"kernel": kernel, "stride": stride, "pool_type": "max"}

    def hybrid_forward(self, F, x):
        # The older operator: that of F.np takes 0 for all values (1.9.1).
        x = F.pad(x.as_nd_ndarray(), "constant", self.extended, constant_value=-3e38)
        return F.npx.pooling(x.as_np_ndarray(), **self.window)
''',
    "CeilAvgPool2D": '''
class CeilAvgPool2D(gluon.HybridBlock):
    """Average pooling that rounds up; unlike MXNet's, over the padded image only."""

    def __init__(self, kernel, stride, padding, overhang):
        super().__init__()
        (ph, pw), (down, right) = padding, overhang
        self.padding = ((0, 0), (0, 0), (ph, ph), (pw, pw))
        self.overhang = ((0, 0), (0, 0), (0, down), (0, right))
        self.window = {"kernel": kernel, "stride": stride, "pool_type": "avg"}

    def hybrid_forward(self, F, x):
        x = F.np.pad(x, self.padding)
        mean, share = (
            F.npx.pooling(F.np.pad(y, self.overhang), **self.window)
            for y in (x, F.np.ones_like(x))
        )
        return mean / share
''',
    "Maxout": '''
class Maxout(gluon.HybridBlock):
    """The largest of each group of channels that follow one another."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces

    def hybrid_forward(self, F, x):
        largest = x[:, :: self.pieces]
        for i in range(1, self.pieces):
            largest = F.np.maximum(largest, x[:, i :: self.pieces])
        return largest
''',
    "LocalResponseNorm": '''
class LocalResponseNorm(gluon.HybridBlock):
    """Normalization by neighbouring channels."""

    def __init__(self, size, alpha, beta, k):
        super().__init__()
        self.settings = {"nsize": size, "alpha": alpha, "beta": beta, "knorm": k}

    def hybrid_forward(self, F, x):
        return F.LRN(x.as_nd_ndarray(), **self.settings).as_np_ndarray()
''',
    "SEBlock": '''
class SEBlock(gluon.HybridBlock):
    """Squeeze and excitation: every channel times a number between 0 and 1."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.reduce = nn.Dense(squeezed, "relu", in_units=channels)
        self.expand = nn.Dense(channels, "sigmoid", in_units=squeezed)

    def hybrid_forward(self, F, x):
        means = F.npx.pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg")
        gates = self.expand(self.reduce(means))
        return x * F.npx.reshape(gates, (-2, -2, 1, 1))
''',
    "SKBlock": '''
class SKBlock(gluon.HybridBlock):
    """Selective kernels: a mean of branches, weighed for every channel."""

    def __init__(self, in_channels, out_channels, kernel_sizes, squeezed, stride=1):
        super().__init__()
        self.count = len(kernel_sizes)
        for i, size in enumerate(kernel_sizes, start=1):
            settings = {"padding": size // 2, "in_channels": in_channels}
            branch = nn.Conv2D(
                out_channels, size, stride, activation="relu", **settings
            )
            self.register_child(branch, f"branch{i}")
        self.reduce = nn.Dense(squeezed, "relu", in_units=out_channels)
        for i in range(1, self.count + 1):
            select = nn.Dense(out_channels, in_units=squeezed)
            self.register_child(select, f"select{i}")

    def each(self, name):
        return [self._children[f"{name}{i}"] for i in range(1, self.count + 1)]

    def hybrid_forward(self, F, x):
        images = [branch(x) for branch in self.each("branch")]
        means = F.npx.pooling(
            sum(images), kernel=(1, 1), global_pool=True, pool_type="avg"
        )
        z = self.reduce(means)
        scores = F.np.stack([select(z) for select in self.each("select")], 1)
        weights = F.npx.reshape(F.npx.softmax(scores, axis=1), (-2, -2, -2, 1, 1))
        return sum(weights[:, i] * image for i, image in enumerate(images))
''',
}


def source(architecture: Architecture) -> str:
    """A program that makes, shows and trains the net. Raises UnsupportedLayer."""
    return write_program(architecture, DIALECT)


def write_layer(traced: TracedLayer) -> Call:
    """One layer. Raises UnsupportedLayer for a type that has no form here."""
    layer = traced.layer
    match layer:
        case Conv2d():
            return write_convolution(
                traced.input[1],
                layer.out_channels,
                kernel_size=pair(layer.kernel_size),
                strides=unless(pair(layer.stride), 1),
                padding=unless(pair(layer.padding), 0),
                use_bias=unless(layer.bias, True),
            )
        case ReLU():
            return call("nn.Activation", '"relu"')
        case MaxPool2d():
            if layer.overhang(traced.input) == (0, 0):
                return _write_pool("nn.MaxPool2D", layer)
            if _rounds_up_alike(layer, traced):
                return _write_pool("nn.MaxPool2D", layer, ceil_mode=True)
            return _write_ceil_pool("CeilMaxPool2D", layer, traced)
        case AvgPool2d():
            if layer.overhang(traced.input) == (0, 0):
                return _write_pool("nn.AvgPool2D", layer)
            return _write_ceil_pool("CeilAvgPool2D", layer, traced)
        case Dropout():
            return call("nn.Dropout", rate=layer.rate)
        case GlobalAvgPool2d():
            return call("nn.GlobalAvgPool2D")
        case Flatten():
            return call("nn.Flatten")
        case Linear():
            return call("nn.Dense", layer.out_features, use_bias=unless(layer.bias, True), in_units=traced.input[1])
        case Maxout():
            return call("Maxout", layer.pieces)
        case LocalResponseNorm():
            return call(
                "LocalResponseNorm",
                layer.size,
                alpha=f"{layer.size} * {layer.alpha!r}",  # it is divided by the size
                beta=layer.beta,
                k=layer.k,
            )
        case SEBlock():
            channels = traced.input[1]
            return call("SEBlock", channels, layer.squeezed(channels))
        case SKBlock():
            return call(
                "SKBlock",
                traced.input[1],
                layer.out_channels,
                layer.kernel_sizes,
                layer.squeezed,
                stride=unless(pair(layer.stride), 1),
            )
        case _:
            raise unsupported("mxnet", traced)


def write_convolution(before: Code, after: Code, *window: Code, **settings: Code | None) -> Call:
    """A convolution, of numbers or of names."""
    return call("nn.Conv2D", after, *window, **settings, in_channels=before)


def _write_pool(name: str, layer: Pool2d, **more: Code | None) -> Call:
    return call(
        name,
        pool_size=pair(layer.kernel_size),
        strides=pair(layer.stride),
        padding=unless(pair(layer.padding), 0),
        **more,
    )


def _write_ceil_pool(name: str, layer: Pool2d, traced: TracedLayer) -> Call:
    return call(
        name,
        kernel=layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        overhang=layer.overhang(traced.input),
    )


def _rounds_up_alike(layer: Pool2d, traced: TracedLayer) -> bool:
    """Whether MXNet's ceil mode finds as many windows: it keeps one that begins beyond the image, too."""
    sizes = zip(traced.input[2:], layer.kernel_size, layer.stride, layer.padding, strict=True)
    counts = tuple(-(-(size + 2 * pad - kernel) // stride) + 1 for size, kernel, stride, pad in sizes)
    return counts == traced.output[2:]


DIALECT = Dialect("mxnet", "MXNet Gluon", PROGRAM, write_layer, write_convolution, definitions=DEFINITIONS)
