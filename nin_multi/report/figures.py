"""The figures of a run's end, each from its result or, while it goes on, from what it said last; and the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nin_multi.report.numbers import (
    is_number,
    show_count,
    show_error,
    show_memory,
    show_rate,
    show_score,
    show_seconds,
)
from nin_multi.report.status import kind_of

Run = Mapping[str, Any]
Events = list[Mapping[str, Any]]


@dataclass(frozen=True)
class Column:
    """A column of the end table: `field` is its name in the data, `better` which end of it is the better one."""

    field: str
    heading: str
    about: str
    show: Callable[[Any], str]
    better: str = ""


COLUMNS = (
    Column("loss", "loss", "Mean cross-entropy over the training images of the last epoch", show_score, "low"),
    Column("train_acc", "train acc", "Accuracy on the training images of the last epoch", show_score, "high"),
    Column("test_acc", "test acc", "Accuracy on the test images", show_score, "high"),
    Column("examples_per_sec", "images/s", "Training images per second, with data preparation", show_rate, "high"),
    Column("compute_examples_per_sec", "compute", "Images per second without data preparation", show_rate, "high"),
    Column("startup_seconds", "start-up", "Until the net stands: imports, building, warming up", show_seconds, "low"),
    Column(
        "first_step_seconds", "first step", "The first training step, in which nets are compiled", show_seconds, "low"
    ),
    Column("peak_memory_bytes", "memory", "The most memory its process has held", show_memory, "low"),
    Column("logits_rel_err", "logits error", "Largest relative error of the logits, float64 oracle", show_error, "low"),
    Column("grad_rel_err", "gradient error", "Largest relative error of a gradient, float64 oracle", show_error, "low"),
    Column("adapter_lines", "adapter", "Lines of code that connect the framework", show_count, "low"),
)


def events_of(run: Run, kind: str) -> Events:
    """A run's events of one kind, "step", "epoch" or "layers", in their order."""
    return [event for event in run.get("events") or [] if event.get("event") == kind]


def figures_of(run: Run, verify: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every figure of COLUMNS, None where it is not known."""
    told: dict[str, Any] = {}
    for event in run.get("events") or []:
        if event.get("event") in ("step", "epoch"):
            told.update({key: value for key, value in event.items() if value is not None})
    if kind_of(run) == "going":
        told.update(run.get("now") or {})
    told.update({key: value for key, value in (run.get("result") or {}).items() if value is not None})
    told["adapter_lines"] = run.get("adapter_lines")
    report = ((verify or {}).get("backends") or {}).get(run["backend"]) or {}
    told.update({key: report.get(key) for key in ("logits_rel_err", "grad_rel_err")})
    return {column.field: _number(told.get(column.field)) for column in COLUMNS}


def end_table(runs: Sequence[Run], verify: Mapping[str, Any] | None, mark_best: bool) -> list[dict[str, Any]]:
    """A row per run: its figures, how they are shown, and in which it is the best of several that are done."""
    figures = [figures_of(run, verify) for run in runs]
    done = [found for run, found in zip(runs, figures, strict=True) if kind_of(run) == "done"]
    best = {column.field: _best(column, done) for column in COLUMNS} if mark_best else {}
    return [_row(run, found, best) for run, found in zip(runs, figures, strict=True)]


def _row(run: Run, found: dict[str, Any], best: Mapping[str, float | None]) -> dict[str, Any]:
    is_done = kind_of(run) == "done"
    cells = []
    for column in COLUMNS:
        value = found[column.field]
        is_best = is_done and value is not None and value == best.get(column.field)
        cells.append({"field": column.field, "value": value, "text": column.show(value), "best": is_best})
    return {"run": run, "cells": cells}


def _best(column: Column, figures: Sequence[Mapping[str, Any]]) -> float | None:
    """None where there is no better one: they are all the same, or there is nothing to choose from."""
    values = [found[column.field] for found in figures if found[column.field] is not None]
    if len(set(values)) < 2 or not column.better:
        return None
    return float(min(values) if column.better == "low" else max(values))


def _number(value: Any) -> Any:
    return value if is_number(value) else None
