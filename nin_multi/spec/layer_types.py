"""The table of layer types: the word of a file -> the class."""

from __future__ import annotations

from typing import Annotated, Union

from pydantic import Field

from nin_multi.spec.base import LayerBase
from nin_multi.spec.blocks import NinBlock
from nin_multi.spec.plain import Dropout, Flatten, GlobalAvgPool2d, Linear, LocalResponseNorm, Maxout, ReLU
from nin_multi.spec.units import SEBlock, SKBlock
from nin_multi.spec.windows import AvgPool2d, Conv2d, MaxPool2d

Layer = Annotated[
    Union[  # noqa: UP007  (pydantic reads the discriminator from the union object)
        Conv2d,
        ReLU,
        MaxPool2d,
        AvgPool2d,
        Dropout,
        GlobalAvgPool2d,
        Flatten,
        Linear,
        NinBlock,
        Maxout,
        LocalResponseNorm,
        SEBlock,
        SKBlock,
    ],
    Field(discriminator="type"),
]
LAYER_TYPES: dict[str, type[LayerBase]] = {
    cls.model_fields["type"].default: cls
    for cls in (
        Conv2d,
        ReLU,
        MaxPool2d,
        AvgPool2d,
        Dropout,
        GlobalAvgPool2d,
        Flatten,
        Linear,
        NinBlock,
        Maxout,
        LocalResponseNorm,
        SEBlock,
        SKBlock,
    )
}
