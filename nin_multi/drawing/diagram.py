"""Draws architectures side by side as blocks, from the image at the bottom up; not what their numbers do.

In the manner of the figures of "Dive into Deep Learning", section "Network in Network (NiN)", which compare AlexNet,
VGG and NiN: a NiN block is one box, and opened once beside the nets; equal layers in a row are one box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from nin_multi.drawing.sheet import GREY, style, to_svg
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
    ReLU,
    SEBlock,
    SKBlock,
    TracedLayer,
)

# Fill and edge by what a box is.
COLOURS = {
    "image": ("white", "0.6"),
    "conv": ("#dce9f5", "#3f7cac"),
    "block": ("#d3ebd8", "#2f8a55"),
    "pool": ("#fdecc8", "#c08a1e"),
    "mean": ("#fbd8c6", "#c25e32"),
    "linear": ("#e7dff2", "#7458a5"),
    "unit": ("#f6dfee", "#a64a86"),
    "aside": ("#f0f0f0", "0.65"),
}
# Points. What stands to the left and to the right of a box takes BESIDE and BEYOND.
HIGH, FLAT, GAP, FOOT, BESIDE, BEYOND, FONT, SMALL = 18.0, 11.0, 8.0, 34.0, 40.0, 74.0, 8.0, 6.5
ASIDE = 118.0  # what a column of opened blocks takes
MOST = 60  # boxes of a net; of more, those in the middle are left out
SIGNS = "dark edge: ReLU\nleft of a box: its parameters\nright: what comes out"


@dataclass(frozen=True)
class Box:
    """One box: what it is, what it says, what comes out of it, and of how many equal layers it stands for."""

    kind: str
    text: str
    output: str = ""
    parameters: int = 0
    relu: bool = False
    times: int = 1

    @property
    def height(self) -> float:
        return FLAT if self.kind == "aside" else HIGH

    @property
    def label(self) -> str:
        return f"{self.times} × ({self.text})" if self.times > 1 else self.text


def draw_diagram(architectures: Sequence[Architecture]) -> bytes:
    """SVG of one column for each architecture, and of what their NiN blocks are."""
    from matplotlib.figure import Figure

    columns = [boxes(each) for each in architectures]
    opened = list(_opened(architectures))
    with style():
        widths = [
            max([88.0, 1.5 * _width(each.name) - 60, *(_width(box.label) + 16 for box in column)])
            for each, column in zip(architectures, columns, strict=True)
        ]
        span = sum(BESIDE + width + BEYOND for width in widths)
        beside = 46 + sum(_height(inside) + GAP + 30 for _, inside in opened)
        height = FOOT + max([beside, *map(_height, columns)]) + 4
        figure = Figure(figsize=((span + ASIDE + 8) / 72, height / 72))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, span + ASIDE + 8), ylim=(0, height))
        axes.set_axis_off()
        left = 0.0
        for architecture, column, width in zip(architectures, columns, widths, strict=True):
            _column(axes, architecture, column, left + BESIDE, FOOT, width)
            left += BESIDE + width + BEYOND
        _asides(axes, opened, left, FOOT)
        return to_svg(figure, ", ".join(each.name for each in architectures))


def boxes(architecture: Architecture) -> list[Box]:
    """From the image on: a ReLU belongs to the layer before it, equal layers in a row are one."""
    found = [Box("image", f"image {_times(architecture.input)}")]
    for row in architecture.trace():
        before = found[-1]
        if isinstance(row.layer, ReLU) and before.kind in ("conv", "linear") and not before.relu:
            found[-1] = replace(before, relu=True)
        else:
            found.append(_box(row))
    found = _grouped(found)
    return found if len(found) <= MOST else _shortened(found)


def _grouped(found: Sequence[Box]) -> list[Box]:
    """Convolutions that are equal but for what comes in are one box."""
    grouped: list[Box] = []
    for box in found:
        last = grouped[-1] if grouped else box
        if grouped and box.kind == "conv" and replace(last, parameters=box.parameters, times=1) == box:
            grouped[-1] = replace(last, times=last.times + 1, parameters=last.parameters + box.parameters)
        else:
            grouped.append(box)
    return grouped


def _shortened(found: list[Box]) -> list[Box]:
    half = MOST // 2
    left_out = found[half:-half]
    dots = Box("aside", f"... {len(left_out):,} more ...", parameters=sum(box.parameters for box in left_out))
    return [*found[:half], dots, *found[-half:]]


def _box(row: TracedLayer) -> Box:
    kind, text, relu = _describe(row.layer)
    parameters = sum(math.prod(shape) for shape in row.parameters.values())
    return Box(kind, text, _times(row.output[1:]), parameters, relu)


def _describe(layer: Any) -> tuple[str, str, bool]:
    """Kind, words, and whether a ReLU ends it."""
    match layer:
        case Conv2d():
            return "conv", f"{_size(layer.kernel_size)} conv, {layer.out_channels}{_stride(layer)}", False
        case NinBlock():
            widths = " → ".join(map(str, _widths(layer)))
            return "block", f"NiN block {_size(layer.kernel_size)}, {widths}{_stride(layer)}", layer.final_relu
        case MaxPool2d() | AvgPool2d():
            what = "max" if isinstance(layer, MaxPool2d) else "average"
            return "pool", f"{_size(layer.kernel_size)} {what} pool{_stride(layer)}", False
        case GlobalAvgPool2d():
            return "mean", "global average pool", False
        case Linear():
            return "linear", f"fully connected, {layer.out_features}", False
        case SEBlock():
            return "unit", f"squeeze and excitation, 1/{layer.reduction}", False
        case SKBlock():
            kernels = " or ".join(f"{size}×{size}" for size in layer.kernel_sizes)
            return "unit", f"{kernels} conv, {layer.out_channels}{_stride(layer)}", True
        case Maxout():
            return "aside", f"maxout of {layer.pieces}", False
        case LocalResponseNorm():
            return "aside", f"norm over {layer.size} channels", False
        case Dropout():
            return "aside", f"dropout {layer.rate:g}", False
        case Flatten():
            return "aside", "flatten", False
    return "aside", str(layer.type), False


def _widths(block: NinBlock) -> tuple[int, ...]:
    """Of its layers, where they differ; else the one."""
    widths = tuple(layer.out_channels for layer in block.inner() if isinstance(layer, Conv2d))
    return widths if block.mlp_channels is not None and len(set(widths)) > 1 else (block.out_channels,)


def _stride(layer: Conv2d | NinBlock | MaxPool2d | AvgPool2d | SKBlock) -> str:
    return "" if layer.stride == (1, 1) else f", stride {_size(dict.fromkeys(layer.stride))}"


def _size(numbers: Any) -> str:
    return "×".join(map(str, numbers))


def _times(numbers: Any) -> str:
    return " × ".join(map(str, numbers))


def _opened(architectures: Sequence[Architecture]) -> Iterator[tuple[str, list[Box]]]:
    """Each form of NiN block that occurs, with letters for its numbers: its title, and the boxes in it."""
    forms: dict[tuple[int, bool, bool], None] = {}
    for architecture in architectures:
        for layer in architecture.layers:
            if isinstance(layer, NinBlock):
                count = sum(isinstance(inner, Conv2d) for inner in layer.inner())
                forms[count, len(_widths(layer)) > 1, layer.final_relu] = None
    for count, differ, relu in list(forms)[:3]:
        letters = [chr(ord("a") + number) for number in range(min(count, 20))] if differ else ["c"] * count
        shown = " → ".join(letters) if differ else "c"
        last = len(letters) - 1
        inside = [
            Box("conv", f"{'k×k' if number == 0 else '1×1'} conv, {letter}", relu=relu or number < last)
            for number, letter in enumerate(letters)
        ]
        yield f"NiN block k×k, {shown}", inside


def _height(column: Sequence[Box]) -> float:
    return sum(box.height + GAP for box in column)


@cache
def _width(text: str) -> float:
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=FONT).get_extents().width)


def _column(
    axes: Any, architecture: Architecture, column: Sequence[Box], left: float, bottom: float, width: float
) -> None:
    """The net's name and size below, then its boxes upwards."""
    middle = left + width / 2
    axes.text(middle, bottom - 6, architecture.name, ha="center", va="top", fontsize=10, fontweight="bold")
    size = f"{_short(architecture.parameters)} parameters, {_short(architecture.multiply_adds)} multiply-adds"
    axes.text(middle, bottom - 19, size, ha="center", va="top", fontsize=SMALL, color=GREY)
    y = bottom
    for number, box in enumerate(column):
        if number:
            _arrow(axes, middle, y - GAP, y)
        _draw(axes, box, left, y, width)
        if box.parameters:
            axes.text(left - 5, y + box.height / 2, _short(box.parameters), ha="right", va="center", fontsize=SMALL)
        axes.text(left + width + 6, y + box.height / 2, box.output, ha="left", va="center", fontsize=SMALL, color=GREY)
        y += box.height + GAP


