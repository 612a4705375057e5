"""How often a run writes a checkpoint; not what is in one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nin_multi.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Cadence:
    """Every so many steps, every so many seconds, whichever comes first; the end of an epoch always.

    None: not by steps, not by time.
    """

    steps: int | None = None
    seconds: float | None = 300.0

    @classmethod
    def parse(cls, text: str) -> Cadence:
        """Raises UsageError.

        >>> Cadence.parse("100"), Cadence.parse("200,5m")
        (Cadence(steps=100, seconds=None), Cadence(steps=200, seconds=300.0))
        """
        steps, seconds = None, None
        for word in [] if text == "epoch" else text.split(","):
            found = re.fullmatch(r"\s*([0-9]{1,9})\s*([smh]?)\s*", word, re.ASCII)
            if found is None or int(found[1]) < 1:
                raise UsageError(
                    "--checkpoint-every: expected a number of steps, a time such as 90s, 5m or 1h, both as 200,5m, or "
                    f"epoch; got {text!r}"
                )
            if found[2]:
                seconds = int(found[1]) * _UNITS[found[2]]
            else:
                steps = int(found[1])
        return cls(steps, seconds)

    def show(self) -> str:
        """What `parse` reads."""
        words = [str(self.steps)] if self.steps else []
        words += [f"{self.seconds:.0f}s"] if self.seconds else []
        return ",".join(words) or "epoch"

    def is_due(self, steps: int, seconds: float) -> bool:
        """Whether so many steps, and so many seconds, after the last checkpoint the next one is to be written."""
        by_steps = self.steps is not None and steps >= self.steps
        return by_steps or (self.seconds is not None and seconds >= self.seconds)
