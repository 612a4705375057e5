"""The resources page's figures: a net's layers from the spec, memory predicted and measured, the search's trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from IPython.display import SVG, Markdown
from stored_pictures import plain_ticks

from nin_multi.architecture_file import load_architecture
from nin_multi.cli.summary import summarise
from nin_multi.drawing.sheet import style, to_svg
from nin_multi.footprint import Habits, load_of

STORE = Path(__file__).parent / "studies" / "memory.json"
Row = dict[str, Any]


def _stored() -> dict[str, Any]:
    return dict(json.loads(STORE.read_text(encoding="utf-8")))


def _markdown(*lines: list[str]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ["---"] * len(lines[0]), *lines[1:]))


def layers(*names: str, batch_size: int = 128) -> Markdown:
    """Parameters, computation and memory of whole nets, and of the first one's layers, from the spec alone."""
    found = [summarise(load_architecture(name), batch_size, expand=False) for name in names]
    head = ["layer", "output", "parameters", "multiply-adds", "outputs of one image, MB"]
    rows = [[row["name"], " x ".join(map(str, row["output"][1:])), *_counts(row)] for row in found[0]["layers"]]
    rows += [[f"**{one['arch']}**", "", *_counts(one)] for one in found]
    return Markdown(_markdown(head, *rows))


def _counts(found: dict[str, Any]) -> list[str]:
    """Of a layer, or of a whole net."""
    counts = f"{found['parameters']:,}", f"{found['multiply_adds']:,}"
    return [*counts, f"{found['activation_bytes'] / 1e6:.2f}"]


def predicted(row: Row, habits: dict[str, Any]) -> int | None:
    """Bytes; None where the framework's habits of that kind, in that precision, were not fitted."""
    own = habits.get(row["backend"], {}).get(row["what"]) if row["precision"] == "fp32" else None
    return None if own is None else Habits(**own).bytes(_load(row))


def _load(row: Row) -> Any:
    size = row["tuning"]["micro_batch"]
    images = row["batch_size"] if size == "all" else min(int(size), row["batch_size"])
    return load_of(load_architecture(row["arch"]), images, row["batch_size"])


def memory(*arches: str) -> Markdown:
    """Growth of a process, predicted, measured and how far off, as each framework computes by default."""
    stored = _stored()
    head = ["net", "batch", "framework", "training: predicted, MB", "measured", "off by"]
    head += ["prediction: predicted, MB", "measured", "off by"]
    rows = [row for row in stored["rows"] if row["arch"] in arches and not row["set"]]
    cases: dict[tuple[int, int, str, str], dict[str, Row]] = {}
    for row in rows:
        case = arches.index(row["arch"]), row["batch_size"], row["backend"], row["precision"]
        cases.setdefault(case, {})[row["what"]] = row
    lines = []
    for (net, size, backend, precision), kinds in sorted(cases.items()):
        cells = [_figures(kinds.get(what), stored["habits"]) for what in ("training", "prediction")]
        name = backend if precision == "fp32" else f"{backend}, {precision}"
        lines.append([arches[net], str(size), name, *cells[0], *cells[1]])
    return Markdown(_markdown(head, *lines) + "\n\n" + _source(rows))


def _figures(row: Row | None, habits: dict[str, Any]) -> tuple[str, str, str]:
    """Predicted, measured, off by."""
    if row is None:
        return ("-", "-", "-")
    expected, found = predicted(row, habits), row["growth_bytes"]
    if expected is None:
        return ("-", f"{found / 1e6:.0f}", "-")
    return (f"{expected / 1e6:.0f}", f"{found / 1e6:.0f}", f"{100 * (expected / found - 1):+.0f}\u00a0%")


def _source(rows: list[Row]) -> str:
    versions = sorted({f"{row['backend']} {row['versions'][row['backend']]}" for row in rows})
    numpy = sorted({f"NumPy {row['versions']['numpy']}, Python {row['versions']['python']}" for row in rows})
    machines = sorted({f"{row['machine']['processor']}, {row['machine']['cores']} core used" for row in rows})
    days = sorted({row["measured"] for row in rows})
    parts = [f"{len(rows)} measurements, one process each ({', '.join(days)})", "; ".join(versions + numpy + machines)]
    return ". ".join(parts) + ". `python tools/measure_memory.py` measures more."


def habits() -> Markdown:
    """How often each framework holds what, at its peak."""
    stored = _stored()
    names = list(next(iter(next(iter(stored["habits"].values())).values())))
    head = ["framework", "what", "fixed, MB", *names[1:]]
    lines = [
        [backend, what, f"{one['fixed']:.0f}", *(f"{one[name]:.2f}" for name in names[1:])]
        for backend, kinds in stored["habits"].items()
        for what, one in kinds.items()
    ]
    return Markdown(_markdown(head, *lines))


def worst(*, fitted: bool) -> str:
    """The furthest prediction of the nets that the habits were fitted on, or of the others; with its number."""
    stored = _stored()
    rows = [row for row in stored["rows"] if (row["arch"] in stored["fitted_on"]) == fitted]
    pairs = [(row, predicted(row, stored["habits"])) for row in rows]
    offs = [abs(expected / row["growth_bytes"] - 1) for row, expected in pairs if expected is not None]
    return f"{100 * max(offs):.0f} % (of {len(offs)} measurements)"


def picture() -> SVG:
    """Predicted against measured, a mark per framework, filled where it is training; the band is 15 %."""
    from matplotlib.figure import Figure

    stored = _stored()
    with style():
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        ends = [min(row["growth_bytes"] for row in stored["rows"]), max(row["growth_bytes"] for row in stored["rows"])]
        line = [0.8 * ends[0] / 1e6, 1.2 * ends[1] / 1e6]
        axes.plot(line, line, color="0.5", linewidth=0.6)
        axes.fill_between(line, [0.85 * x for x in line], [1.15 * x for x in line], color="0.9")
        for number, backend in enumerate(stored["habits"]):
            for what in ("training", "prediction"):
                rows = [row for row in stored["rows"] if (row["backend"], row["what"]) == (backend, what)]
                pairs = [(row["growth_bytes"] / 1e6, predicted(row, stored["habits"])) for row in rows]
                points = [(x, y / 1e6) for x, y in pairs if y is not None]
                fill: dict[str, Any] = {} if what == "training" else {"markerfacecolor": "none"}
                axes.plot(
                    *zip(*points, strict=True),
                    "o",
                    markersize=4,
                    color=f"C{number}",
                    label=f"{backend}, {what}",
                    **fill,
                )
        axes.set(xscale="log", yscale="log", xlabel="measured, MB", ylabel="predicted from the spec, MB")
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
        axes.legend(fontsize=6)
        axes.grid(alpha=0.3)
        return SVG(data=to_svg(figure, "Memory predicted and measured").decode())
