"""An architecture as a table in a notebook: its layers, what they hold and cost; blocks can be opened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from nin_multi.notebook import markup
from nin_multi.spec import Architecture, TracedLayer

HEAD = ("layer", "type", "settings", "output", "parameters", "multiply-adds")
NUMBERS = ("output", "parameters", "multiply-adds")
WIDTHS = ("15%", "16%", "36%", "11%", "10%", "12%")  # the same for a block's layers, so that columns stay columns


def layer_table(architecture: Architecture) -> str:
    """HTML. Shapes and multiply-adds are for one image."""
    rows = [html for layer in architecture.trace() for html in _rows(layer)]
    rows.append(_sums(architecture))
    title = f"{architecture.name}, input {_shape((1, *architecture.input))}"
    table = markup.table(HEAD, rows, right=NUMBERS, widths=WIDTHS)
    return markup.block(markup.line(title), f'<div style="max-width: 960px">{table}</div>')


def _rows(layer: TracedLayer) -> Iterator[str]:
    yield _row(layer, layer.name)
    if layer.inner:
        yield markup.row([markup.wide(_inside(layer), len(HEAD))])


def _row(layer: TracedLayer, name: str) -> str:
    texts = (name, layer.layer.type, _settings(layer), _shape(layer.output))
    counts = (f"{sum(map(math.prod, layer.parameters.values())):,}", f"{layer.multiply_adds:,}")
    return markup.row(_cells([*texts, *counts]))


def _cells(texts: Sequence[str]) -> list[str]:
    return [markup.cell(escape(text), right=name in NUMBERS) for name, text in zip(HEAD, texts, strict=True)]


def _inside(block: TracedLayer) -> str:
    """A block's own layers, behind a line that opens them."""
    rows = [_row(layer, layer.child_name) for layer in block.inner]
    summary = f"{len(rows)} layers in {block.name}"
    inner = markup.table([""] * len(HEAD), rows, widths=WIDTHS)
    return (
        f'<details><summary style="cursor: pointer; opacity: 0.75">{escape(summary)}</summary>'
        f'<div style="opacity: 0.85">{inner}</div></details>'
    )


def _sums(architecture: Architecture) -> str:
    counts = (f"{architecture.parameters:,}", f"{architecture.multiply_adds:,}")
    return markup.row(_cells(["all", "", "", "", *counts]), ruled=True)


def _settings(layer: TracedLayer) -> str:
    """What its file would say of it."""
    given = layer.layer.model_dump(mode="json", exclude={"type", "name"}, exclude_defaults=True)
    return ", ".join(f"{key.replace('_', ' ')} {_value(key, value)}" for key, value in given.items())


def _value(key: str, value: Any) -> str:
    """Height and width once where they are one; a list of channels as it is."""
    if key in ("kernel_size", "stride", "padding"):
        return "x".join(map(str, value if value[0] != value[1] else value[:1]))
    if isinstance(value, list):
        return " and ".join(map(str, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _shape(shape: Sequence[int]) -> str:
    """Without the batch.

    >>> _shape((1, 96, 54, 54))
    '96x54x54'
    """
    return "x".join(map(str, shape[1:]))
