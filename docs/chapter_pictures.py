"""The chapter's pictures, drawn while it is built: from specifications, from images, from figures with their source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nin_multi.architecture_file import load_architecture
from nin_multi.drawing.diagram import draw_diagram
from nin_multi.drawing.sheet import GREY, paint, style, tiles, to_svg
from nin_multi.notebook.runs import Svg
from nin_multi.spec import Architecture, Conv2d, Linear

if TYPE_CHECKING:
    from nin_multi.data.dataset import Dataset

# Builds of the book's chapter stored with their output (263 of four frameworks, 2020 to 2023, ten epochs at rate 0.1):
# those with a training accuracy below 0.80, by the number of dead classes whose predicted loss is nearest to theirs.
# Two more ended with NaN.
FAILED_BUILDS = {1: 22, 2: 17, 3: 15, 4: 11, 5: 9, 6: 7, 7: 0, 8: 1, 9: 0, 10: 20}
HEALTHY_LOSS = 0.36  # the median of the builds that went well


def blocks(*names: str) -> Svg:
    """Architectures of the zoo side by side, box by box."""
    return Svg(draw_diagram([load_architecture(name) for name in names]).decode())


def pointwise() -> Svg:
    """What a 1x1 convolution does at one place: a small fully connected layer over the channels."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.2, 2.5))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 62), ylim=(0, 25))
        axes.set_axis_off()
        _maps(axes, 3, 6, 4, "C", "input: C maps of H × W")
        _maps(axes, 46, 6, 3, "C", "output: C′ maps of H × W")
        inside, outside = _dots(axes, 24, 4), _dots(axes, 35, 3)
        for y in inside:
            for z in outside:
                axes.plot([24, 35], [y, z], "-", color="0.75", lw=0.7, zorder=1)
        _arrow(axes, 15.5, 22.5)
        _arrow(axes, 36.5, 45.0)
        axes.text(29.5, 21.5, "the same C′ × C weights\nat every place", ha="center", va="center", fontsize=8)
        axes.text(29.5, 3.2, "then a ReLU", ha="center", va="center", fontsize=8, color=GREY)
        return Svg(to_svg(figure, "A 1x1 convolution at one place").decode())


def where_parameters_are(*names: str) -> Svg:
    """Millions of parameters in convolutions and in fully connected layers."""
    from matplotlib.figure import Figure

    nets = [load_architecture(name) for name in names]
    convolved, connected = (np.array([_parameters(net, kind) for net in nets]) / 1e6 for kind in (Conv2d, Linear))
    with style():
        figure = Figure(figsize=(6.2, 0.6 + 0.45 * len(nets)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(names, convolved, color="#4c8c5a", label="in convolutions")
        axes.barh(names, connected, left=convolved, color="#c98a3d", label="in fully connected layers")
        for place, net in enumerate(nets):
            axes.text(net.parameters / 1e6 + 1, place, f"{net.parameters / 1e6:.2f} M", va="center")
        axes.set(xlabel="millions of parameters", xlim=(0, 1.15 * max(net.parameters for net in nets) / 1e6))
        axes.invert_yaxis()
        axes.legend(loc="lower right")
        return Svg(to_svg(figure, "Parameters in convolutions and in fully connected layers").decode())


def garments(dataset: Dataset) -> Svg:
    """The first training image of each class."""
    from matplotlib.figure import Figure

    first = [int(np.argmax(dataset.train.labels == label)) for label in range(len(dataset.classes))]
    with style():
        figure = Figure(figsize=(6.4, 1.0))
        axes = figure.add_axes((0, 0.02, 1, 0.8))
        shown = tiles([[paint(dataset.train.images[each] / 255, "gray") for each in first]], 4)
        axes.imshow(shown, interpolation="nearest")
        axes.set_axis_off()
        for label, name in enumerate(dataset.classes):
            axes.text(32 * label + 14, -4, name, ha="center", fontsize=6.5)
        return Svg(to_svg(figure, f"{dataset.title}: one image of each class").decode())


def predicted_loss(dead: int, classes: int = 10) -> float:
    """The loss of a net that has lost so many classes and is well otherwise: a lost one is a guess among all."""
    return (1 - dead / classes) * HEALTHY_LOSS + dead / classes * math.log(classes)


def failed_builds() -> Svg:
    """How many stored builds of the book's chapter ended near the loss of k dead classes."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(5.2, 2.3), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(list(FAILED_BUILDS), list(FAILED_BUILDS.values()), color="#b5533c")
        for dead, count in FAILED_BUILDS.items():
            axes.text(dead, count + 0.5, str(count), ha="center")
        ticks = [f"{dead}\n{predicted_loss(dead):.2f}" for dead in FAILED_BUILDS]
        axes.set_xticks(list(FAILED_BUILDS), ticks)
        axes.set(xlabel="dead classes k, and the loss they lead to", ylabel="builds", ylim=(0, 25))
        return Svg(to_svg(figure, "Failed builds by the number of dead classes nearest to their loss").decode())


def _parameters(net: Architecture, kind: type) -> int:
    shapes = (shape for row in net.walk() if isinstance(row.layer, kind) for shape in row.parameters.values())
    return sum(map(math.prod, shapes))


def _maps(axes: Any, left: float, bottom: float, count: int, letter: str, said: str) -> None:
    """A pile of feature maps, with one place marked through all of them."""
    from matplotlib.patches import Rectangle

    for behind in range(count - 1, -1, -1):
        x, y = left + 1.3 * behind, bottom + 1.3 * behind
        axes.add_patch(Rectangle((x, y), 9, 9, facecolor="#4c8c5a26", edgecolor="#4c8c5a", lw=0.8))
        axes.add_patch(Rectangle((x + 5, y + 5), 1.3, 1.3, facecolor="#c98a3d", edgecolor="none"))
    axes.text(left + 6, bottom - 2.8, said, ha="center", va="center", fontsize=8)


def _dots(axes: Any, x: float, count: int) -> Sequence[float]:
    """Values of one place, one below the other."""
    heights = [12.5 + 2.6 * (place - (count - 1) / 2) for place in range(count)]
    axes.plot([x] * count, heights, "o", color="#c98a3d", markersize=8, markeredgecolor="0.3", markeredgewidth=0.6)
    return heights


def _arrow(axes: Any, start: float, end: float) -> None:
    axes.annotate("", (end, 12.5), (start, 12.5), arrowprops={"arrowstyle": "-|>", "color": "0.35", "lw": 0.9})
