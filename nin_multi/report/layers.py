"""Architectures as tables: each layer's shape as the specification has it, and as each framework gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nin_multi.report.numbers import show_setting, show_shape

Shapes = Mapping[str, Mapping[str, Any]]


def architectures_view(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every architecture, with the frameworks that told their shapes of its layers."""
    return [_architecture(found, comparison["shapes"]) for found in comparison["architectures"]]


def _architecture(found: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
    names = {layer["name"] for layer in found["layers"]}
    told = {backend: by_layer for backend, by_layer in shapes.items() if names & set(by_layer)}
    rows = [_layer(layer, told) for layer in _blocks_first(found["layers"])]
    cells = [cell for row in rows for cell in row["shapes"] if cell["fits"] is not None]
    return {
        **found,
        "backends": list(told),
        "rows": rows,
        "agree": all(cell["fits"] for cell in cells),
        "compared": len(cells),
    }


def _blocks_first(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A block before the layers in it, which come before it where they are computed."""
    blocks: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        blocks.setdefault(str(layer["name"]).partition(".")[0], []).append(layer)
    return [layer for inside in blocks.values() for layer in sorted(inside, key=lambda layer: "." in layer["name"])]


def _layer(layer: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
    cells = []
    for by_layer in shapes.values():
        shape = by_layer.get(layer["name"])
        # The first number is the batch, which is whatever was asked for.
        fits = None if shape is None else list(shape[1:]) == list(layer["output"][1:])
        cells.append({"text": show_shape(shape), "fits": fits})
    settings = ", ".join(f"{name} {show_setting(value)}" for name, value in _told(layer))
    return {**layer, "shapes": cells, "settings": settings, "depth": str(layer["name"]).count(".")}


def _told(layer: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings that a layer has; one that is not given says nothing."""
    return [
        (name.replace("_", " "), value) for name, value in (layer.get("settings") or {}).items() if value is not None
    ]
