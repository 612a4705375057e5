"""What run.json says of every run, side by side, so that a difference stands out; not what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from nin_multi.report.numbers import show_count, show_memory, show_moment, show_setting

Run = Mapping[str, Any]

TABLES = (
    ("Recipe", "recipe"),
    ("Data", "dataset"),
    ("Versions", "versions"),
    ("Machine", "machine"),
    ("Environment", "environment"),
    ("How the net is computed", "tuning"),
)


def facts_view(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The tables that any run fills: one row per fact, one cell per run, or one for all where they are the same."""
    tables: list[dict[str, Any]] = [{"title": "Runs", "rows": _runs(runs)}]
    for title, key in TABLES:
        told = [_flat(run.get(key) or {}) for run in runs]
        names = dict.fromkeys(name for facts in told for name in facts)
        rows = [_row(_words(key, name), [_show(name, facts.get(name)) for facts in told]) for name in names]
        if rows:
            tables.append({"title": title, "rows": rows})
    return tables


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A table within a table as rows of its own."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        inner = {f"{name} {key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
        found.update(inner)
    return found


def _runs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {
        "directory": [PurePath(str(run.get("run_dir") or "")).name for run in runs],
        "framework": [f"{run['backend']} {run.get('framework_version') or ''}".strip() for run in runs],
        "architecture": [run.get("arch") for run in runs],
        "device": [run.get("device") for run in runs],
        "precision": [run.get("precision") for run in runs],
        "seed": [run.get("seed") for run in runs],
        "started": [show_moment(run.get("started")) for run in runs],
    }
    return [_row(name, [show_setting(value) for value in values]) for name, values in columns.items()]


def _row(name: str, cells: list[str]) -> dict[str, Any]:
    return {"name": name, "cells": [_short(cell) for cell in cells], "same": len(set(cells)) == 1}


def _short(text: str) -> str:
    """A SHA-256 by its beginning: enough to tell two apart; run.json has it whole."""
    return f"{text[:16]}…" if re.fullmatch("[0-9a-f]{64}", text) else text


def _words(table: str, name: str) -> str:
    """Variables and packages keep their names."""
    return name if table in ("environment", "versions") else name.removesuffix("_bytes").replace("_", " ")


def _show(name: str, value: Any) -> str:
    if name == "synthetic" and isinstance(value, bool):
        return "yes" if value else "no"
    if str(name).endswith("_examples") and isinstance(value, int):
        return show_count(value)
    return show_memory(value) if str(name).endswith("_bytes") else show_setting(value)
