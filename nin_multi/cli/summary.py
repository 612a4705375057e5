"""`summary`: parameters, multiply-adds and memory per layer, from the spec alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import ArchOption, InputOption, JsonOption, console, load_architecture, print_json

if TYPE_CHECKING:
    from nin_multi.spec import Architecture

ExpandOption = Annotated[bool, typer.Option("--expand", help="Open the blocks.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="For the memory of a training step.")]
FLOAT = 4  # bytes


def summary(
    arch: ArchOption = "nin",
    input: InputOption = None,
    batch_size: BatchOption = 128,
    expand: ExpandOption = False,
    json: JsonOption = False,
) -> int:
    """Parameters, multiply-adds and memory per layer; needs no framework."""
    table = summarise(load_architecture(arch, input), batch_size, expand)
    if json:
        print_json(table)
    else:
        _print_table(table)
    return 0


def summarise(architecture: Architecture, batch_size: int, expand: bool) -> dict[str, Any]:
    """The command's JSON. One multiply-add per multiply-accumulate, per example; memory in bytes, float32.

    Activations: every layer's output once, those inside blocks too. Training holds them for the whole batch, and
    the parameters twice, as values and as gradients; what a framework needs beside that is not counted.
    """
    rows: list[dict[str, Any]] = []
    for row in architecture.walk():
        inside = row.inner or (row,)
        rows.append(
            {
                "name": row.name,
                "type": row.layer.type,
                "output": list(row.output),
                "parameters": sum(math.prod(shape) for shape in row.parameters.values()),
                "multiply_adds": row.multiply_adds,
                "activation_bytes": FLOAT * sum(math.prod(part.output) for part in inside),
            }
        )
    top = [row for row in rows if "." not in str(row["name"])]
    activations = sum(row["activation_bytes"] for row in top)
    parameters = architecture.parameters
    return {
        "arch": architecture.name,
        "input": [1, *architecture.input],
        "parameters": parameters,
        "multiply_adds": architecture.multiply_adds,
        "batch_size": batch_size,
        "parameter_bytes": FLOAT * parameters,
        "activation_bytes": activations,
        "training_bytes": 2 * FLOAT * parameters + batch_size * activations,
        "layers": rows if expand else top,
    }


def _print_table(table: dict[str, Any]) -> None:
    from rich.table import Table

    size = " x ".join(map(str, table["input"]))
    grid = Table("layer", "type", "output", title=f"{table['arch']}, input {size}")
    for heading in ("parameters", "multiply-adds", "activations"):
        grid.add_column(heading, justify="right")
    for row in table["layers"]:
        output = " x ".join(map(str, row["output"]))
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}", _megabytes(row["activation_bytes"]))
        grid.add_row(row["name"], row["type"], output, *counts)
    grid.add_section()
    sums = (f"{table['parameters']:,}", f"{table['multiply_adds']:,}", _megabytes(table["activation_bytes"]))
    grid.add_row("all", "", "", *sums)
    console().print(grid)
    console().print(
        f"Multiply-adds and activations per example. A training step of {table['batch_size']}: "
        f"about {_megabytes(table['training_bytes'])} of values and gradients in float32."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
