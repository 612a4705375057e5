"""Small pieces of HTML for the output of a notebook's cell: no script, no style sheet, any theme; not what is shown.

Colours are inherited or grey with opacity, so that both light and dark themes can be read; styles stand at the
elements, because a notebook that is not trusted loses style sheets.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

LINE = "1px solid rgba(128, 128, 128, 0.4)"
_TABLE = "border-collapse: collapse; margin: 0; width: auto; background: transparent; color: inherit; border: 0"
_CELL = "padding: 2px 10px 2px 0; border: 0; background: transparent; vertical-align: top; text-align: {}"
_MONO = "font-variant-numeric: tabular-nums; white-space: nowrap"


def block(*parts: str) -> str:
    """What one object shows."""
    return f'<div class="nin-multi" style="color: inherit; margin: 4px 0; overflow-x: auto">{"".join(parts)}</div>'


def line(text: str, *, weak: bool = False) -> str:
    """One line of text."""
    return f'<div style="margin: 2px 0{"; opacity: 0.75" if weak else ""}">{escape(text)}</div>'


def lines(texts: Sequence[str]) -> str:
    """Lines as a program said them."""
    text = escape("\n".join(texts))
    return f'<pre style="margin: 2px 0; background: transparent; color: inherit; white-space: pre-wrap">{text}</pre>'


def picture(svg: bytes | str, title: str) -> str:
    """An SVG as an image: its ids are its own, which inline would be those of every other picture on the page too."""
    data = base64.b64encode(svg.encode() if isinstance(svg, str) else svg).decode()
    address = f"data:image/svg+xml;base64,{data}"
    return f'<img alt="{escape(title)}" style="max-width: 100%; background: white" src="{address}">'


def bar(share: float) -> str:
    """How much of something is done, from 0 to 1."""
    width = 100 * min(max(share, 0.0), 1.0)
    inner = f'<div style="width: {width:.1f}%; height: 100%; background: #0072b2"></div>'
    return f'<div style="width: 120px; height: 10px; margin-top: 5px; border: {LINE}">{inner}</div>'


def cell(content: str, *, right: bool = False, head: bool = False) -> str:
    """A cell of a table; `content` is HTML already."""
    style = _CELL.format("right" if right else "left") + ("; " + _MONO if right else "")
    tag = "th" if head else "td"
    return f'<{tag} style="{style}">{content}</{tag}>'


def wide(content: str, columns: int) -> str:
    """A cell over so many columns."""
    style = "padding: 0; border: 0; background: transparent; text-align: left"
    return f'<td colspan="{columns}" style="{style}">{content}</td>'


def row(cells: Sequence[str], *, ruled: bool = False) -> str:
    """A row; `ruled`: under a line."""
    style = f"background: transparent{f'; border-top: {LINE}' if ruled else ''}"
    return f'<tr style="{style}">{"".join(cells)}</tr>'


def table(head: Sequence[str], rows: Sequence[str], *, right: Sequence[str] = (), widths: Sequence[str] = ()) -> str:
    """A table of rows that are HTML already; columns of numbers, named in `right`, are set to the right."""
    columns = "".join(f'<col style="width: {width}">' for width in widths)
    style = _TABLE + ("; table-layout: fixed; width: 100%" if widths else "")
    headings = [cell(escape(name), right=name in right, head=True) for name in head]
    begin = f'<thead style="border-bottom: {LINE}">{row(headings)}</thead>' if any(head) else ""
    return f'<table style="{style}"><colgroup>{columns}</colgroup>{begin}<tbody>{"".join(rows)}</tbody></table>'


def frame(page: str, height: int, title: str) -> str:
    """A whole page within a cell: its scripts run, and reach nothing of the notebook."""
    style = f"width: 100%; height: {height}px; border: {LINE}; background: white"
    return f'<iframe title="{escape(title)}" sandbox="allow-scripts" style="{style}" srcdoc="{escape(page)}"></iframe>'
