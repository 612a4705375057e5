"""The pictures of stored.py: curves over epochs, accuracy over what it costs; not where the rows come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nin_multi.drawing.sheet import style, to_svg

if TYPE_CHECKING:
    from stored import Group

_COSTS = {
    "parameters": lambda group, row: row["parameters"],
    "multiply-adds": lambda group, row: row["multiply_adds"],
    "images/s": lambda group, row: row["examples_per_sec"],
}


def curves(groups: Sequence[Group], both: bool) -> bytes:
    """Test accuracy after each epoch, a line per run, a colour per case, a panel per framework."""
    from matplotlib.figure import Figure

    backends = list(dict.fromkeys(group.backend for group in groups))
    colours = {case: f"C{number % 10}" for number, case in enumerate(dict.fromkeys(group.case for group in groups))}
    title = "Test accuracy after each epoch"
    with style():
        figure = Figure(figsize=(4.6 if len(backends) == 1 else 3.2 * len(backends), 3.0), layout="constrained")
        panels = figure.subplots(1, len(backends), squeeze=False, sharex=True, sharey=True)[0]
        for panel, backend in zip(panels, backends, strict=True):
            for group in groups:
                if group.backend == backend:
                    _lines(panel, group, colours[group.case], both)
            panel.set(title=backend, xlabel="epoch")
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.grid(alpha=0.3)
            panel.legend(fontsize=6)
        panels[0].set_ylabel("accuracy: test, dashed in training" if both else "test accuracy")
        return to_svg(figure, title)


def _lines(panel: Any, group: Group, colour: str, both: bool) -> None:
    label: str | None = f"{group.case}, n = {len(group.rows)}"
    for row in group.rows:
        at = range(1, len(row["test_accs"]) + 1)
        drawn = {"color": colour, "linewidth": 0.9, "alpha": 0.8}
        panel.plot(at, row["test_accs"], ".-", label=label, **drawn)
        if both and row["train_accs"]:
            panel.plot(at, row["train_accs"], "--", **drawn)
        label = None


def cost(groups: Sequence[Group], column: str) -> bytes:
    """Test accuracy of each run over what it costs, on a scale of powers, a name beside each case's first."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for number, group in enumerate(groups):
            points = [(_COSTS[column](group, row), row["test_acc"]) for row in group.rows]
            points = [(x, y) for x, y in points if x is not None and y is not None]
            axes.plot([x for x, _ in points], [y for _, y in points], "o", color=f"C{number % 10}", markersize=4)
            for x, y in points[:1]:
                axes.annotate(group.case, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6)
        axes.set(xscale="log", xlabel=column, ylabel="test accuracy")
        axes.margins(x=0.2, y=0.15)
        plain_ticks(axes.xaxis)
        axes.grid(alpha=0.3, which="both")
        return to_svg(figure, f"Test accuracy over {column}")


def plain_ticks(axis: Any) -> None:
    """Numbers such as 100,000 along a scale of powers, at 1, 2 and 5 times each."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axis.set_minor_formatter(FuncFormatter(lambda x, _: ""))
