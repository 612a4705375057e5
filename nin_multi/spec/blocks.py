"""The NiN block: a layer made of named layers, which a trace shows one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, Strict

from nin_multi.spec.base import LayerBase
from nin_multi.spec.fields import MOST_LAYERS, Count, Padding, Shape, Size
from nin_multi.spec.plain import ReLU
from nin_multi.spec.windows import Conv2d

if TYPE_CHECKING:
    from nin_multi.spec.layer_types import Layer


class NinBlock(LayerBase):
    """A convolution and 1x1 convolutions, each followed by a ReLU (arXiv:1312.4400, section 3.1: "mlpconv").

    `mlp_channels` says how many 1x1 layers there are and how wide; the last is the block's output.
    `final_relu: false` leaves out the ReLU after the last of them.
    """

    prefix: ClassVar[str] = "block"
    type: Literal["nin_block"] = "nin_block"
    out_channels: Count
    kernel_size: Size
    stride: Size = (1, 1)
    padding: Padding = (0, 0)
    mlp_channels: Annotated[tuple[Count, ...], Field(max_length=MOST_LAYERS)] | None = None
    final_relu: Annotated[bool, Strict()] = True

    def inner(self) -> tuple[Layer, ...]:
        widths = (self.out_channels,) * 2 if self.mlp_channels is None else self.mlp_channels
        convolution = Conv2d(
            name="conv",
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
        )
        layers: list[Layer] = [convolution, ReLU(name="relu")]
        for i, width in enumerate(widths, start=1):
            layers += [Conv2d(name=f"mlp{i}", out_channels=width, kernel_size=(1, 1)), ReLU(name=f"relu{i}")]
        return tuple(layers if self.final_relu else layers[:-1])

    def output_shape(self, shape: Shape) -> Shape:
        for layer in self.inner():
            shape = layer.output_shape(shape)
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        found: dict[str, Shape] = {}
        for layer in self.inner():
            found |= {f"{layer.name}.{key}": value for key, value in layer.parameter_shapes(shape).items()}
            shape = layer.output_shape(shape)
        return found

    def multiply_adds(self, shape: Shape) -> int:
        total = 0
        for layer in self.inner():
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total
