"""Draws a run's curve in the book's style: loss and accuracies over epochs, six points an epoch, as SVG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from nin_multi.drawing.sheet import style, to_svg


def draw_curve(events: Iterable[Mapping[str, Any]], epochs: int, title: str) -> bytes:
    """SVG of a run's events; `title` says what was trained on what."""
    from matplotlib.figure import Figure

    events = list(events)
    steps = [event for event in events if event.get("event") == "step" and _has(event, "progress")]
    ends = [event for event in events if event.get("event") == "epoch" and _has(event, "epoch")]
    with style():
        figure = Figure(figsize=(3.8, 2.7), layout="constrained")
        axes = figure.add_subplot()
        at = [event["progress"] for event in steps]
        axes.plot(at, [_number(event, "loss") for event in steps], "-", color="C0", label="train loss")
        axes.plot(at, [_number(event, "train_acc") for event in steps], "--", color="C4", label="train acc")
        marker = "." if len(ends) == 1 else ""  # a line needs two points to be seen
        ended = [event["epoch"] for event in ends]
        axes.plot(
            ended,
            [_number(event, "test_acc") for event in ends],
            "-.",
            marker=marker,
            color="C2",
            label="test acc",
            clip_on=False,
        )
        axes.set(
            xlabel="epoch",
            xlim=(min(1, *at, 1) if epochs > 1 else 0, epochs),
            ylim=(0, None),
            title=textwrap.fill(title, 52),
        )
        axes.grid()
        axes.legend()
        return to_svg(figure, title)


def _has(event: Mapping[str, Any], name: str) -> bool:
    return isinstance(event.get(name), int | float)


def _number(event: Mapping[str, Any], name: str) -> float:
    """A gap in the curve where a value is none, or is not there: somebody may have written the file by hand."""
    return float(event[name]) if _has(event, name) else math.nan
