"""A layer in its place in a net: its full name, what goes in, what comes out and what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nin_multi.spec.fields import Shape
from nin_multi.spec.layer_types import Layer


@dataclass(frozen=True)
class TracedLayer:
    """One layer in its place: what goes in, what comes out, what it holds.

    Attributes:
        name: the dotted name, "block1.conv" inside a block.
        layer: the specification.
        input: (N, C, H, W) or (N, F).
        output: likewise.
        parameters: full name -> shape, "block1.conv.weight": (out, in, kh, kw).
        multiply_adds: per example.
        inner: the layers inside a block, in order; empty elsewhere.
    """

    name: str
    layer: Layer
    input: Shape
    output: Shape
    parameters: Mapping[str, Shape]
    multiply_adds: int
    inner: tuple[TracedLayer, ...] = ()

    @property
    def child_name(self) -> str:
        """The last part of the name, "conv" for "block1.conv"."""
        return self.name.rpartition(".")[2]

    def walk(self) -> Iterator[TracedLayer]:
        """The layers inside a block, then the layer itself: the order in which values appear."""
        yield from self.inner
        yield self


def trace_layer(layer: Layer, shape: Shape, name: str) -> TracedLayer:
    """The layer in its place, called `name`, for an input of this shape. Raises ValueError where it does not fit."""
    parts: list[TracedLayer] = []
    for part in layer.inner():
        parts.append(trace_layer(part, parts[-1].output if parts else shape, f"{name}.{part.name}"))
    if parts:  # not asked of the block, which would make all its layers anew for each answer
        inside = {key: value for part in parts for key, value in part.parameters.items()}
        counted = sum(part.multiply_adds for part in parts)
        return TracedLayer(name, layer, shape, parts[-1].output, inside, counted, tuple(parts))
    output = layer.output_shape(shape)
    held = {f"{name}.{key}": value for key, value in layer.parameter_shapes(shape).items()}
    return TracedLayer(name, layer, shape, output, held, layer.multiply_adds(shape))
