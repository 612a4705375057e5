"""Signals that let a step end first: what has been asked for, not what is done about it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# The last is a terminal that was closed; there is none on Windows.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collects the first SIGINT, SIGTERM or SIGHUP, so that the step can end; the second one leaves at once."""
    caught: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        caught.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before: dict[int, Any] = {}
    try:
        before = {number: signal.getsignal(number) for number in SIGNALS if not _is_for_others(number)}
        for number in before:
            signal.signal(number, handle)
    except ValueError:  # not the main thread, a notebook's or a server's: signals are the owner's business
        before = {}
    try:
        yield caught
    finally:
        restore()


def _is_for_others(number: int) -> bool:
    """A hang-up that nohup has turned off stays off."""
    return number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) == signal.SIG_IGN
