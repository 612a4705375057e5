"""What the nets said of each class: lost classes, confusion matrices, single images; as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nin_multi.report.figures import events_of
from nin_multi.report.numbers import is_number

LARGEST_MATRIX = 30  # classes; a larger table is no picture any more
Run = Mapping[str, Any]


def class_name(classes: Sequence[str], index: int) -> str:
    """A name, or "class 12" where the data has none for it."""
    return classes[index] if 0 <= index < len(classes) else f"class {index}"


def lost_view(runs: Sequence[Run], classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each run that told of it: the classes dead, or never predicted, at its end."""
    rows = []
    for run in runs:
        dead, missed = _last(run, "dead_classes"), _last(run, "never_predicted")
        if dead is not None or missed is not None:
            names = [[class_name(classes, index) for index in found or []] for found in (dead, missed)]
            rows.append({"run": run, "dead": names[0], "never_predicted": names[1]})
    return rows


def _last(run: Run, field: str) -> list[int] | None:
    """From the result, else what the test images said last, else what the training images did."""
    found = [(run.get("result") or {}).get(field)]
    found += [event.get(f"test_{field}") for event in reversed(events_of(run, "epoch"))]
    found += [event.get(field) for event in reversed(events_of(run, "step"))]
    return next((value for value in found if value is not None), None)


def confusions_view(runs: Sequence[Run], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A matrix per run that has one, each cell with its share of the images of its true class."""
    found = []
    for run in runs:
        matrix = _matrix(run)
        if matrix and len(matrix) <= LARGEST_MATRIX:
            found.append({"run": run, "rows": [_row(row, index, classes) for index, row in enumerate(matrix)]})
    return found


def _matrix(run: Run) -> list[list[int]] | None:
    told = [event.get("confusion") for event in reversed(events_of(run, "epoch"))]
    return next((matrix for matrix in (run.get("confusion"), *told) if matrix), None)


def _row(counts: Sequence[int], index: int, classes: Sequence[str]) -> dict[str, Any]:
    total = sum(counts)
    cells = [
        {"count": count, "share": count / total if total else 0.0, "right": column == index}
        for column, count in enumerate(counts)
    ]
    recall = counts[index] / total if total and index < len(counts) else None
    return {"name": class_name(classes, index), "cells": cells, "recall": recall}


def samples_view(runs: Sequence[Run], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Single images, each with what every run took it for; the images on which runs differ come first."""
    found: dict[Any, dict[str, Any]] = {}
    for run in runs:
        for sample in run.get("samples") or []:
            label = class_name(classes, sample["label"])
            image = str(sample.get("image") or "")
            shown = image if image.startswith("data:image/png;base64,") else ""
            entry = found.setdefault(
                sample["index"], {"index": sample["index"], "label": label, "image": shown, "answers": []}
            )
            entry["answers"].append(_answer(run, sample, classes))
    return sorted(found.values(), key=lambda entry: (-_kinds(entry), entry["index"]))


def _answer(run: Run, sample: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    predicted, probabilities = sample["predicted"], sample.get("probabilities") or []
    sure = probabilities[predicted] if 0 <= predicted < len(probabilities) else None
    return {
        "run": run,
        "predicted": class_name(classes, predicted),
        "probability": sure if is_number(sure) else None,
        "right": predicted == sample["label"],
    }


def _kinds(entry: Mapping[str, Any]) -> int:
    return len({answer["predicted"] for answer in entry["answers"]})
