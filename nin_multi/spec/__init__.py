"""Layer types and `Architecture`: shapes, parameter shapes and multiply-adds; nothing here computes with pixels.

Shape letters: N batch, C channels, H height, W width, F features. Shapes carry the batch axis,
(N, C, H, W) or (N, F); counts of multiply-adds are per example.
"""

from nin_multi.spec.architecture import Architecture
from nin_multi.spec.base import LayerBase
from nin_multi.spec.blocks import NinBlock
from nin_multi.spec.fields import LARGEST_NUMBER, MOST_LAYERS, Shape
from nin_multi.spec.layer_types import LAYER_TYPES, Layer
from nin_multi.spec.plain import Dropout, Flatten, GlobalAvgPool2d, Linear, LocalResponseNorm, Maxout, ReLU
from nin_multi.spec.tracing import TracedLayer
from nin_multi.spec.units import SEBlock, SKBlock
from nin_multi.spec.windows import AvgPool2d, Conv2d, MaxPool2d, Pool2d

__all__ = [
    "LARGEST_NUMBER",
    "LAYER_TYPES",
    "MOST_LAYERS",
    "Architecture",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LayerBase",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Maxout",
    "NinBlock",
    "Pool2d",
    "ReLU",
    "SEBlock",
    "SKBlock",
    "Shape",
    "TracedLayer",
]
