"""A comparison as Markdown and as CSV: the figures of the page without its pictures."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nin_multi.report.agreement import agreement_view
from nin_multi.report.figures import COLUMNS, end_table, figures_of
from nin_multi.report.layers import architectures_view
from nin_multi.report.numbers import show_count, show_moment, show_shape
from nin_multi.report.verdict import verdict_of

FACTS = ("id", "label", "backend", "framework_version", "device", "precision", "arch", "seed", "status", "reason")
POINT = (
    *("step", "progress", "seconds", "loss", "train_acc", "test_loss", "test_acc"),
    *("examples_per_sec", "compute_examples_per_sec", "dead_classes", "never_predicted"),
)


def render_markdown(comparison: Mapping[str, Any]) -> str:
    """The verdict, the end table, agreement, architectures and commands."""
    parts = [
        f"# {_plain(comparison['title'])}",
        _plain(verdict_of(comparison)),
        *_warnings(comparison),
        "## Runs",
        _end_table(comparison),
        *_reasons(comparison["runs"]),
        *_agreement(comparison["verify"]),
        *_architectures(comparison),
        *_repeat(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_csv(comparison: Mapping[str, Any]) -> str:
    """One row per run: what it is, and the figures of the end table, as they were measured."""
    rows = []
    for run in comparison["runs"]:
        figures = figures_of(run, comparison["verify"])
        rows.append([*(run.get(fact) for fact in FACTS), run.get("run_dir"), *figures.values()])
    return _csv([*FACTS, "run_dir", *(column.field for column in COLUMNS)], rows)


def render_curves(comparison: Mapping[str, Any]) -> str:
    """One row per point of a curve and per epoch's end."""
    rows = [
        [run["id"], run["backend"], run.get("seed"), event["event"], *(event.get(field) for field in POINT)]
        for run in comparison["runs"]
        for event in run.get("events") or []
        if event.get("event") in ("step", "epoch")
    ]
    return _csv(["run", "backend", "seed", "event", *POINT], rows)


def _csv(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    """A list as "3 7". Text that a spreadsheet would take for a formula is marked as text."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _plain(text: object) -> str:
    """On one line, and nothing in it is a mark of Markdown or of HTML."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Cells are made plain here; all columns but the first `left` are numbers."""
    marks = ["---"] * left + ["---:"] * (len(heading) - left)
    lines = [[_plain(word) for word in heading], marks, *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _warnings(comparison: Mapping[str, Any]) -> list[str]:
    found = []
    lines = [f"> - {_plain(difference)}" for difference in comparison["differences"]]
    if not comparison["comparable"]:
        found.append("\n".join(["> **These runs cannot be compared with each other.**", ">", *lines]))
    elif lines:
        found.append("\n".join(["> What differs between the runs:", ">", *lines]))
    if any((run.get("dataset") or {}).get("synthetic") for run in comparison["runs"]):
        found.append("> **The images are synthetic:** accuracies say nothing about real images.")
    return found


def _end_table(comparison: Mapping[str, Any]) -> str:
    rows = end_table(comparison["runs"], comparison["verify"], mark_best=False)
    heading = ["run", "status", *(column.heading for column in COLUMNS)]
    cells = [[row["run"]["label"], row["run"]["status"], *(cell["text"] for cell in row["cells"])] for row in rows]
    return _table(heading, cells, left=2)


def _reasons(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for run in runs:
        if run.get("reason"):
            lines.append(f"- **{_plain(run['label'])} {_plain(run['status'])}:** {_plain(run['reason'])}")
            lines += [f"  To go on: {_code(run['to_go_on'])}"] if run.get("to_go_on") else []
    return ["\n".join(lines)] if lines else []


def _agreement(verify: Mapping[str, Any] | None) -> list[str]:
    found = agreement_view(verify)
    if found is None:
        return []
    rows = [[row["words"], row["allowed"], *(cell["text"] for cell in row["cells"])] for row in found["checks"]]
    findings = [
        f"- **{_plain(finding['backend'])}**, {_plain(finding['where'])}: expected {_plain(finding['expected'])}, "
        f"observed {_plain(finding['observed'])}"
        for finding in found["divergences"]
    ]
    table = _table(["relative error of", "allowed", *found["backends"]], rows)
    return ["## Agreement with the float64 oracle", table, "\n".join(findings)]


def _architectures(comparison: Mapping[str, Any]) -> list[str]:
    parts = []
    for found in architectures_view(comparison):
        parts.append(f"## {_plain(found['name'])}")
        counts = [show_count(found[key]) for key in ("parameters", "multiply_adds")]
        parts.append(f"{counts[0]} parameters, {counts[1]} multiply-adds per image.")
        rows = [
            [
                row["name"],
                row["type"],
                show_shape(row["output"]),
                show_count(row["parameters"]),
                show_count(row["multiply_adds"]),
            ]
            for row in found["rows"]
        ]
        parts.append(_table(["layer", "type", "output", "parameters", "multiply-adds"], rows, left=3))
    return parts


def _repeat(comparison: Mapping[str, Any]) -> list[str]:
    parts = ["## How to repeat"] if comparison["repeat"] else []
    parts += [_block(comparison["repeat"])] if comparison["repeat"] else []
    return [*parts, f"Created {show_moment(comparison['created'])}."]


def _code(text: object) -> str:
    """Inline code; its fence is longer than any run of backticks in it."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _block(lines: Sequence[str]) -> str:
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0))
    return "\n".join([fence, *lines, fence])
