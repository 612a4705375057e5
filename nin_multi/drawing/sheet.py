"""What all pictures share: fonts, equal bytes for equal numbers, pixels laid side by side; not what is drawn."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "0.4"  # of what is said beside the matter
Pixels = NDArray[np.uint8]  # (height, width, 4): red, green, blue, opacity


@contextlib.contextmanager
def style(**changed: Any) -> Iterator[None]:
    """A block in which figures are made and written out."""
    import matplotlib

    # A fixed salt, and no date in `to_svg`: equal numbers give equal pictures. Text stays text, to be found and read,
    # and a dollar in it is a dollar.
    fixed = {"svg.hashsalt": "nin_multi", "svg.fonttype": "none", "text.parse_math": False}
    sizes = {"font.size": 8, "axes.linewidth": 0.6}
    with matplotlib.rc_context({**fixed, **sizes, **changed}):
        yield


def to_svg(figure: Figure, title: str) -> bytes:
    """On white, which is read on any ground; the title is for those who do not see it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Title": title})
    return buffer.getvalue()


def tiles(cells: Sequence[Sequence[Pixels | None]], gap: int) -> Pixels:
    """Cells of one size in rows, with so many transparent pixels between them; None leaves a place empty."""
    height, width = next(cell.shape[:2] for row in cells for cell in row if cell is not None)
    columns = max(map(len, cells))
    sheet = np.zeros((len(cells) * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            if cell is not None:
                y, x = i * (height + gap), j * (width + gap)
                sheet[y : y + height, x : x + width] = cell
    return sheet


def paint(values: NDArray[Any], colours: str) -> Pixels:
    """Values from 0 to 1 in the colours of that name."""
    import matplotlib

    painted: Pixels = matplotlib.colormaps[colours](values, bytes=True)
    return painted
