"""Draws what the first convolution looks for: its weights as small pictures, in the order of its channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.drawing.sheet import GREY, Pixels, paint, style, tiles, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "RdBu_r"  # white at 0
SIDE = 40  # pixels of a filter at least: its own few would be blurred by some viewers
GAP = 4
CELL, WIDE = 0.42, 5.6  # inches: of a filter, of the whole at most
MOST = 512  # filters; more are no picture any more
WITHIN = 0.995  # share of the weights that the scale tells apart: a few large ones would make all others pale


def draw_filters(weights: NDArray[Any], layer: str, title: str) -> bytes:
    """SVG of weights (out, in, kh, kw), all on one scale.

    Three channels are red, green and blue around a grey 0; of any other number than one the mean is shown.
    """
    from matplotlib.figure import Figure

    shown = np.nan_to_num(np.asarray(weights[:MOST], np.float64), posinf=0.0, neginf=0.0)
    shown = shown if shown.shape[1] in (1, 3) else shown.mean(1, keepdims=True)
    limit = float(np.quantile(np.abs(shown), WITHIN)) or 1.0
    cells = [_cell(each, limit) for each in shown]
    columns = _columns(len(cells))
    sheet = tiles([cells[start : start + columns] for start in range(0, len(cells), columns)], GAP)
    wide = min(WIDE, CELL * columns)
    high = wide * sheet.shape[0] / sheet.shape[1]
    with style():
        figure = Figure(figsize=(max(wide, 4.6) + 0.2, high + 0.85))
        across, down = figure.get_size_inches()
        axes = figure.add_axes((0.1 / across, 0.5 / down, wide / across, high / down))
        axes.imshow(sheet, interpolation="none")
        axes.set_axis_off()
        figure.text(0.1 / across, 1 - 0.18 / down, title, va="center", fontsize=9)
        figure.text(0.1 / across, 0.25 / down, _say(weights, layer), va="center", fontsize=7, color=GREY)
        if shown.shape[1] == 1:
            _scale(figure, limit)
        return to_svg(figure, title)


def _columns(count: int) -> int:
    """About twice as many as rows; a number that leaves no place empty, if there is one near that."""
    ideal = math.sqrt(2 * count)
    whole = [n for n in range(1, count + 1) if count % n == 0 and ideal / 1.5 <= n <= 1.5 * ideal]
    return min(whole, key=lambda n: abs(n - ideal), default=min(math.ceil(ideal), count))


def _cell(weights: NDArray[np.float64], limit: float) -> Pixels:
    """Of one filter (channels, kh, kw), each weight several pixels large."""
    share = np.clip(0.5 + weights / (2 * limit), 0, 1)
    if len(share) == 3:
        colours = np.round(255 * np.moveaxis(share, 0, 2)).astype(np.uint8)
        painted: Pixels = np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])
    else:
        painted = paint(share[0], COLOURS)
    times = -(-SIDE // max(painted.shape[:2]))
    return painted.repeat(times, 0).repeat(times, 1)


def _say(weights: NDArray[Any], layer: str) -> str:
    count, channels, rows, columns = weights.shape
    first = f", the first {MOST}" if count > MOST else ""
    mean = "" if channels in (1, 3) else f", the mean of {channels} channels"
    return f"{layer}: {count} filters of {rows} x {columns}{first}{mean}"


def _scale(figure: Figure, limit: float) -> None:
    """What the colours mean, at the lower right."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes((1 - 1.45 / across, 0.26 / down, 1.2 / across, 0.1 / down))
    axes.imshow(paint(np.linspace(0, 1, 129)[None], COLOURS), aspect="auto", extent=(-limit, limit, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-limit, 0, limit], [f"≤ {-limit:.2g}", "0", f"≥ {limit:.2g}"], fontsize=6)
    axes.tick_params(length=2, pad=1)
