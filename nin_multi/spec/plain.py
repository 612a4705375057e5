"""Layers that work on each value, each channel or each row of features; none has a window over pixels."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from nin_multi.spec.base import LayerBase, need_image, show_shape
from nin_multi.spec.fields import LARGEST_NUMBER, Count, Odd, Positive, Rate, Shape


class ReLU(LayerBase):
    """max(x, 0); its gradient at 0 is 0."""

    prefix: ClassVar[str] = "relu"
    type: Literal["relu"] = "relu"


class Dropout(LayerBase):
    """In training: a share `rate` of the values is dropped, the rest is divided by 1 - rate."""

    prefix: ClassVar[str] = "dropout"
    type: Literal["dropout"] = "dropout"
    rate: Rate


class GlobalAvgPool2d(LayerBase):
    """Mean over height and width, kept as 1 x 1."""

    prefix: ClassVar[str] = "global_avg_pool"
    type: Literal["global_avg_pool2d"] = "global_avg_pool2d"

    def output_shape(self, shape: Shape) -> Shape:
        n, c, _, _ = need_image(shape, "global_avg_pool2d")
        return (n, c, 1, 1)


class Flatten(LayerBase):
    """(N, C, H, W) to (N, C*H*W), channels slowest."""

    prefix: ClassVar[str] = "flatten"
    type: Literal["flatten"] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], math.prod(shape[1:]))


class Linear(LayerBase):
    """Fully connected layer, weight (out, in)."""

    prefix: ClassVar[str] = "linear"
    type: Literal["linear"] = "linear"
    out_features: Count
    bias: Annotated[bool, Strict()] = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise ValueError(f"linear needs an input (N, F), got {show_shape(shape)}; put a flatten before it")
        return (shape[0], self.out_features)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        weight = (self.out_features, shape[1])
        return {"weight": weight, "bias": (self.out_features,)} if self.bias else {"weight": weight}

    def multiply_adds(self, shape: Shape) -> int:
        return self.out_features * shape[1]


class Maxout(LayerBase):
    """The largest of each `pieces` channels (or features) that follow one another (arXiv:1302.4389, section 3).

    (N, C, H, W) to (N, C/pieces, H, W), or (N, F) to (N, F/pieces). Of equal values the first passes the gradient on.
    """

    prefix: ClassVar[str] = "maxout"
    type: Literal["maxout"] = "maxout"
    pieces: Annotated[int, Strict(), Field(ge=2, le=LARGEST_NUMBER)]

    def output_shape(self, shape: Shape) -> Shape:
        n, width, *area = shape
        if width % self.pieces:
            what = "channels" if area else "features"
            raise ValueError(f"expected {what} that {self.pieces} pieces divide, got {width}")
        return (n, width // self.pieces, *area)


class LocalResponseNorm(LayerBase):
    """Each value divided by a power of what its channel's neighbours hold (Krizhevsky et al. 2012, section 3.3).

    a / (k + alpha * (sum of squares over `size` channels)) ** beta, the value's own channel in their middle and those
    outside the image left out. As in that paper, alpha is not divided by the size.
    """

    prefix: ClassVar[str] = "lrn"
    type: Literal["local_response_norm"] = "local_response_norm"
    size: Odd = 5
    alpha: Positive = 1e-4
    beta: Positive = 0.75
    k: Positive = 2.0

    def output_shape(self, shape: Shape) -> Shape:
        return need_image(shape, "local_response_norm")

    def hidden_values(self, shape: Shape) -> int:
        return math.prod(shape[1:])  # what each value is divided by
