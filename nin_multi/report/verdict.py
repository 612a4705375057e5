"""What came of a comparison, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nin_multi.report.figures import figures_of
from nin_multi.report.numbers import is_number, show_error, show_rate, show_score
from nin_multi.report.status import how_far, kind_of

Run = Mapping[str, Any]


def verdict_of(comparison: Mapping[str, Any]) -> str:
    """While runs go on, where they are; then accuracies, speeds, and whether the frameworks compute the same."""
    runs = comparison["runs"]
    if not runs:
        return "There is no run yet."
    if not comparison["over"]:
        return how_far(runs)
    done = [run for run in runs if kind_of(run) == "done"]
    parts = [
        _ends(runs, done),
        _accuracies(done),
        _speeds(done) if comparison["comparable"] else "",
        _agreement(comparison["verify"]),
    ]
    return "; ".join(filter(None, parts)) + "."


def _ends(runs: Sequence[Run], done: Sequence[Run]) -> str:
    if len(done) == len(runs):
        return "The run is done" if len(runs) == 1 else f"All {len(runs)} runs are done"
    others = ", ".join(f"{run['label']} {run['status']}" for run in runs if kind_of(run) != "done")
    return f"{len(done)} of {len(runs)} runs {'is' if len(done) == 1 else 'are'} done ({others})"


def _accuracies(done: Sequence[Run]) -> str:
    found = [show_score(value) for run in done if is_number(value := figures_of(run)["test_acc"])]
    if not found:
        return ""
    low, high = min(found), max(found)
    return f"test accuracy {low}" if low == high else f"test accuracy {low} to {high}"


def _speeds(done: Sequence[Run]) -> str:
    """The fastest and the slowest framework, by its fastest run."""
    fastest: dict[str, float] = {}
    for run in done:
        if is_number(speed := figures_of(run)["examples_per_sec"]):
            fastest[run["backend"]] = max(speed, fastest.get(run["backend"], 0.0))
    if len(fastest) < 2:
        return ""
    best, worst = max(fastest, key=fastest.__getitem__), min(fastest, key=fastest.__getitem__)
    if not fastest[worst] > 0:
        return ""
    times = fastest[best] / fastest[worst]
    return f"{best} trains fastest, {show_rate(fastest[best])} images/s, {times:.1f} times {worst}"


def _agreement(verify: Mapping[str, Any] | None) -> str:
    reports = (verify or {}).get("backends") or {}
    if not reports:
        return ""
    off = [name for name, report in reports.items() if not report["agree"]]
    if off:
        return f"values of {_listed(off)} disagree with the float64 oracle"
    errors = [report.get("logits_rel_err") for report in reports.values()]
    furthest = max((error for error in errors if is_number(error)), default=None)
    within = f", logits to {show_error(furthest)}" if furthest is not None else ""
    return f"{_listed(list(reports))} agree{'s' if len(reports) == 1 else ''} with the float64 oracle{within}"


def _listed(names: Sequence[str]) -> str:
    """Such as "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
