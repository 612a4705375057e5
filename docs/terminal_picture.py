"""Turns what a command printed (standard input) into a picture of a terminal (SVG): `... | terminal_picture.py OUT`."""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text


def picture(text: str, title: str) -> str:
    """SVG of the text, in fonts that the reader has: it must not fetch any."""
    console = Console(record=True, width=80, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text.rstrip("\n")))
    svg = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.stdin.read(), sys.argv[2] if len(sys.argv) > 2 else ""), encoding="utf-8")
