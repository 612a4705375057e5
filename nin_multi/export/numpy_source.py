"""The net as a program of its own in plain NumPy, with its backward pass written out; not the oracle's code."""

from __future__ import annotations

from nin_multi.backend import unsupported
from nin_multi.export.calls import Call, Code, call, pair, unless
from nin_multi.export.dialect import Dialect
from nin_multi.export.numpy_layers import DEFINITIONS
from nin_multi.export.program import write_program
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
Every layer's forward and backward pass stand here in float64, as they are defined:
made to be read, not to be fast.
"""

PROGRAM = '''\
$docstring

import sys

import numpy as np


class Layer:
    """Takes x to y; and the gradient of the loss by y to that by x."""

    def __init__(self, children=None):
        self.children = children or {}  # the layers inside, by name
        self.parameters = {}  # arrays by name; they change in place
        self.gradients = {}  # of the loss by these, after backward
        self.training = False

    def train(self, training=True):
        """Say to this layer and those inside whether they are being trained."""
        self.training = training
        for child in self.children.values():
            child.train(training)

    def named_layers(self, prefix=""):
        """This layer and those inside, each with what its arrays' names begin with."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.named_layers(f"{prefix}{name}.")

    def named_parameters(self):
        """All arrays to be learned, by name."""
        return {
            prefix + name: array
            for prefix, layer in self.named_layers()
            for name, array in layer.parameters.items()
        }

    def step(self, lr):
        """Move every array against its gradient."""
        for _, layer in self.named_layers():
            for name, array in layer.parameters.items():
                array -= lr * layer.gradients[name]


class Sequential(Layer):
    """Layers one after another."""

    def forward(self, x):
        for child in self.children.values():
            x = child.forward(x)
        return x

    def backward(self, g):
        for child in reversed(self.children.values()):
            g = child.backward(g)
        return g


def sequential(**layers):
    """Layers one after another, each under its name."""
    return Sequential(layers)


${functions}def cross_entropy(scores, labels):
    """Mean loss of scores (N, classes) and labels (N,), and its gradient by scores."""
    shifted = scores - scores.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    each = np.arange(len(labels))
    gradient = np.exp(logs)
    gradient[each, labels] -= 1
    return -logs[each, labels].mean(), gradient / len(labels)


def make_net():
    """The net, with Xavier's uniform weights and biases of 0."""
$net
    for array in net.named_parameters().values():
        if array.ndim > 1:
            fans = (array.shape[0] + array.shape[1]) * np.prod(array.shape[2:])
            bound = np.sqrt(6 / fans)
            array[...] = np.random.uniform(-bound, bound, array.shape)
    return net


def print_shapes(net):
    """What comes out of each layer, for one image."""
    x = np.random.rand($shape)
    for name, layer in net.children.items():
        x = layer.forward(x)
        print(f"{name:$width}  {x.shape}")


def train(net, x, y, epochs=10, batch_size=128, lr=0.1):
    """Train by SGD on images x (N, C, H, W) and labels y (N,), arrays of NumPy."""
    n = len(x)
    net.train()
    for epoch in range(1, epochs + 1):
        loss_sum = correct = 0
        order = np.random.permutation(n)
        for start in range(0, n, batch_size):
            batch = order[start : start + batch_size]
            images, labels = x[batch].astype("float64"), y[batch]
            scores = net.forward(images)
            loss, gradient = cross_entropy(scores, labels)
            net.backward(gradient)
            net.step(lr)
            loss_sum += loss * len(batch)
            correct += (scores.argmax(1) == labels).sum()
        print(f"epoch {epoch}: loss {loss_sum / n:.3f}, accuracy {correct / n:.3f}")


def load_weights(net, path):
    """Take the weights of a run of `nin_multi train`: its weights.safetensors."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    for name, array in net.named_parameters().items():
        array[...] = arrays[name]
'''


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
                padding=unless(pair(layer.padding), 0),
                bias=unless(layer.bias, True),
            )
        case ReLU():
            return call("ReLU")
        case MaxPool2d() | AvgPool2d():
            return call(
                "MaxPool2d" if isinstance(layer, MaxPool2d) else "AvgPool2d",
                kernel_size=pair(layer.kernel_size),
                stride=pair(layer.stride),
                padding=unless(pair(layer.padding), 0),
                overhang=unless(layer.overhang(traced.input), (0, 0)),
            )
        case Dropout():
            return call("Dropout", p=layer.rate)
        case GlobalAvgPool2d():
            return call("GlobalAvgPool2d")
        case Flatten():
            return call("Flatten")
        case Linear():
            return call("Linear", traced.input[1], layer.out_features, bias=unless(layer.bias, True))
        case Maxout():
            return call("Maxout", pieces=layer.pieces)
        case LocalResponseNorm():
            return call("LocalResponseNorm", size=layer.size, alpha=layer.alpha, beta=layer.beta, k=layer.k)
        case SEBlock():
            return call("SEBlock", traced.input[1], middle=layer.squeezed(traced.input[1]))
        case SKBlock():
            return call(
                "SKBlock",
                traced.input[1],
                layer.out_channels,
                kernel_sizes=layer.kernel_sizes,
                middle=layer.squeezed,
                stride=unless(pair(layer.stride), 1),
            )
        case _:
            raise unsupported("numpy", traced)


def write_convolution(before: Code, after: Code, *window: Code, **settings: Code | None) -> Call:
    """A convolution, of numbers or of names."""
    return call("Conv2d", before, after, *window, **settings)


DIALECT = Dialect("numpy", "NumPy", PROGRAM, write_layer, write_convolution, definitions=DEFINITIONS, note=NOTE)
