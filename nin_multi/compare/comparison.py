"""The comparison object: runs side by side, and whether they may stand there; what is shown of it is elsewhere.

Plain JSON, of which docs/architecture.md has the fields: the report, the live page and `--json` all speak of this.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nin_multi.spec import Architecture

Run = dict[str, Any]
Comparison = dict[str, Any]


def make_comparison(
    runs: Sequence[Run], architectures: Sequence[Architecture], classes: Sequence[str], repeat: Sequence[str]
) -> Comparison:
    """Of runs as they stand; what has to be computed (agreement, code, pictures) is added by `extras`."""
    differences = list(differences_of(runs))
    return {
        "format": 1,
        "title": title_of(runs),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "over": True,
        "runs": list(runs),
        "architectures": [describe(architecture) for architecture in architectures],
        "shapes": {},
        "verify": None,
        "code": {},
        "classes": list(classes),
        "comparable": not any(difference["decides"] for difference in differences),
        "differences": [difference["what"] for difference in differences],
        "repeat": list(repeat),
        "diagram": "",
    }


def title_of(runs: Sequence[Mapping[str, Any]]) -> str:
    """What is trained on what, and where."""
    archs = " and ".join(dict.fromkeys(str(run["arch"]) for run in runs))
    data = " and ".join(dict.fromkeys(str(run["dataset"]["title"]) for run in runs if run["dataset"].get("title")))
    backends = ", ".join(dict.fromkeys(str(run["backend"]) for run in runs))
    return f"{archs}{f' on {data}' if data else ''}: {backends}"


def describe(architecture: Architecture) -> dict[str, Any]:
    """An architecture by its layers, for one image: shapes, parameters, multiply-adds, what its file says of each."""
    rows = [
        {
            "name": row.name,
            "type": row.layer.type,
            "output": list(row.output),
            "parameters": sum(math.prod(shape) for shape in row.parameters.values()),
            "multiply_adds": row.multiply_adds,
            "settings": row.layer.model_dump(mode="json", exclude={"type", "name"}, exclude_defaults=True),
        }
        for row in architecture.trace()
    ]
    totals = {"parameters": architecture.parameters, "multiply_adds": architecture.multiply_adds}
    return {"name": architecture.name, "input": list(architecture.input), **totals, "layers": rows}


def differences_of(runs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is not the same in all runs, in words; `decides`: then their figures say nothing of the frameworks."""
    begun = [run for run in runs if run["dataset"]]
    for split, words in (("train", "training"), ("test", "test")):
        kinds: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for run in begun:
            kinds.setdefault(_identity(run, split), []).append(run)
        if len(kinds) > 1:
            told = "; ".join(f"{_labels(same)}: {_images(same[0], split)}" for same in kinds.values())
            yield {"what": f"They saw different {words} images: {told}.", "decides": True}
    for key, value in _recipe_differences(begun).items():
        yield {"what": f"{key.replace('_', ' ')}: {value}", "decides": False}
    for run in begun:
        if run["recipe"].get("dropout") == "native":
            yield {"what": f"{run['label']} drew its dropout by itself, not by the shared masks.", "decides": False}
    machines = {str(run["machine"].get("processor")): run for run in begun if run["machine"]}
    if len(machines) > 1:
        told = "; ".join(f"{run['label']}: {name}" for name, run in machines.items())
        yield {"what": f"They ran on different machines, so speeds do not compare: {told}.", "decides": False}


def _identity(run: Mapping[str, Any], split: str) -> tuple[Any, ...]:
    sums = run["dataset"].get("sha256", {})
    return tuple(sums.get(f"{split}_{part}") for part in ("images", "labels"))


def _images(run: Mapping[str, Any], split: str) -> str:
    data = run["dataset"]
    return f"{data.get(f'{split}_examples', 0):,} of {data.get('title', data.get('name'))}"


def _labels(runs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(run["label"]) for run in runs)


def _recipe_differences(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Values that differ and are not what the labels tell already."""
    found = {}
    for key in dict.fromkeys(key for run in runs for key in run["recipe"]):
        if key in ("seed", "train_examples", "test_examples"):
            continue
        values: dict[str, list[Mapping[str, Any]]] = {}
        for run in runs:
            values.setdefault(str(run["recipe"].get(key)), []).append(run)
        if len(values) > 1:
            found[key] = "; ".join(f"{value} in {_labels(same)}" for value, same in values.items())
    return found
