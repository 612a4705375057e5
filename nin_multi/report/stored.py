"""A report as files: the page, Markdown, CSV; each is there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nin_multi.errors import RunError
from nin_multi.files import write_bytes
from nin_multi.report.page import render_html
from nin_multi.report.plain import render_csv, render_curves, render_markdown

SUFFIXES = (".html", ".md", ".csv")


def write_report(comparison: Mapping[str, Any], path: Path) -> list[Path]:
    """Write PATH.html, PATH.md, PATH.csv and PATH-curves.csv and return them. Raises RunError.

    A suffix of these that the path has already is not doubled; "report-0.1" keeps its name.
    """
    base = path.name[: -len(path.suffix)] if path.suffix in SUFFIXES else path.name
    contents = {
        f"{base}.html": render_html(comparison),
        f"{base}.md": render_markdown(comparison),
        f"{base}.csv": render_csv(comparison),
        f"{base}-curves.csv": render_curves(comparison),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: no folder for the report can be made ({error.strerror})") from None
    for name, content in contents.items():
        write_bytes(path.parent / name, content.encode())
    return [path.parent / name for name in contents]
