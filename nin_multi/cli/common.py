"""What the commands share: options, choosing backends, printing; each command says for itself what it does."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from nin_multi.backend import Backend
    from nin_multi.knobs import Tuning
    from nin_multi.spec import Architecture

ArchOption = Annotated[
    str, typer.Option("--arch", metavar="NAME|FILE", help="An architecture of the zoo, or a .yaml file.")
]
InputOption = Annotated[
    str | None,
    typer.Option("--input", metavar="CxHxW", help="Another input size, such as 1x161x193."),
]
BackendsOption = Annotated[
    str | None,
    typer.Option("--backend", metavar="A,B,...", help="Backends by name; all that can start where none is named."),
]
DatasetOption = Annotated[str, typer.Option("--dataset", metavar="NAME", help="auto, fashion-mnist or synthetic.")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the data set's four files.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help="How the net is computed, such as micro_batch=16; repeatable."),
]
TuneOption = Annotated[
    str,
    typer.Option(
        "--tune",
        metavar="auto|off|now",
        help="Knobs as stored for this machine, measured first where the run is long; as by default; measured now.",
    ),
]
LargeOption = Annotated[
    bool, typer.Option("--allow-large", help="Try also what this machine has no memory for, by all that is known.")
]
PatienceOption = Annotated[
    str,
    typer.Option(
        "--patience", metavar="SECONDS|off", help="A backend without a sign of life for so long is stopped; off: never."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


def print_json(value: Any) -> None:
    """The one JSON object of a command."""
    print(json.dumps(value, allow_nan=False), flush=True)


def note(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def console() -> Console:
    """For tables on stdout; as wide as they need where stdout is no terminal."""
    from rich.console import Console

    # No markup: a reason or a file's name may hold square brackets.
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)


def table(title: str, *left: str, right: Sequence[str] = ()) -> Table:
    """A table that fits 80 columns: no frame, text to the left, numbers to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(*left, title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in right:
        grid.add_column(heading, justify="right")
    return grid


def show_shape(shape: Sequence[int]) -> str:
    """1x96x54x54."""
    return "x".join(map(str, shape))


def show_bytes(count: float) -> str:
    """In GB or MB, powers of ten."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def split_names(text: str, option: str = "--backend", example: str = "torch,numpy") -> list[str]:
    """Names between commas, each once. Raises UsageError where there is none."""
    from nin_multi.errors import UsageError

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"{option}: expected one or more names, such as {example}")
    return names


def named_backends(text: str) -> list[str]:
    """The backends somebody named. Raises BackendNotFound before any of them is started."""
    from nin_multi import registry

    names = split_names(text)
    for name in names:
        registry.load(name)
    return names


def check_tune(mode: str) -> None:
    """Raises UsageError for anything but what --tune takes."""
    from nin_multi.errors import UsageError

    if mode not in ("auto", "off", "now"):
        raise UsageError(f"--tune: expected auto, off or now, got {mode!r}")


def one_backend(name: str, precision: str | None = None, tuning: Tuning | None = None) -> Backend:
    """A named backend, in its environment: this call may start the process anew."""
    from nin_multi import launcher, registry

    backend = registry.load(name)
    launcher.ensure_environment(name, precision, tuning)
    return backend


def load_architecture(name: str, size: str | None, *, allow_large: bool) -> Architecture:
    """An architecture, for another input where one is given. Raises SpecError, UsageError.

    `allow_large` also lets through what this machine has no memory for.
    """
    from nin_multi import architecture_file
    from nin_multi.limits import check_size

    architecture = architecture_file.load_architecture(name)
    if size is not None:
        architecture = architecture.with_input(parse_size(size))
    check_size(architecture, allow_large=allow_large)
    return architecture


def large_words(allow_large: bool) -> list[str]:
    """The argument that says so to another process."""
    return ["--allow-large"] if allow_large else []


def parse_size(size: str) -> tuple[int, int, int]:
    """Channels, height and width as --input has them. Raises UsageError."""
    from nin_multi.errors import UsageError

    parts = size.lower().replace(",", "x").split("x")
    if len(parts) != 3 or not all(part.isdecimal() and 0 < int(part) < 100_000 for part in parts):
        raise UsageError(f"--input: expected three sizes such as 1x161x193 (channels, height, width), got {size!r}")
    channels, height, width = map(int, parts)
    return channels, height, width


def patience_seconds(patience: str) -> float:
    """What --patience says; infinity for "off" and 0. Raises UsageError."""
    from nin_multi.compare.plan import LEAST_PATIENCE
    from nin_multi.errors import UsageError

    try:
        seconds = 0.0 if patience == "off" else float(patience)
    except ValueError:
        seconds = math.nan
    if seconds == 0.0:
        return math.inf
    if not LEAST_PATIENCE <= seconds < math.inf:
        raise UsageError(f"--patience: expected {LEAST_PATIENCE:.0f} seconds or more, or off, got {patience!r}")
    return seconds
