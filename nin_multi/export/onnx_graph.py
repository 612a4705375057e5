"""An architecture as an ONNX graph for inference: which operators a layer is made of; not the file around them.

Tensors are called what the spec calls layers and parameters; a block's output is that of the last layer inside. What
has no name there is a layer's, with a dot and a word behind it. All operators are those of opset 17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from nin_multi.backend import Params, unsupported
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
    NinBlock,
    Pool2d,
    ReLU,
    SEBlock,
    Shape,
    SKBlock,
    TracedLayer,
)

IMAGES = "images"


@dataclass
class Nodes:
    """What a graph consists of so far: nodes in the order of computing, and the tensors that they begin with."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, to: str, **attributes: Any) -> str:
        """An operator whose one output is called `to`: that name again."""
        self.nodes.append(helper.make_node(operator, inputs, [to], name=to, **attributes))
        return to

    def numbers(self, name: str, *values: int) -> str:
        """A constant of whole numbers, such as a shape or axes: its name."""
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name


def make_graph(architecture: Architecture, params: Params) -> GraphProto:
    """The graph with its weights: float32 images (N, C, H, W) to logits (N, classes). Raises UnsupportedLayer.

    Dropout is left out: it does nothing in inference.
    """
    built, layers = Nodes(), architecture.trace()
    images = x = _free_name(IMAGES, {traced.name for traced in layers})
    for traced in layers:
        x = put_layer(built, traced, x)
    weights = [numpy_helper.from_array(np.ascontiguousarray(params[name]), name) for name in params]
    made = {name for node in built.nodes for name in node.output}
    inside = [_value(row.name, row.output) for row in architecture.walk() if row.name in made - {x}]
    entry, last = _value(images, layers[0].input), _value(x, layers[-1].output)
    return helper.make_graph(
        built.nodes, architecture.name, [entry], [last], [*weights, *built.constants], value_info=inside
    )


def put_layer(built: Nodes, traced: TracedLayer, x: str) -> str:
    """Add one layer that takes the tensor x; the name of what comes out. Raises UnsupportedLayer."""
    layer, name = traced.layer, traced.name
    match layer:
        case Conv2d():
            return _put_convolution(built, layer, name, x)
        case ReLU():
            return built.add("Relu", x, to=name)
        case MaxPool2d():
            pads = _pads(layer.padding, layer.overhang(traced.input))  # none of them ever wins
            return built.add("MaxPool", x, to=name, **_window(layer), pads=pads)
        case AvgPool2d():
            return _put_average(built, layer, traced, x)
        case Dropout():
            return x
        case GlobalAvgPool2d():
            return built.add("GlobalAveragePool", x, to=name)
        case Flatten():
            return built.add("Flatten", x, to=name, axis=1)
        case Linear():
            return _put_linear(built, name, name, x, bias=layer.bias)
        case NinBlock():
            for part in traced.inner:
                x = put_layer(built, part, x)
            return x
        case Maxout():
            pieces = built.numbers(f"{name}.shape", 0, traced.output[1], layer.pieces, *traced.output[2:])
            split = built.add("Reshape", x, pieces, to=f"{name}.pieces")  # 0: as many images as there are
            return built.add("ReduceMax", split, to=name, axes=[2], keepdims=0)
        case LocalResponseNorm():  # ONNX divides alpha by the size, the spec does not
            alpha = layer.alpha * layer.size
            return built.add("LRN", x, to=name, size=layer.size, alpha=alpha, beta=layer.beta, bias=layer.k)
        case SEBlock():
            return _put_se(built, name, x)
        case SKBlock():
            return _put_sk(built, layer, name, x)
        case _:
            raise unsupported("onnx", traced)


def _put_convolution(built: Nodes, layer: Conv2d, name: str, x: str, parameters: str = "") -> str:
    """`parameters` is what their names begin with, where that is not the output's name."""
    held = parameters or name
    inputs = [x, f"{held}.weight", *([f"{held}.bias"] if layer.bias else [])]
    return built.add("Conv", *inputs, to=name, **_window(layer), pads=_pads(layer.padding), dilations=[1, 1], group=1)


