"""Units that weigh channels by what the whole image holds: squeeze and excitation, selective kernels.

Each is one layer with one activation, its output; what happens inside is in the docstrings.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nin_multi.spec.base import LayerBase, need_image
from nin_multi.spec.fields import MOST_LAYERS, Count, Odd, Shape, Size
from nin_multi.spec.windows import Conv2d


def _dense(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    """The parameters of one linear map."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


class SEBlock(LayerBase):
    """Squeeze and excitation (arXiv:1709.01507, section 3): every channel times a number in (0, 1).

    The channels' means (N, C) go through `reduce` to C // reduction numbers (at least 1), a ReLU, through `expand`
    back to C numbers and a sigmoid; the image is multiplied by these.
    """

    prefix: ClassVar[str] = "se"
    type: Literal["se_block"] = "se_block"
    reduction: Count = 16

    def squeezed(self, channels: int) -> int:
        """How many numbers `reduce` leaves of so many channels."""
        return max(1, channels // self.reduction)

    def output_shape(self, shape: Shape) -> Shape:
        return need_image(shape, "se_block")

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        channels, middle = shape[1], self.squeezed(shape[1])
        return _dense("reduce", middle, channels) | _dense("expand", channels, middle)

    def multiply_adds(self, shape: Shape) -> int:
        _, channels, height, width = shape
        return 2 * channels * self.squeezed(channels) + channels * height * width

    def hidden_values(self, shape: Shape) -> int:
        return 2 * shape[1] + self.squeezed(shape[1])  # means, what is left of them, gates


class SKBlock(LayerBase):
    """Selective kernels (arXiv:1903.06586, section 3.1), without batch normalisation, groups and dilation.

    A branch is a convolution (padded by half its kernel) and a ReLU. The channels' means over the sum of all branches
    go through `reduce` to max(out_channels // reduction, min_channels) numbers and a ReLU, then through each branch's
    `select`; a softmax over the branches weighs them for each channel, and the output is their weighted sum.
    """

    prefix: ClassVar[str] = "sk"
    type: Literal["sk_block"] = "sk_block"
    out_channels: Count
    kernel_sizes: Annotated[tuple[Odd, ...], Field(min_length=2, max_length=MOST_LAYERS)] = (3, 5)
    stride: Size = (1, 1)
    reduction: Count = 16
    min_channels: Count = 32

    @property
    def squeezed(self) -> int:
        """How many numbers `reduce` leaves."""
        return max(self.out_channels // self.reduction, self.min_channels)

    @property
    def padding(self) -> tuple[int, int]:
        """Of the branch with the largest kernel."""
        return (max(self.kernel_sizes) // 2,) * 2

    def branches(self) -> tuple[Conv2d, ...]:
        """The convolution of each branch, called branch1, branch2, ..."""
        return tuple(
            Conv2d(
                name=f"branch{i}",
                out_channels=self.out_channels,
                kernel_size=(kernel, kernel),
                stride=self.stride,
                padding=(kernel // 2, kernel // 2),
            )
            for i, kernel in enumerate(self.kernel_sizes, start=1)
        )

    def output_shape(self, shape: Shape) -> Shape:
        return self.branches()[0].output_shape(need_image(shape, "sk_block"))

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        found: dict[str, Shape] = {}
        for branch in self.branches():
            found |= {f"{branch.name}.{key}": value for key, value in branch.parameter_shapes(shape).items()}
        found |= _dense("reduce", self.squeezed, self.out_channels)
        for i in range(1, len(self.kernel_sizes) + 1):
            found |= _dense(f"select{i}", self.out_channels, self.squeezed)
        return found

    def multiply_adds(self, shape: Shape) -> int:
        _, channels, height, width = self.output_shape(shape)
        branches = self.branches()
        convolved = sum(branch.multiply_adds(shape) for branch in branches)
        selected = (1 + len(branches)) * self.squeezed * channels
        return convolved + selected + len(branches) * channels * height * width

    def hidden_values(self, shape: Shape) -> int:
        _, channels, height, width = self.output_shape(shape)
        one_branch = channels * height * width + channels  # and its shares
        return len(self.kernel_sizes) * one_branch + channels + self.squeezed
