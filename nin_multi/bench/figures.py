"""From seconds to figures: training FLOP by the spec, medians, shares of the machine's peak; nothing is timed here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nin_multi.spec import Architecture, TracedLayer

Row = dict[str, Any]


def layers_of(architecture: Architecture) -> Iterator[TracedLayer]:
    """The layers, those in blocks one by one."""
    return (traced for traced in architecture.walk() if not traced.inner)


def layer_flop(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """Floating-point operations for one image, forward and backward in training, of every layer that multiplies.

    Backward are two products of the forward one's size, by the weights and by the input. Of the first layer the
    second is not needed: nobody asks for the images' gradient.
    """
    flop: dict[str, tuple[int, int]] = {}
    for traced in layers_of(architecture):
        if traced.multiply_adds:
            flop[traced.name] = (2 * traced.multiply_adds, (4 if flop else 2) * traced.multiply_adds)
    return flop


def training_flop(architecture: Architecture) -> int:
    """Floating-point operations of a training step for one image: products only, as everybody counts them."""
    return sum(forward + backward for forward, backward in layer_flop(architecture).values())


def gflops(size: int, seconds: Iterable[float]) -> float:
    """What a product of two (size, size) matrices reaches, by the median of its times."""
    return 2 * size**3 / statistics.median(seconds) / 1e9


def spread(speeds: Sequence[float]) -> float:
    """How far the fastest and the slowest round are apart, as a share of the median."""
    return (max(speeds) - min(speeds)) / statistics.median(speeds)


def add_shares(rows: Sequence[Row], peaks: Mapping[str, float], flop: int) -> None:
    """Put each row's share of its precision's peak into it, and how many times the book's speed it has."""
    books = {row["backend"]: row["examples_per_sec"] for row in rows if row["what"] == "book"}
    for row in rows:
        speed, peak = row["examples_per_sec"], peaks.get(row["precision"])
        trains = row["what"] != "data"
        row["peak_share"] = speed * flop / 1e9 / peak if trains and peak else None
        book = books.get(row["backend"])
        row["times_the_book"] = speed / book if trains and book else None


def layer_rows(
    architecture: Architecture, batch_size: int, times: Iterable[Sequence[Any]], peak: float | None
) -> list[Row]:
    """One row per layer: milliseconds both ways, GFLOP/s and share of the peak over both ways together."""
    flop = layer_flop(architecture)
    types = {traced.name: traced.layer.type for traced in layers_of(architecture)}
    rows: list[Row] = []
    for name, forward, backward in times:
        reached = batch_size * sum(flop[name]) / 1e9 / max(forward + backward, 1e-9) if name in flop else None
        rows.append(
            {
                "layer": name,
                "type": types[name],
                "forward_ms": forward * 1e3,
                "backward_ms": backward * 1e3,
                "gflops": reached,
                "peak_share": reached / peak if reached is not None and peak else None,
            }
        )
    return rows
