"""The options of a report, for `compare` and `report`, and writing it; what is in it says nin_multi.compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nin_multi.cli.common import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nin_multi.compare.comparison import Comparison

PythonOption = Annotated[
    list[str] | None,
    typer.Option(
        "--python", metavar="BACKEND=PATH", help="The Python of another environment, for one backend; repeatable."
    ),
]
VerifyOption = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Ask each backend how far it is from the float64 oracle.")
]
PicturesOption = Annotated[
    bool, typer.Option("--pictures/--no-pictures", help="Show what the trained nets do with some test images.")
]


def parse_pythons(words: Sequence[str] | None, backends: Sequence[str]) -> dict[str, str]:
    """Backend -> the Python it lives in, each tried out. Raises UsageError."""
    from nin_multi.compare.pythons import working_python
    from nin_multi.errors import UsageError

    pythons: dict[str, str] = {}
    for word in words or ():
        name, equals, path = word.partition("=")
        if not (equals and path) or name not in backends:
            raise UsageError(f"--python: expected BACKEND=PATH, one of {', '.join(backends)}; got {word!r}")
        pythons[name] = working_python(name, path)
    return pythons


def check_target(path: Path) -> Path:
    """Where a report is to go; the others of it get names beside it. Raises UsageError."""
    from nin_multi.errors import UsageError

    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: expected the name of a report, such as report.html")
    if path.is_dir():
        raise UsageError(f"{path}: expected a file for the report, got a directory")
    if not path.parent.exists():
        raise UsageError(f"{path}: there is no folder {path.parent} to put the report into")
    return path


def free_name(folder: Path, stem: str) -> Path:
    """STEM.html, or with -2, -3, ... where that is taken."""
    number = next(n for n in range(1, 10_000) if not _named(folder, stem, n).exists())
    return _named(folder, stem, number)


def _named(folder: Path, stem: str, number: int) -> Path:
    return folder / f"{stem}{'' if number == 1 else f'-{number}'}.html"


def write(comparison: Comparison, target: Path) -> list[Path]:
    """The report and what belongs to it; says where."""
    from nin_multi.report import write_report

    target.parent.mkdir(parents=True, exist_ok=True)
    written = write_report(comparison, target)
    note(f"report {target}")
    return written