def _put_linear(built: Nodes, parameters: str, name: str, x: str, *, bias: bool = True) -> str:
    inputs = [x, f"{parameters}.weight", *([f"{parameters}.bias"] if bias else [])]
    return built.add("Gemm", *inputs, to=name, alpha=1.0, beta=1.0, transA=0, transB=1)


def _put_average(built: Nodes, layer: AvgPool2d, traced: TracedLayer, x: str) -> str:
    """Padding counts and what lies beyond it does not: where there is both, the padding becomes part of the image."""
    name, overhang = traced.name, layer.overhang(traced.input)
    if overhang == (0, 0):
        pads, counted = _pads(layer.padding), 1
    else:
        pads, counted = _pads((0, 0), overhang), 0
        if layer.padding != (0, 0):
            (ph, pw), width = layer.padding, f"{name}.padding"
            x = built.add("Pad", x, built.numbers(width, 0, 0, ph, pw, 0, 0, ph, pw), to=f"{name}.padded")
    return built.add("AveragePool", x, to=name, **_window(layer), pads=pads, count_include_pad=counted)


def _put_se(built: Nodes, name: str, x: str) -> str:
    squeezed = _put_squeezed(built, name, x)
    expanded = _put_linear(built, f"{name}.expand", f"{name}.expanded", squeezed)
    gates = built.add("Sigmoid", expanded, to=f"{name}.gates")
    axes = built.numbers(f"{name}.axes", 2, 3)
    return built.add("Mul", x, built.add("Unsqueeze", gates, axes, to=f"{name}.weights"), to=name)


def _put_sk(built: Nodes, layer: SKBlock, name: str, x: str) -> str:
    """All branches stand in an axis of their own, the second: (N, branches, C, H, W)."""
    branch_axis = built.numbers(f"{name}.branch_axis", 1)

    def stack(what: str, parts: Sequence[str]) -> str:
        apart = [built.add("Unsqueeze", part, branch_axis, to=f"{part}.apart") for part in parts]
        return built.add("Concat", *apart, to=f"{name}.{what}", axis=1)

    branches = []
    for branch in layer.branches():
        said = f"{name}.{branch.name}"
        convolved = _put_convolution(built, branch, f"{said}.convolved", x, said)
        branches.append(built.add("Relu", convolved, to=f"{said}.relu"))
    z = _put_squeezed(built, name, built.add("Sum", *branches, to=f"{name}.sum"))
    names = [f"{name}.select{i}" for i, _ in enumerate(branches, start=1)]
    scores = stack("scores", [_put_linear(built, select, f"{select}.scores", z) for select in names])
    shares = built.add("Softmax", scores, to=f"{name}.shares", axis=1)
    shares = built.add("Unsqueeze", shares, built.numbers(f"{name}.axes", 3, 4), to=f"{name}.weights")
    weighed = built.add("Mul", stack("branches", branches), shares, to=f"{name}.weighed")
    return built.add("ReduceSum", weighed, branch_axis, to=name, keepdims=0)


def _put_squeezed(built: Nodes, name: str, x: str) -> str:
    """The channels' means (N, C) through the linear map `reduce` and a ReLU."""
    means = built.add("GlobalAveragePool", x, to=f"{name}.means")
    flat = built.add("Flatten", means, to=f"{name}.squeezed", axis=1)
    return built.add("Relu", _put_linear(built, f"{name}.reduce", f"{name}.reduced", flat), to=f"{name}.relu")


def _window(layer: Conv2d | Pool2d) -> dict[str, list[int]]:
    return {"kernel_shape": list(layer.kernel_size), "strides": list(layer.stride)}


def _pads(padding: tuple[int, int], overhang: tuple[int, int] = (0, 0)) -> list[int]:
    """Top, left, bottom, right. ONNX's own ceil mode is left alone: it keeps windows outside the image."""
    (ph, pw), (down, right) = padding, overhang
    return [ph, pw, ph + down, pw + right]


def _value(name: str, shape: Shape) -> ValueInfoProto:
    """A float32 tensor for any number of images."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape[1:]])


def _free_name(word: str, taken: set[str]) -> str:
    while word in taken:
        word += "_"
    return word