def _draw(axes: Any, box: Box, left: float, y: float, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    fill, edge = COLOURS[box.kind]
    round_ = "round,pad=0,rounding_size=2.5"
    for behind in range(min(box.times, 3) - 1, -1, -1):  # equal layers as a pile
        corner = (left + 2.5 * behind, y + 2.5 * behind)
        dashes = "--" if box.kind == "image" else "-"
        axes.add_patch(
            FancyBboxPatch(corner, width, box.height, round_, facecolor=fill, edgecolor=edge, linewidth=0.8, ls=dashes)
        )
    if box.relu:
        axes.add_patch(Rectangle((left + 1.5, y + box.height - 3.2), width - 3, 2.4, facecolor=edge, linewidth=0))
    size = SMALL if box.kind == "aside" else FONT
    middle = y + box.height / 2 - (1.2 if box.relu else 0)
    axes.text(left + width / 2, middle, box.label, ha="center", va="center_baseline", fontsize=size)


def _arrow(axes: Any, x: float, start: float, end: float) -> None:
    arrow = {
        "arrowstyle": "-|>,head_length=0.25,head_width=0.12",
        "color": "0.35",
        "lw": 0.8,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", (x, end), (x, start), arrowprops=arrow)


def _asides(axes: Any, opened: Sequence[tuple[str, Sequence[Box]]], left: float, bottom: float) -> None:
    """What the signs mean, and above that the blocks opened."""
    from matplotlib.patches import FancyBboxPatch

    axes.text(left, bottom, SIGNS, ha="left", va="bottom", fontsize=SMALL, color=GREY, linespacing=1.5)
    _, edge = COLOURS["block"]
    y = bottom + 46
    for title, inside in opened:
        high = _height(inside) + GAP
        frame = FancyBboxPatch(
            (left, y), ASIDE, high, "round,pad=0,rounding_size=4", facecolor="#f4faf5", edgecolor=edge, lw=0.8, ls="--"
        )
        axes.add_patch(frame)
        at = y + GAP
        for number, box in enumerate(inside):
            if number:
                _arrow(axes, left + ASIDE / 2, at - GAP, at)
            _draw(axes, box, left + 12, at, ASIDE - 24)
            at += box.height + GAP
        axes.text(left + ASIDE / 2, y + high + 4, title, ha="center", va="bottom", fontsize=FONT)
        y += high + 30


def _short(count: int) -> str:
    """Three digits and a unit.

    >>> [_short(n) for n in (0, 980, 34_944, 1_992_166, 762_297_352)]
    ['0', '980', '34.9 k', '1.99 M', '762 M']
    """
    if count < 1000:
        return str(count)
    power = min(int(f"{count:.2e}".partition("e")[2]) // 3, 4)
    return f"{count / 1000**power:.3g} {' kMGT'[power]}"
