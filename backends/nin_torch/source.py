"""The net as a program of its own, as PyTorch people would write it; torch is not needed for writing it."""

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
    MaxPool2d,
    ReLU,
    TracedLayer,
)

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
        case _:
            raise unsupported("torch", traced)


def write_convolution(before: Code, after: Code, *window: Code, **settings: Code | None) -> Call:
    """A convolution, of numbers or of names."""
    return call("nn.Conv2d", before, after, *window, **settings)


DIALECT = Dialect("torch", "PyTorch", PROGRAM, write_layer, write_convolution)
