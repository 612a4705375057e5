"""Draws a session, and those before it on the same machine: bars under the machine's peak, lines over time; as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"harness": "C0", "step": "C1", "bare": "C2", "book": "C4", "data": "C7"}
STYLES = {"harness": ("-", "o"), "step": ("--", "s"), "bare": (":", "^"), "book": ("-.", "x")}
Row = Mapping[str, Any]
Session = Mapping[str, Any]


def draw(session: Session, before: Sequence[Session] = ()) -> bytes:
    """SVG of a session. `before` are the comparable ones, oldest first; without any, nothing is drawn over time."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # A fixed salt, and no date below: equal sessions give equal pictures.
    with matplotlib.rc_context({"svg.hashsalt": "nin_multi", "font.size": 8}):
        figure = figure_of(session, before)
        buffer = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def figure_of(session: Session, before: Sequence[Session]) -> Figure:
    """The figure itself: a panel of bars for each precision, the history below where there is one."""
    from matplotlib.figure import Figure

    rows = [row for row in session["rows"] if row["what"] != "data"] or list(session["rows"])
    panels = {
        word: [row for row in rows if row["precision"] == word] for word in sorted({r["precision"] for r in rows})
    }
    heights = [0.55 + 0.2 * len(part) for part in panels.values()] + [2.4] * bool(before)
    figure = Figure(figsize=(6.4, 0.5 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for place, (precision, part) in zip(axes, panels.items(), strict=False):
        _bars(place, part, session, precision)
    if before:
        _history(axes[-1], [*before, session])
    size = max(row["batch_size"] for row in rows)
    figure.suptitle(f"{rows[0]['arch']}, batch {size}: training images/s", fontsize=9)
    return figure


def _bars(axes: Any, rows: Sequence[Row], session: Session, precision: str) -> None:
    speeds = [row["examples_per_sec"] for row in rows]
    at = range(len(rows))
    low = [speed - min(row["rounds"]) for row, speed in zip(rows, speeds, strict=True)]
    high = [max(row["rounds"]) - speed for row, speed in zip(rows, speeds, strict=True)]
    colors = [COLORS.get(row["what"], "C7") for row in rows]
    axes.barh(at, speeds, color=colors, xerr=(low, high), error_kw={"elinewidth": 0.8, "capsize": 2})
    reach = _peak(axes, session, precision)
    for place, row, speed, above in zip(at, rows, speeds, high, strict=True):
        share = row.get("peak_share")
        text = f"{speed:.1f}" if share is None else f"{speed:.1f} ({share:.0%})"
        where = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(text, (speed + above, place), **where, bbox=ground)
    axes.set_yticks(at, [f"{row['backend']} {row['what']}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05 * max(reach, *(1.35 * max(row["rounds"]) for row in rows)))  # room for the figures
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _peak(axes: Any, session: Session, precision: str) -> float:
    """A line where training would be if it were nothing but matrix products at the machine's peak; where that is."""
    peak, flop = session["machine"]["matmul_gflops"].get(precision), session["training_flop_per_image"]
    if not (peak and flop):
        axes.set_title(precision, loc="left")
        return 0.0
    at: float = peak * 1e9 / flop
    axes.axvline(at, color="C3", linestyle="--")
    axes.set_title(f"{precision}; dashed: the matrix peak, {at:.0f} images/s, and shares of it", loc="left", fontsize=8)
    return at


def _history(axes: Any, sessions: Sequence[Session]) -> None:
    """The medians of what people wait for, harness and book, over the sessions; all there is where those are not."""
    keys = dict.fromkeys(_key(row) for session in sessions for row in session["rows"] if row["what"] != "data")
    shown = [key for key in keys if key[2] in ("harness", "book")] or list(keys)
    colors = {nets: f"C{number}" for number, nets in enumerate(dict.fromkeys(key[:2] for key in shown))}
    for key in shown:
        found = [
            (number, row["examples_per_sec"])
            for number, session in enumerate(sessions)
            for row in session["rows"]
            if _key(row) == key
        ]
        line, marker = STYLES.get(key[2], ("-", "."))
        axes.plot(
            *zip(*found, strict=True), line, marker=marker, markersize=3, color=colors[key[:2]], label=" ".join(key)
        )
    axes.set_yscale("log")
    axes.set_xticks(range(len(sessions)), [str(session.get("time", ""))[:10] for session in sessions], rotation=30)
    axes.set_title("sessions on this machine", loc="left", fontsize=8)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid()


def _key(row: Row) -> tuple[str, str, str]:
    return str(row["backend"]), str(row["precision"]), str(row["what"])
