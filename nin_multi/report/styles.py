"""Which colour, dash and marker a run has everywhere in a report: told apart without colours too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLORS = 7  # the palettes in page.css, after Okabe and Ito, "Color Universal Design" (2008)
DASHES = 6
MARKERS = 6

Style = dict[str, int]


def style_of_each(runs: Sequence[Mapping[str, Any]]) -> list[Style]:
    """Numbers of colour, dash and marker for each run.

    A framework keeps its colour and its marker; runs of it differ by their dash. Where there is only one framework,
    each run has a colour of its own. Curves of equal nets lie on each other, so the dashes differ in any case.
    """
    colors = color_of_each(runs)
    several = len(colors) > 1
    styles = []
    for index, run in enumerate(runs):
        color = colors[run["backend"]] if several else index
        styles.append({"color": color % COLORS, "dash": index % DASHES, "marker": color % MARKERS})
    return styles


def color_of_each(runs: Sequence[Mapping[str, Any]], more: Sequence[str] = ()) -> dict[str, int]:
    """The number of each framework's colour, in the order of its first run; then those without a run."""
    names = dict.fromkeys([*(run["backend"] for run in runs), *more])
    return {name: index % COLORS for index, name in enumerate(names)}
