"""What page.js needs of a comparison: curves, layers, errors; without what only the tables and pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nin_multi.report.figures import figures_of
from nin_multi.report.styles import color_of_each, style_of_each

FIELDS = (
    *("id", "label", "backend", "status", "reason", "to_go_on"),
    *("step", "steps", "epoch", "epochs", "seconds_left", "now"),
)
OF_LAYERS = ("quantiles", "zeros", "std")  # what is drawn of them
LEFT_OUT = ("confusion",)  # in events; the tables have it


def page_data(comparison: Mapping[str, Any], events: str | None) -> dict[str, Any]:
    """Plain JSON; `events` is the address of the stream of a page that is still being written."""
    runs, verify = comparison["runs"], comparison["verify"]
    styles = style_of_each(runs)
    backends = (verify or {}).get("backends") or {}
    return {
        "events": events if events and not comparison["over"] else None,
        "created": comparison["created"],
        "classes": comparison["classes"],
        "runs": [_run(run, style, verify) for run, style in zip(runs, styles, strict=True)],
        "colors": color_of_each(runs, list(backends)),
        "verify": {name: _errors(report) for name, report in backends.items()},
    }


def _run(run: Mapping[str, Any], style: Mapping[str, int], verify: Mapping[str, Any] | None) -> dict[str, Any]:
    events = [_slim(event) for event in run.get("events") or []]
    return {**{field: run.get(field) for field in FIELDS}, **style, "result": figures_of(run, verify), "events": events}


def _slim(event: Mapping[str, Any]) -> dict[str, Any]:
    """Losses keep every digit, for curves are compared; five are enough for what is only looked at."""
    exact = ("loss", "train_acc", "test_loss", "test_acc")
    slim = {key: value if key in exact else _rounded(value) for key, value in event.items() if key not in LEFT_OUT}
    if event.get("event") == "layers":
        told: Mapping[str, Mapping[str, Any]] = slim.get("layers") or {}
        slim["layers"] = {name: {key: values.get(key) for key in OF_LAYERS} for name, values in told.items()}
    return slim


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _errors(report: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _rounded(report.get(key) or {}) for key in ("layers", "gradients", "tolerances")}
