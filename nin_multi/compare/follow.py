"""Reads what a running process adds to its run directory and says to a file; it never waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Tail:
    """The lines that have come to a file since they were asked for last; a last line without its end is not one yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[str]:
        """New whole lines; none where the file is not there."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return []
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def rest(self) -> list[str]:
        """What is left where nothing more will come."""
        whole = self.lines()
        last, self._rest = self._rest.decode(errors="replace"), b""
        return [*whole, last] if last.strip() else whole


def events_in(lines: list[str]) -> list[dict[str, Any]]:
    """The objects among lines of JSON."""
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found
