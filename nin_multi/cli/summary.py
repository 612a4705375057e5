"""`summary`: parameters, multiply-adds and memory per layer, from the spec alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    InputOption,
    JsonOption,
    console,
    load_architecture,
    print_json,
    show_bytes,
    show_shape,
    table,
)

if TYPE_CHECKING:
    from nin_multi.spec import Architecture

ExpandOption = Annotated[bool, typer.Option("--expand", help="Open the blocks.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="For the memory of a training step.")]


def summary(
    arch: ArchOption = "nin",
    input: InputOption = None,
    batch_size: BatchOption = 128,
    expand: ExpandOption = False,
    json: JsonOption = False,
) -> int:
    """Parameters, multiply-adds and memory per layer; needs no framework."""
    found = summarise(load_architecture(arch, input, allow_large=True), batch_size, expand)
    if json:
        print_json(found)
    else:
        _print_table(found)
    return 0


def summarise(architecture: Architecture, batch_size: int, expand: bool) -> dict[str, Any]:
    """The command's JSON. One multiply-add per multiply-accumulate, per example; memory in bytes, float32.

    Activations: every layer's output once, those inside blocks too. Training holds them for the whole batch, and
    the parameters twice, as values and as gradients; what a framework needs beside that is not counted.
    """
    from nin_multi.memory import FLOAT, activation_bytes, step_bytes

    rows: list[dict[str, Any]] = []
    for row in architecture.walk():
        rows.append(
            {
                "name": row.name,
                "type": row.layer.type,
                "output": list(row.output),
                "parameters": sum(math.prod(shape) for shape in row.parameters.values()),
                "multiply_adds": row.multiply_adds,
                "activation_bytes": activation_bytes(row),
            }
        )
    top = [row for row in rows if "." not in str(row["name"])]
    parameters = architecture.parameters
    return {
        "arch": architecture.name,
        "input": [1, *architecture.input],
        "parameters": parameters,
        "multiply_adds": architecture.multiply_adds,
        "batch_size": batch_size,
        "parameter_bytes": FLOAT * parameters,
        "activation_bytes": sum(row["activation_bytes"] for row in top),
        "training_bytes": step_bytes(architecture, batch_size),
        "layers": rows if expand else top,
    }


def _print_table(found: dict[str, Any]) -> None:
    title = f"{found['arch']}, input {show_shape(found['input'])}"
    grid = table(title, "layer", "output", right=("parameters", "multiply-adds", "activations"))
    for row in found["layers"]:
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}", show_bytes(row["activation_bytes"]))
        grid.add_row(row["name"], show_shape(row["output"]), *counts)
    grid.add_section()
    sums = (f"{found['parameters']:,}", f"{found['multiply_adds']:,}", show_bytes(found["activation_bytes"]))
    grid.add_row("all", "", *sums)
    console().print(grid)
    console().print(
        f"Multiply-adds and activations are for one image. A training step of {found['batch_size']} holds about "
        f"{show_bytes(found['training_bytes'])} of values and gradients in float32."
    )
