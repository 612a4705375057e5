"""The net as a program of its own, as MindSpore people would write it; mindspore is not needed for writing it."""

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
    ReLU,
    SEBlock,
    SKBlock,
    TracedLayer,
)

NOTE = """\
Where a processor has AVX-512, MindSpore's convolutions are a hundred times faster with
the environment variable ONEDNN_MAX_CPU_ISA=AVX2.
"""

PROGRAM = '''\
$docstring

import sys
from collections import OrderedDict

import mindspore
import numpy as np
from mindspore import Tensor, nn
from mindspore.common.initializer import initializer


def sequential(**layers):
    """Layers one after another, each under its name."""
    return nn.SequentialCell(OrderedDict(layers))


${functions}def make_net():
    """The net, with Xavier's uniform weights and biases of 0."""
$net
    for parameter in net.trainable_params():
        kind = "xavier_uniform" if parameter.ndim > 1 else "zeros"
        parameter.set_data(initializer(kind, parameter.shape))
    return net


def print_shapes(net):
    """What comes out of each layer, for one image."""
    x = Tensor(np.random.rand($shape).astype("float32"))
    for name, layer in net.name_cells().items():
        x = layer(x)
        print(f"{name:$width}  {x.shape}")


def train(net, x, y, epochs=10, batch_size=128, lr=0.1):
    """Train by SGD on images x (N, C, H, W) and labels y (N,), arrays of NumPy."""
    x, y = x.astype("float32"), y.astype("int32")
    n = len(x)
    loss_function = nn.CrossEntropyLoss()
    optimizer = nn.SGD(net.trainable_params(), lr)

    def forward(images, labels):
        scores = net(images)
        return loss_function(scores, labels), scores

    step = mindspore.value_and_grad(forward, None, optimizer.parameters, has_aux=True)
    step = mindspore.jit(step)  # from here on it is a graph
    net.set_train()
    for epoch in range(1, epochs + 1):
        loss_sum = correct = 0
        order = np.random.permutation(n)
        for start in range(0, n, batch_size):
            batch = order[start : start + batch_size]
            images, labels = Tensor(x[batch]), Tensor(y[batch])
            (loss, scores), gradients = step(images, labels)
            optimizer(gradients)
            loss_sum += loss.item() * len(batch)
            correct += (scores.argmax(1) == labels).sum().item()
        print(f"epoch {epoch}: loss {loss_sum / n:.3f}, accuracy {correct / n:.3f}")


def load_weights(net, path):
    """Take the weights of a run of `nin_multi train`: its weights.safetensors."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    for name, parameter in net.parameters_and_names():
        parameter.set_data(Tensor(arrays[name]))
'''

