"""Draws what a run's layers gave from epoch to epoch: how their values were spread, and how many were 0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nin_multi.drawing.sheet import GREY, style, to_svg

COLUMNS = 4
MOST = 40  # panels; of more layers the first and the last are shown
BANDS = ((1, 5, 0.25), (2, 4, 0.4))  # from which quantile to which, and how dense
MIDDLE = 3
CAPTION = "By epoch: the median, the middle half and the middle 90 % of all values; grey, the share that is exactly 0."


@dataclass(frozen=True)
class Trace:
    """One layer, with those behind it that change nothing: when, the seven quantiles, the share of zeros."""

    names: list[str]
    progress: list[float]
    quantiles: list[list[float]]
    zeros: list[float]


def draw_activations(events: Iterable[Mapping[str, Any]], title: str) -> bytes | None:
    """SVG of the events about layers, a panel for each; None where there are none."""
    from matplotlib.figure import Figure

    traces = traces_of(events)
    if not traces:
        return None
    shown = traces if len(traces) <= MOST else [*traces[: MOST // 2], *traces[-MOST // 2 :]]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    wide, high = max(1.95 * columns, 5.2) + 0.3, 1.85 * rows + 0.72
    sides = {"left": 0.5 / wide, "right": 1 - 0.15 / wide, "top": 1 - 0.62 / high, "bottom": 0.1 / high}
    with style(**{"font.size": 7, "axes.titlesize": 7.5}):
        figure = Figure(figsize=(wide, high))
        # In each place two panels, one under the other: the values, and how many of them are 0.
        ratios = [1.0, 0.22, 0.42] * rows
        grid = figure.add_gridspec(3 * rows, columns, height_ratios=ratios, hspace=0.08, wspace=0.36, **sides)
        for number, trace in enumerate(shown):
            row, column = divmod(number, columns)
            values = figure.add_subplot(grid[3 * row, column])
            _panel(values, figure.add_subplot(grid[3 * row + 1, column], sharex=values), trace)
        figure.text(0.12 / wide, 1 - 0.2 / high, title, va="center", fontsize=9)
        figure.text(0.12 / wide, 0.12 / high, CAPTION, va="center", fontsize=6.5, color=GREY)
        return to_svg(figure, title)


def traces_of(events: Iterable[Mapping[str, Any]]) -> list[Trace]:
    """By layer, in the net's order; one whose figures are those of the layer before it is told with that one."""
    found: dict[str, list[tuple[float, list[float], float]]] = {}
    for event in events:
        if event.get("event") == "layers" and isinstance(event.get("layers"), Mapping):
            for name, layer in event["layers"].items():
                if isinstance(layer, Mapping) and len(layer.get("quantiles") or ()) == 7:
                    quantiles = [_number(value) for value in layer["quantiles"]]
                    found.setdefault(name, []).append(
                        (_number(event.get("progress")), quantiles, _number(layer.get("zeros")))
                    )
    traces: list[Trace] = []
    for name, points in found.items():
        trace = Trace([name], *(list(values) for values in zip(*points, strict=True)))
        if traces and repr(_figures(traces[-1])) == repr(_figures(trace)):
            traces[-1].names.append(name)
        else:
            traces.append(trace)
    return traces


def _figures(trace: Trace) -> tuple[Any, ...]:
    return trace.progress, trace.quantiles, trace.zeros


def _panel(values: Any, zeros: Any, trace: Trace) -> None:
    from matplotlib.ticker import MaxNLocator

    at, quantiles, none = trace.progress, trace.quantiles, trace.zeros
    if len(at) == 1:  # a moment of its own, so wide that it can be seen
        at, quantiles, none = [at[0] - 0.15, at[0] + 0.15], 2 * quantiles, 2 * none
    lines = [[each[number] for each in quantiles] for number in range(7)]
    for low, high, density in BANDS:
        values.fill_between(at, lines[low], lines[high], color="C0", alpha=density, linewidth=0)
    values.plot(at, lines[MIDDLE], "-", color="C0", linewidth=1.2)
    values.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    values.set_title(_title(trace.names), loc="left", pad=3)
    values.set_ylim(*_reach(lines[1:6]))
    values.tick_params(labelbottom=False, length=2, pad=2)
    zeros.fill_between(at, 0, [100 * share for share in none], color="0.6", linewidth=0)
    zeros.set(ylim=(0, 100), xlim=(at[0], at[-1]) if len(trace.progress) > 1 else (at[0] - 0.35, at[1] + 0.35))
    zeros.set_yticks((0, 100), ("0", "100 %"), fontsize=5.5)
    if len(trace.progress) > 1:
        zeros.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    else:
        zeros.set_xticks(trace.progress, [f"{trace.progress[0]:g}"])
    zeros.tick_params(length=2, pad=2)
    for axes in (values, zeros):
        axes.spines[["top", "right"]].set_visible(False)


def _reach(lines: Sequence[Sequence[float]]) -> tuple[float, float]:
    """What of the axis is to be seen."""
    known = [value for line in lines for value in line if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    margin = 0.04 * (high - low) or abs(high) / 2 or 1.0
    return low - margin, high + margin


def _title(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 32 else f"{names[0]} and {len(names) - 1} more"


def _number(value: Any) -> float:
    """A gap where a figure is none."""
    return float(value) if isinstance(value, int | float) else math.nan
