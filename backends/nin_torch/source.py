"""The net as a program of its own, as PyTorch people would write it; torch is not needed for writing it."""

from __future__ import annotations

from dataclasses import replace

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
from nin_torch.forms import convolutions, has_slices

PROGRAM = '''\
$docstring

import sys
from collections import OrderedDict

import numpy as np
import torch
from torch import nn


def sequential(**layers):
    """Layers one after another, each under its name."""
    return nn.Sequential(OrderedDict(layers))


${functions}def make_net():
    """The net, with Xavier's uniform weights and biases of 0."""
$net
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return net


def print_shapes(net):
    """What comes out of each layer, for one image."""
    x = torch.rand($shape)
    for name, layer in net.named_children():
        x = layer(x)
        print(f"{name:$width}  {tuple(x.shape)}")


def train(net, x, y, epochs=10, batch_size=128, lr=0.1):
    """Train by SGD on images x (N, C, H, W) and labels y (N,), arrays of NumPy."""
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.int64)
    n = len(x)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr)
    net.train()
    for epoch in range(1, epochs + 1):
        loss_sum = correct = 0
        order = np.random.permutation(n)
        for start in range(0, n, batch_size):
            batch = order[start : start + batch_size]
            images, labels = x[batch], y[batch]
            scores = net(images)
            loss = loss_function(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
            correct += (scores.argmax(1) == labels).sum().item()
        print(f"epoch {epoch}: loss {loss_sum / n:.3f}, accuracy {correct / n:.3f}")


def load_weights(net, path):
    """Take the weights of a run of `nin_multi train`: its weights.safetensors."""
    from safetensors.torch import load_file

    net.load_state_dict(load_file(path))
'''

DEFINITIONS = {
    "SlicedConv2d": '''
class SlicedConv2d(nn.Conv2d):
    """`nn.Conv2d` that leaves pixels out first where its stride allows it.

    There PyTorch's own may be wrong on a CPU: with AVX-512 where the kernel has one
    place, with AVX2 in the gradient of a 1x1 kernel (seen with 2.13 and oneDNN).
    """

    def forward(self, x):
        (kh, kw), (down, right), (ph, pw) = self.kernel_size, self.stride, self.padding
        padded = nn.functional.pad(x, (pw, pw, ph, ph))
        one_row = down > 1 and padded.shape[2] < kh + down
        one_column = right > 1 and padded.shape[3] < kw + right
        if (kh, kw) == (1, 1) and self.stride != (1, 1):
            padded, down, right = padded[:, :, ::down, ::right], 1, 1
        elif one_row or one_column:
            rows, down = (kh, 1) if one_row else (None, down)
            columns, right = (kw, 1) if one_column else (None, right)
            padded = padded[:, :, :rows, :columns]
        else:
            return super().forward(x)
        return nn.functional.conv2d(padded, self.weight, self.bias, (down, right))
''',
    "Maxout": '''
class Maxout(nn.Module):
    """The largest of each group of channels that follow one another."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces

    def forward(self, x):
        return x.unflatten(1, (-1, self.pieces)).max(dim=2).values
''',
    "SEBlock": '''
class SEBlock(nn.Module):
    """Squeeze and excitation: every channel times a number between 0 and 1."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.reduce = nn.Linear(channels, squeezed)
        self.expand = nn.Linear(squeezed, channels)

    def forward(self, x):
        z = self.reduce(x.mean((2, 3))).relu()
        gates = self.expand(z).sigmoid()
        return x * gates[:, :, None, None]
''',
    "SKBlock": '''
class SKBlock(nn.Module):
    """Selective kernels: a mean of branches, weighed for every channel."""

    def __init__(self, in_channels, out_channels, kernel_sizes, squeezed, stride=1):
        super().__init__()
        self.count = len(kernel_sizes)
        for i, size in enumerate(kernel_sizes, start=1):
            branch = nn.Conv2d(in_channels, out_channels, size, stride, size // 2)
            self.add_module(f"branch{i}", branch)
        self.reduce = nn.Linear(out_channels, squeezed)
        for i in range(1, self.count + 1):
            self.add_module(f"select{i}", nn.Linear(squeezed, out_channels))

    def each(self, name):
        return [self.get_submodule(f"{name}{i}") for i in range(1, self.count + 1)]

    def forward(self, x):
        images = [branch(x).relu() for branch in self.each("branch")]
        z = self.reduce(sum(images).mean((2, 3))).relu()
        scores = torch.stack([select(z) for select in self.each("select")], 1)
        weights = scores.softmax(1)[..., None, None].unbind(1)
        return sum(w * image for w, image in zip(weights, images, strict=True))
''',
}


def source(architecture: Architecture) -> str:
    """A program that makes, shows and trains the net. Raises UnsupportedLayer."""
    is_sliced = any(
        has_slices(layer, traced.input[2:]) for traced in architecture.walk() for _, layer in convolutions(traced)
    )
    return write_program(architecture, SLICED if is_sliced else DIALECT)


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
            return call("nn.ReLU")
        case MaxPool2d() | AvgPool2d():
            return call(
                "nn.MaxPool2d" if isinstance(layer, MaxPool2d) else "nn.AvgPool2d",
                kernel_size=pair(layer.kernel_size),
                stride=pair(layer.stride),
                padding=unless(pair(layer.padding), 0),
                ceil_mode=unless(layer.ceil_mode, False),
            )
        case Dropout():
            return call("nn.Dropout", p=layer.rate)
        case GlobalAvgPool2d():
            return call("nn.AdaptiveAvgPool2d", 1)
        case Flatten():
            return call("nn.Flatten")
        case Linear():
            return call("nn.Linear", traced.input[1], layer.out_features, bias=unless(layer.bias, True))
        case Maxout():
            return call("Maxout", layer.pieces)
        case LocalResponseNorm():
            return call(
                "nn.LocalResponseNorm",
                layer.size,
                alpha=f"{layer.size} * {layer.alpha!r}",  # it is divided by the size
                beta=unless(layer.beta, 0.75),
                k=unless(layer.k, 1.0),
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
            raise unsupported("torch", traced)


def write_convolution(before: Code, after: Code, *window: Code, **settings: Code | None) -> Call:
    """A convolution, of numbers or of names."""
    return call("nn.Conv2d", before, after, *window, **settings)


def _sliced(made: Call) -> Call:
    return replace(made, function="SlicedConv2d") if made.function == "nn.Conv2d" else made


DIALECT = Dialect("torch", "PyTorch", PROGRAM, write_layer, write_convolution, definitions=DEFINITIONS)
# For a net with a stride that `nn.Conv2d` cannot be trusted with.
SLICED = replace(
    DIALECT,
    layer=lambda traced: _sliced(write_layer(traced)),
    convolution=lambda *values, **settings: _sliced(write_convolution(*values, **settings)),
    definitions={name: text.replace(" nn.Conv2d(", " SlicedConv2d(") for name, text in DEFINITIONS.items()},
)