DEFINITIONS = {
    "conv2d": '''
def conv2d(before, after, kernel_size, stride=1, padding=0, bias=True):
    """A convolution; by itself, MindSpore pads to the same size and has no bias."""
    return nn.Conv2d(before, after, kernel_size, stride, "pad", padding, has_bias=bias)
''',
    "GlobalAvgPool": '''
class GlobalAvgPool(nn.Cell):
    """Mean over height and width, for which MindSpore has no layer on the CPU."""

    def construct(self, x):
        return x.mean((2, 3), keep_dims=True)
''',
    "Maxout": '''
class Maxout(nn.Cell):
    """The largest of each group of channels that follow one another."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces

    def construct(self, x):
        n, channels, *size = x.shape
        groups = x.reshape((n, channels // self.pieces, self.pieces, *size))
        return mindspore.ops.max(groups, 2)[0]
''',
    "LocalResponseNorm": '''
class LocalResponseNorm(nn.Cell):
    """Normalization by neighbouring channels; MindSpore's own may fail on a CPU."""

    def __init__(self, channels, size, alpha, beta, k):
        super().__init__()
        self.alpha, self.beta, self.k = alpha, beta, k
        distance = np.abs(np.arange(channels)[:, None] - np.arange(channels))
        self.neighbours = Tensor((distance <= size // 2).astype("float32"))

    def construct(self, x):
        squares = mindspore.ops.square(x).reshape((x.shape[0], x.shape[1], -1))
        sums = mindspore.ops.matmul(self.neighbours, squares).reshape(x.shape)
        # In float64: the exponential is not exact in float32, and the power slow.
        divisor = (self.k + self.alpha * sums).astype(mindspore.float64)
        power = mindspore.ops.exp(-self.beta * mindspore.ops.log(divisor))
        return x * power.astype(x.dtype)
''',
    "SEBlock": '''
class SEBlock(nn.Cell):
    """Squeeze and excitation: every channel times a number between 0 and 1."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.reduce = nn.Dense(channels, squeezed)
        self.expand = nn.Dense(squeezed, channels)

    def construct(self, x):
        z = mindspore.ops.relu(self.reduce(x.mean((2, 3))))
        # In float64: the sigmoid is not exact in float32.
        scores = self.expand(z).astype(mindspore.float64)
        gates = mindspore.ops.sigmoid(scores).astype(x.dtype)
        return x * gates.reshape((*gates.shape, 1, 1))
''',
    "SKBlock": '''
class SKBlock(nn.Cell):
    """Selective kernels: a mean of branches, weighed for every channel."""

    def __init__(self, in_channels, out_channels, kernel_sizes, squeezed, stride=1):
        super().__init__()
        self.branches = tuple(
            nn.Conv2d(
                in_channels, out_channels, size, stride, "pad", size // 2, has_bias=True
            )
            for size in kernel_sizes
        )
        self.selects = tuple(nn.Dense(squeezed, out_channels) for _ in kernel_sizes)
        for i, branch in enumerate(self.branches, start=1):
            self.insert_child_to_cell(f"branch{i}", branch)
        self.reduce = nn.Dense(out_channels, squeezed)
        for i, select in enumerate(self.selects, start=1):
            self.insert_child_to_cell(f"select{i}", select)

    def construct(self, x):
        images = [mindspore.ops.relu(branch(x)) for branch in self.branches]
        z = mindspore.ops.relu(self.reduce(mindspore.ops.addn(images).mean((2, 3))))
        scores = mindspore.ops.stack([select(z) for select in self.selects], 1)
        # In float64: the exponential is not exact in float32.
        shares = mindspore.ops.softmax(scores.astype(mindspore.float64), 1)
        shares = shares.astype(x.dtype).expand_dims(3).expand_dims(4)
        weights = mindspore.ops.unstack(shares, 1)
        weighed = [weights[i] * image for i, image in enumerate(images)]
        return mindspore.ops.addn(weighed)
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
                stride=unless(pair(layer.stride), 1),
                padding=unless(write_padding(layer.padding), 0),
                bias=unless(layer.bias, True),
            )
        case ReLU():
            return call("nn.ReLU")
        case MaxPool2d() | AvgPool2d():
            is_plain = layer.padding == (0, 0) and not layer.ceil_mode  # as the default pad_mode "valid" has it
            return call(
                "nn.MaxPool2d" if isinstance(layer, MaxPool2d) else "nn.AvgPool2d",
                kernel_size=pair(layer.kernel_size),
                stride=pair(layer.stride),
                pad_mode=None if is_plain else '"pad"',
                padding=unless(pair(layer.padding), 0),
                ceil_mode=unless(layer.ceil_mode, False),
            )
        case Dropout():
            return call("nn.Dropout", p=layer.rate)
        case GlobalAvgPool2d():
            return call("GlobalAvgPool")
        case Flatten():
            return call("nn.Flatten")
        case Linear():
            return call("nn.Dense", traced.input[1], layer.out_features, has_bias=unless(layer.bias, True))
        case Maxout():
            return call("Maxout", layer.pieces)
        case LocalResponseNorm():
            return call(
                "LocalResponseNorm",
                traced.input[1],
                layer.size,
                alpha=layer.alpha,
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
            raise unsupported("mindspore", traced)


def write_convolution(before: Code, after: Code, *window: Code, **settings: Code | None) -> Call:
    """A convolution, of numbers or of names."""
    return call("conv2d", before, after, *window, **settings)


def write_padding(padding: tuple[int, int]) -> Code:
    """A convolution's, which MindSpore has as one number or as four: top, bottom, left, right."""
    rows, columns = padding
    return rows if rows == columns else (rows, rows, columns, columns)


DIALECT = Dialect(
    "mindspore",
    "MindSpore",
    PROGRAM,
    write_layer,
    write_convolution,
    padding=write_padding,
    definitions=DEFINITIONS,
    note=NOTE,
)
