"""Signals that let a step end first: what has been asked for, not what is done about it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def answered() -> list[int]:
    """SIGINT, SIGTERM, and SIGHUP (a terminal that was closed), unless nohup has turned that off."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collects the first of those answered, so that the step can end; the second one leaves at once."""
    caught: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        caught.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before: dict[int, Any] = {}
    try:
        before = {number: signal.getsignal(number) for number in answered()}
        for number in before:
            signal.signal(number, handle)
    except ValueError:  # not the main thread, a notebook's or a server's: signals are the owner's business
        before = {}
    try:
        yield caught
    finally:
        restore()
