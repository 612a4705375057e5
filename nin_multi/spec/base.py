"""What every layer type has: a name, and rules for shapes, parameters and multiply-adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from nin_multi.spec.fields import Name, Shape

if TYPE_CHECKING:
    from nin_multi.spec.layer_types import Layer


class LayerBase(BaseModel):
    """What all layers share: a name, and rules for shapes. Subclasses are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prefix: ClassVar[str]
    name: Name = ""

    def output_shape(self, shape: Shape) -> Shape:
        """Shape after this layer. Raises ValueError (without the layer's name) where it does not fit."""
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Parameter name -> shape, for an input of this shape."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-accumulates per example."""
        return 0

    def hidden_values(self, shape: Shape) -> int:
        """Values per example that are made on the way to the output, and needed again on the way back."""
        return 0

    def inner(self) -> tuple[Layer, ...]:
        """The named layers inside a block; empty for a plain layer."""
        return ()


def need_image(shape: Shape, what: str) -> Shape:
    """The shape itself, if it is (N, C, H, W). Raises ValueError elsewhere; `what` says who needs it."""
    if len(shape) != 4:
        raise ValueError(f"{what} needs an input (N, C, H, W), got {show_shape(shape)}; it must stand before flatten")
    return shape


def show_shape(shape: Shape) -> str:
    """A shape for people to read, "(N, 10)", whatever its N."""
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ")"
