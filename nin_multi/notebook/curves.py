"""Draws several runs in one picture while they go on: their loss beside their accuracy; not a single run's curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nin_multi.drawing.sheet import style, to_svg

DASHES = ("-", "--", "-.", ":")  # curves of equal nets lie on each other


def draw_curves(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """SVG: to the left the training loss, to the right the accuracy in training (lines) and in tests (dots)."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(7.6, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, run in enumerate(runs):
            look = {"color": f"C{index % 10}", "linestyle": DASHES[index % len(DASHES)]}
            steps = [event for event in run["events"] if event.get("event") == "step"]
            ends = [event for event in run["events"] if event.get("event") == "epoch"]
            at = [event["progress"] for event in steps]
            left.plot(at, _values(steps, "loss"), label=run["label"], **look)
            right.plot(at, _values(steps, "train_acc"), **look)
            ended = [event["progress"] for event in ends]
            right.plot(ended, _values(ends, "test_acc"), "o", color=look["color"], markersize=4, clip_on=False)
        epochs = max(run["epochs"] for run in runs)
        left.set(xlabel="epoch", title="train loss", xlim=(0, epochs), ylim=(0, None))
        right.set(xlabel="epoch", title="train acc (lines), test acc (dots)", xlim=(0, epochs), ylim=(0, 1))
        for axes in (left, right):
            axes.grid()
        left.legend()
        return to_svg(figure, ", ".join(str(run["label"]) for run in runs))


def _values(events: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A gap where a value is none."""
    return [math.nan if event.get(name) is None else float(event[name]) for event in events]
