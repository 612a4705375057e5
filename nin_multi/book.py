"""What adapters share where they run the book's own code (d2l): the clock, the images' size, the printed rate."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nin_multi.errors import UsageError
from nin_multi.spec import Architecture


@dataclass(frozen=True)
class BookRound:
    """One round of the book's own training; `says` is the examples/sec that its code printed, where it prints any."""

    images: int
    seconds: float
    says: float | None = None


class LoaderClock:
    """The book's training loader, with a clock: from asking for the first batch to the end of the last one's step.

    The book's loop has just its steps within its pass over the loader, and evaluates after it. `wait` waits for a
    framework that works on behind our back.
    """

    def __init__(self, loader: Any, wait: Callable[[], object] = lambda: None) -> None:
        self.loader, self.wait = loader, wait
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.wait()
        began = time.perf_counter()
        yield from self.loader
        self.wait()
        self.seconds = time.perf_counter() - began


def image_size(architecture: Architecture) -> int | None:
    """What the book's loader is to resize to; None: nothing. Raises UsageError for images that it cannot make."""
    channels, height, width = architecture.input
    if channels != 1 or height != width:
        shown = "x".join(map(str, architecture.input))
        raise UsageError(f"architecture {architecture.name!r}: the book's loader makes 1xNxN images, not {shown}")
    return None if height == 28 else height


def printed_rate(text: str) -> float | None:
    r"""The examples/sec in what `train_ch6` prints.

    >>> printed_rate("loss 2.303, train acc 0.100, test acc 0.100\n23.4 examples/sec on cpu\n")
    23.4
    """
    found = re.search(r"([\d.]+) examples/sec", text)
    return float(found.group(1)) if found else None
