"""A run directory as one run of a comparison: plain JSON values; nothing is started, nothing is written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nin_multi.compare.conductor import command_to_go_on
from nin_multi.run_story import Story, read_story
from nin_multi.training.run_directory import RunDirectory

# What every run of a comparison has, whether it has begun or not.
BLANK: dict[str, Any] = {
    **dict.fromkeys(("id", "label", "backend", "arch", "reason", "to_go_on", "started"), ""),
    **dict.fromkeys(("framework_version", "device", "precision", "seed", "run_dir", "seconds_left", "adapter_lines")),
    **dict.fromkeys(("step", "steps", "epoch", "epochs"), 0),
    **{key: {} for key in ("now", "recipe", "dataset", "versions", "machine", "environment", "tuning", "result")},
    "status": "waiting",
    "events": [],
    "confusion": None,
    "samples": [],
    "pictures": {},
}
_CHANGING = ("versions", "machine", "environment", "tuning", "started")


def blank_run(**known: Any) -> dict[str, Any]:
    """A run of which only so much is known."""
    return copy.deepcopy(BLANK) | known


def stored_run(path: Path) -> tuple[dict[str, Any], Story]:
    """What the files of a run say. Raises RunError where there is none, or one is damaged."""
    directory = RunDirectory.open(path)
    story, facts, result = read_story(directory), directory.facts(), directory.result()
    last = directory.last_facts()
    confusion = [event["confusion"] for event in directory.events() if event.get("confusion")]
    return (
        blank_run(
            backend=facts["backend"],
            framework_version=_framework_version(last, result),
            device=last["device"],
            precision=last["precision"],
            arch=story.architecture.name,
            seed=story.recipe.seed,
            status=story.status,
            reason=story.result.reason,
            to_go_on=command_to_go_on(str(path)) if story.status in ("interrupted", "unfinished") else "",
            run_dir=str(path),
            step=story.last_step,
            steps=story.per_epoch * story.recipe.epochs,
            epoch=max(-(-story.last_step // story.per_epoch), 1),
            epochs=story.recipe.epochs,
            recipe=story.recipe.as_dict(),
            dataset=facts["dataset"],
            **{key: last.get(key) or facts.get(key) or BLANK[key] for key in _CHANGING},
            result=result,
            events=directory.events(),
            confusion=confusion[-1] if confusion else None,
        ),
        story,
    )


def _framework_version(facts: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    said = facts.get("versions", {})
    version = said.get(facts["backend"]) if isinstance(said, Mapping) else None
    return str(version or result.get("framework_version") or "") or None
