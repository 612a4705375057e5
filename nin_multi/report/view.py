"""What the page says, section by section, as plain values for its templates; a section without data is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nin_multi.report.agreement import agreement_view
from nin_multi.report.classes import confusions_view, lost_view, samples_view
from nin_multi.report.embedding import picture_address
from nin_multi.report.facts import facts_view
from nin_multi.report.figures import COLUMNS, end_table, events_of
from nin_multi.report.layers import architectures_view
from nin_multi.report.numbers import is_number
from nin_multi.report.status import SIGNS, kind_of, share_done
from nin_multi.report.styles import color_of_each, style_of_each
from nin_multi.report.verdict import verdict_of

Run = Mapping[str, Any]

PICTURES = {
    "class_maps": "Class maps: where in an image each class is seen",
    "filters": "Filters of the first layer",
    "activations": "Distribution of activations",
}


@dataclass(frozen=True)
class Section:
    """One part of the page; its template is NAME.html."""

    name: str
    title: str


def page_view(comparison: Mapping[str, Any], live: bool) -> dict[str, Any]:
    """Everything the templates ask for. A `live` page has the sections that runs will fill."""
    verify, classes = comparison["verify"], comparison["classes"]
    runs = [_run(run, style) for run, style in zip(comparison["runs"], style_of_each(comparison["runs"]), strict=True)]
    mark_best = comparison["over"] and comparison["comparable"]
    view = {
        "live": live,
        "over": comparison["over"],
        "title": comparison["title"],
        "created": comparison["created"],
        "verdict": verdict_of(comparison),
        "comparable": comparison["comparable"],
        "differences": comparison["differences"],
        "synthetic": any((run.get("dataset") or {}).get("synthetic") for run in runs),
        "runs": runs,
        "columns": COLUMNS,
        "table": end_table(runs, verify, mark_best),
        "points": [(run, event) for run in runs for event in run["events"] if event.get("event") in ("step", "epoch")],
        "curves": [(run, address) for run in runs if (address := _picture(run, "curve"))],
        "colors": color_of_each(comparison["runs"], list((verify or {}).get("backends") or {})),
        "diagram": picture_address(comparison["diagram"]),
        "architectures": architectures_view(comparison),
        "agreement": agreement_view(verify),
        "lost": lost_view(runs, classes),
        "classes": classes,
        "confusions": confusions_view(runs, classes),
        "samples": samples_view(runs, classes),
        "has_layers": any(events_of(run, "layers") for run in runs),
        "pictures": _pictures(runs),
        "code": comparison["code"],
        "facts": facts_view(runs) if runs else [],
        "repeat": comparison["repeat"],
    }
    return {**view, "sections": _sections(view)}


def _run(run: Run, style: Mapping[str, int]) -> dict[str, Any]:
    kind = kind_of(run)
    return {
        **run,
        "style": style,
        "kind": kind,
        "sign": SIGNS[kind],
        "share": share_done(run),
        "events": run.get("events") or [],
    }


def _picture(run: Run, name: str) -> str:
    return picture_address((run.get("pictures") or {}).get(name))


def _pictures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """By kind, so that the runs' pictures of one kind stand side by side."""
    found = []
    for name, title in PICTURES.items():
        of_runs = [(run, address) for run in runs if (address := _picture(run, name))]
        if of_runs:
            found.append({"title": title, "of_runs": of_runs})
    return found


def _sections(view: Mapping[str, Any]) -> list[Section]:
    live = view["live"]
    measured = any(is_number(cell["value"]) for row in view["table"] for cell in row["cells"])
    there = {
        ("overview", "Overview"): True,
        ("curves", "Curves"): live or view["points"] or view["curves"],
        ("architecture", "Architecture"): view["architectures"] or view["diagram"],
        ("agreement", "Agreement"): view["agreement"],
        ("speed", "Speed and memory"): live or measured,
        ("classes", "Classes"): live or view["lost"] or view["confusions"] or view["samples"],
        ("inside", "Inside"): live or view["pictures"] or view["has_layers"],
        ("code", "Code"): view["code"],
        ("repeat", "How to repeat"): view["repeat"] or view["facts"],
    }
    return [Section(name, title) for (name, title), is_there in there.items() if is_there]
