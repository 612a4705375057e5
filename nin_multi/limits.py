"""How much outside input may ask for, held before anything is allocated; not what that input means.

A few bytes can name any size. An architecture, a weights file's header or a JSON text is therefore counted first, in
whole numbers, and refused by what it would need. Numbers count as float32.
"""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any, NoReturn

from nin_multi import machine
from nin_multi.errors import SpecError
from nin_multi.spec import Architecture, Pool2d

FLOAT = 4  # bytes
LARGEST = 10**9  # parameters, or values that one image makes: 4 GB; vgg11 has 129 million and 18 million
LARGEST_JSON = 10_000_000  # bytes; a header of 10,000 layers has 5 million
DEEPEST_JSON = 50


def parameters_need(architecture: Architecture) -> int:
    """Bytes of the parameters, their gradients and their velocities: what a training step with momentum holds."""
    return 3 * FLOAT * architecture.parameters


def one_image_needs(architecture: Architecture) -> int:
    """Bytes of all layers' outputs and their gradients for one image, the image and its widest padding included."""
    return 2 * FLOAT * _values_of_one_image(architecture)


def check_size(architecture: Architecture, *, allow_large: bool = False) -> None:
    """Refuse an architecture that nobody could allocate here; call it before anything is.

    Raises SpecError where there are more than 10^9 parameters or more than 10^9 values for one image, or where either,
    with gradients and velocities, needs more memory than this machine has.
    """
    if allow_large:
        return
    parameters, values = architecture.parameters, _values_of_one_image(architecture)
    for_training, for_one_image = 3 * FLOAT * parameters, 2 * FLOAT * values
    trained = f"{parameters:,} parameters; trained, with gradients and velocities, they need"
    made = f"one image makes {values:,} values; with their gradients they need"
    for what, count, needed in (
        (trained, parameters, for_training),
        (made, values, for_one_image),
    ):
        if limit := _limit(count, needed):
            raise SpecError(
                f"architecture {architecture.name!r}: {what} {_gigabytes(needed)}, and {limit}.\n"
                "Make it smaller, or do without this limit: --allow-large."
            )


def file_limit() -> int:
    """Bytes that somebody's weights file may have: float64 of as many parameters as there may be, or all memory."""
    largest = 2 * FLOAT * LARGEST
    return min(largest, machine.granted_memory_bytes() or largest)


def read_text(path: Path, most: int = LARGEST_JSON) -> str:
    """A regular file's text, in UTF-8, of at most so many bytes. Raises OSError, ValueError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a device would never end
        raise ValueError("a folder or a device")
    if status.st_size > most:
        raise ValueError(f"expected at most {most:,} bytes, got {status.st_size:,}")
    return path.read_text(encoding="utf-8")


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """As `json.loads`, but no text exhausts the stack, and with `finite` NaN and infinities are no JSON.

    Raises ValueError for all that is not JSON, or is nested more than 50 deep.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant if finite else None)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_values(value, finite)
    return value


def _check_values(value: Any, finite: bool) -> None:
    """Level by level: recursion is what deep nesting exhausts."""
    level = [value]
    for _ in range(DEEPEST_JSON):
        inside: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inside.extend(each.values())
            elif isinstance(each, list):
                inside.extend(each)
        if finite and any(isinstance(each, float) and not math.isfinite(each) for each in level):  # 1e999
            raise ValueError("a number beyond float64's range")
        level = inside
    if any(isinstance(each, (dict, list)) for each in level):
        raise ValueError(f"nested more than {DEEPEST_JSON} deep")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _values_of_one_image(architecture: Architecture) -> int:
    total, widest = math.prod(architecture.input), 0
    for row in architecture.walk():
        if row.inner:  # its last layer's output is the block's
            continue
        total += math.prod(row.output) + row.layer.hidden_values(row.input)
        padding = getattr(row.layer, "padding", (0, 0))
        down, right = row.layer.overhang(row.input) if isinstance(row.layer, Pool2d) else (0, 0)
        if any((*padding, down, right)):
            channels, height, width = row.input[1:]
            widest = max(widest, channels * (height + 2 * padding[0] + down) * (width + 2 * padding[1] + right))
    return total + widest


def _limit(count: int, needed: int) -> str:
    """Which limit is passed, for a message; empty where none is."""
    if count > LARGEST:
        return f"the most is {LARGEST:,} ({_gigabytes(LARGEST * FLOAT)})"
    memory = machine.granted_memory_bytes()
    return f"this machine has {_gigabytes(memory)}" if 0 < memory < needed else ""


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
