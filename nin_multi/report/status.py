"""What the status of a run means to a reader: its word, its sign, and whether it is still going on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

# The kind decides colour and sign; every status has a word too, for nothing is told by colour alone.
KINDS = {
    "waiting": "waiting",
    "starting": "going",
    "measuring": "going",
    "training": "going",
    "evaluating": "going",
    "finishing": "going",
    "running": "going",
    "done": "done",
    "interrupted": "stopped",
    "unfinished": "stopped",
    "diverged": "failed",
    "failed": "failed",
}
SIGNS = {"waiting": "○", "going": "▶", "done": "✓", "stopped": "‖", "failed": "✕"}


def kind_of(run: Mapping[str, Any]) -> str:
    """One of "waiting", "going", "done", "stopped", "failed"."""
    return KINDS.get(str(run["status"]), "stopped")


def share_done(run: Mapping[str, Any]) -> float:
    """How much of its training a run has behind it, 0 to 1."""
    step, steps = run.get("step") or 0, run.get("steps") or 0
    if steps > 0:
        return float(min(max(step / steps, 0.0), 1.0))
    return 1.0 if run["status"] == "done" else 0.0


def how_far(runs: Sequence[Mapping[str, Any]]) -> str:
    """Where all runs are, in one sentence, such as "2 of 3 runs are done; c: training"."""
    counts = Counter(kind_of(run) for run in runs)
    parts = [f"{counts['done']} of {len(runs)} {'run is' if len(runs) == 1 else 'runs are'} done"]
    failed = [f"{run['label']} {run['status']}" for run in runs if kind_of(run) == "failed"]
    going = [f"{run['label']}: {run['status']}" for run in runs if kind_of(run) == "going"]
    return "; ".join([*parts, *failed, *going]) + "."
