"""Draws where in a picture a net sees each class: the maps before the global average pooling, over the picture.

After figure 4 of Lin, Chen and Yan, "Network In Network" (arXiv:1312.4400), section 4.6: only the strongest tenth of
the activations is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.drawing.sheet import GREY, Pixels, paint, style, tiles, to_svg

SHOWN = 0.1  # share of a picture's activations, over all its maps
GAP = 3  # pixels
COLOURS = "YlOrRd"
INCH = 0.62  # of a cell


@dataclass(frozen=True)
class Example:
    """One picture (h, w), its label, the probability of each class, and its maps (classes, rows, columns)."""

    image: NDArray[np.uint8]
    label: int
    probabilities: Sequence[float]
    maps: NDArray[Any]


def draw_class_maps(examples: Sequence[Example], names: Sequence[str], title: str) -> bytes:
    """SVG: a row for each picture, a column for each class; `names` are those of the classes."""
    from matplotlib.figure import Figure

    count = len(names)
    sheet = tiles([[_plain(each.image), *_covered(each, count)] for each in examples], GAP)
    cell = examples[0].image.shape[1] + GAP, examples[0].image.shape[0] + GAP  # across, down
    size = sheet.shape[1] / cell[0] * INCH, sheet.shape[0] / cell[0] * INCH
    with style():
        figure = Figure(figsize=(size[0] + 1.5, size[1] + 1.05))
        axes = figure.add_axes(_place(figure.get_size_inches(), size))
        axes.imshow(sheet, interpolation="none")
        axes.set_axis_off()
        for column, name in enumerate(names, 1):
            at = column * cell[0] + (cell[0] - GAP) / 2
            axes.text(at, -3, name, ha="center", va="bottom", fontsize=7)
        for row, each in enumerate(examples):
            _annotate(axes, each, names, row, cell)
        figure.text(0.12 / figure.get_figwidth(), 1 - 0.2 / figure.get_figheight(), title, va="center", fontsize=9)
        below = (
            "Left the picture, then where in it each class is seen: of all activations of the last maps, the strongest "
            "tenth.\nFramed: the class that it is. Per cent: the probability, where it is 1 % or more."
        )
        x = 0.12 / figure.get_figwidth()
        figure.text(x, 0.12 / figure.get_figheight(), below, va="bottom", fontsize=7, color=GREY)
        return to_svg(figure, title)


def _place(whole: Sequence[float], size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Left, bottom, width, height, as shares of the figure: labels stand to the left, above and below."""
    return 1.4 / whole[0], 0.5 / whole[1], size[0] / whole[0], size[1] / whole[1]


def _annotate(axes: Any, each: Example, names: Sequence[str], row: int, cell: tuple[int, int]) -> None:
    """Names to the left, a frame around the true class, probabilities into the maps."""
    from matplotlib.patches import Rectangle

    y, (width, height) = row * cell[1], (cell[0] - GAP, cell[1] - GAP)
    guess = int(np.argmax(each.probabilities))
    axes.text(-4, y + height / 2, names[each.label], ha="right", va="bottom", fontsize=8)
    right = guess == each.label
    said = "recognised" if right else f"taken for {names[guess] if guess < len(names) else f'class {guess}'}"
    axes.text(-4, y + height / 2 + 1, said, ha="right", va="top", fontsize=6, color=GREY if right else "C3")
    corner = ((each.label + 1) * cell[0] - 1, y - 1)
    frame = Rectangle(corner, width + 1, height + 1, fill=False, edgecolor="C0", linewidth=1.6, clip_on=False)
    axes.add_patch(frame)
    for label, share in enumerate(each.probabilities[: len(names)]):  # a net may have more outputs than labels
        if share >= 0.01:
            place = ((label + 2) * cell[0] - GAP - 1.5, y + height - 1)
            ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}
            axes.text(*place, f"{100 * share:.0f} %", ha="right", va="bottom", fontsize=5, bbox=ground)


def _plain(image: NDArray[np.uint8]) -> Pixels:
    """As it is in the data set: bright on black."""
    return _grey(image)


def _covered(each: Example, count: int) -> list[Pixels]:
    """For each class the picture, faint, and over it the strongest activations of that class's map."""
    ground = _grey((255 - each.image / 3).astype(np.uint8))
    maps = np.asarray(each.maps[:count], np.float64)
    least, most = strongest(maps)
    covered = []
    for one in maps:
        large = enlarge(one, each.image.shape)
        cell = ground.copy()
        shown = (large >= least) & (large != 0)
        share = (large - least) / (most - least) if most > least else np.ones_like(large)
        cell[shown] = paint(0.25 + 0.75 * share, COLOURS)[shown]
        covered.append(cell)
    return covered


def strongest(maps: NDArray[np.float64]) -> tuple[float, float]:
    """Between which values the strongest tenth of all maps lies."""
    return float(np.quantile(maps, 1 - SHOWN)), float(maps.max())


def enlarge(one: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Bilinearly to the size of the picture; beyond the centres of its outermost cells a map goes on as it is there."""
    rows, columns = (_between(old, new) for old, new in zip(one.shape, shape, strict=True))
    larger: NDArray[np.float64] = rows @ one @ columns.T
    return larger


def _between(old: int, new: int) -> NDArray[np.float64]:
    """(new, old): how much of each old value a new one has."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights: NDArray[np.float64] = np.clip(1 - np.abs(centres[:, None] - np.arange(old)), 0, None)
    return weights


def _grey(image: NDArray[np.uint8]) -> Pixels:
    return np.dstack([image, image, image, np.full_like(image, 255)])
