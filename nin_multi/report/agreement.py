"""The verification of a comparison as tables: each check, layer and gradient, by framework; not how it is found out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nin_multi.report.numbers import NOTHING, is_number, show_error

CHECKS = (
    ("activation", "activation_rel_err", "activations, the furthest"),
    ("logits", "logits_rel_err", "logits"),
    ("loss", "loss_rel_err", "loss"),
    ("gradient", "grad_rel_err", "gradients, the furthest"),
    ("step", "step_rel_err", "parameters after a step"),
    ("momentum", "momentum_rel_err", "after two steps with momentum"),
    ("curve", "curve_rel_err", "loss of {steps} training steps"),
)
Reports = Mapping[str, Mapping[str, Any]]


def agreement_view(verify: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """None where nothing was verified."""
    reports: Reports = (verify or {}).get("backends") or {}
    if not verify or not reports:
        return None
    return {
        "backends": list(reports),
        "agree": all(report["agree"] for report in reports.values()),
        "nearest_decision": verify.get("nearest_decision"),
        "images": (verify.get("input") or [None])[0],
        "precision": verify.get("precision") or "",
        "checks": _checks(reports, verify.get("steps") or 0),
        "layers": _rows(reports, "layers", "activation"),
        "gradients": _rows(reports, "gradients", "gradient"),
        "divergences": [
            {"backend": name, **finding} for name, report in reports.items() for finding in report["divergences"]
        ],
    }


def _checks(reports: Reports, steps: int) -> list[dict[str, Any]]:
    rows = []
    for check, field, words in CHECKS:
        if any(field in report for report in reports.values()):
            allowed = [report["tolerances"].get(check) for report in reports.values()]
            cells = [_cell(report, field in report, report.get(field), check) for report in reports.values()]
            bound = max(filter(is_number, allowed), default=None)
            rows.append({"words": words.format(steps=steps), "allowed": show_error(bound), "cells": cells})
    return rows


def _rows(reports: Reports, key: str, check: str) -> list[dict[str, Any]]:
    """One row per layer or gradient that any framework has told of."""
    names = dict.fromkeys(name for report in reports.values() for name in report.get(key) or {})
    rows = []
    for name in names:
        cells = []
        for report in reports.values():
            told = report.get(key) or {}
            cells.append(_cell(report, name in told, told.get(name), check))
        rows.append({"name": name, "cells": cells})
    return rows


def _cell(report: Mapping[str, Any], was_asked: bool, error: Any, check: str) -> dict[str, Any]:
    """JSON has no infinity: None is one, unless it was never asked for."""
    if not was_asked:
        return {"text": NOTHING, "fits": None}
    if not is_number(error):
        return {"text": "∞", "fits": False}
    allowed = report["tolerances"].get(check)
    return {"text": show_error(error), "fits": None if allowed is None else error <= allowed}
