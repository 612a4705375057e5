"""How a comparison stands while it runs: hears everything, keeps it, and hands it on to whoever shows it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nin_multi.compare.comparison import Run
from nin_multi.compare.conductor import Audience
from nin_multi.compare.sides import Side
from nin_multi.compare.stored import blank_run, stored_run
from nin_multi.errors import RunError
from nin_multi.training.run_directory import RUN

_FROM_FILES = (
    *("framework_version", "device", "precision", "recipe", "dataset", "versions", "machine", "environment"),
    *("tuning", "started", "confusion", "result"),
)


class Board:
    """One run for each side, as a comparison has them."""

    def __init__(self, sides: Sequence[Side], archs: Mapping[str, str], epochs: int) -> None:
        self.runs: dict[str, Run] = {
            side.id: blank_run(
                id=side.id,
                label=side.label,
                backend=side.backend,
                arch=archs[side.arch],
                seed=side.seed,
                precision=side.precision,
                epochs=epochs,
            )
            for side in sides
        }
        self.audience: list[Audience] = []

    def note(self, side: Side, text: str) -> None:
        for each in self.audience:
            each.note(side, text)

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        run = self.runs[side.id]
        news = {**fields}
        if "result" in fields or (not run["started"] and fields.get("status") == "training"):
            news = {**self._read(fields.get("run_dir") or run["run_dir"]), **news}
        run |= news
        for each in self.audience:
            each.change(side, news)

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        events = self.runs[side.id]["events"]
        events.append(dict(event))
        for each in self.audience:
            each.point(side, event)

    def what_is_left(self) -> str:
        """How to see the runs that have begun, after somebody has stopped them all; empty where none has."""
        found = [run["run_dir"] for run in self.runs.values() if run["run_dir"]]
        begun = [shlex.quote(run_dir) for run_dir in found if (Path(run_dir) / RUN).exists()]
        return f"what there is, side by side: nin_multi report {' '.join(begun)}" if begun else ""

    @staticmethod
    def _read(run_dir: str | None) -> dict[str, Any]:
        """What run.json says once it is there, and at the end all files; a damaged one shows in the end."""
        if run_dir is None or not (Path(run_dir) / RUN).exists():
            return {}
        try:
            stored, _ = stored_run(Path(run_dir))
        except RunError:
            return {}
        return {key: stored[key] for key in _FROM_FILES}
