"""What a comparison shows beside its runs and has to be computed: agreement, code, pictures; each may be missing.

Frameworks answer in processes of their own. What cannot be had is said in a line, and left out.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nin_multi import checks, registry
from nin_multi.compare.agreement import verify_each
from nin_multi.compare.comparison import Comparison, Run
from nin_multi.errors import NinMultiError
from nin_multi.launcher import Child
from nin_multi.spec import Architecture

IMAGES, STEPS = 2, 2  # for the agreement: few, since `verify` itself is there for more


@dataclass(frozen=True)
class Wishes:
    """What to add; `pythons` are those of backends in other environments, `data_dir` is where the images are."""

    verify: bool = True
    pictures: bool = True
    pythons: Mapping[str, str] = field(default_factory=dict)
    data_dir: Path | None = None
    into_runs: bool = False  # whether pictures may be left in the run directories


def add_extras(
    comparison: Comparison, architectures: Sequence[Architecture], wishes: Wishes, report: Callable[[str], None]
) -> None:
    """Fill in what the wishes say; of several architectures the first is verified and written out as code."""
    runs = comparison["runs"]
    begun = {run["backend"]: run for run in reversed(runs) if run["device"]}  # the first of each
    for run in runs:
        run["adapter_lines"] = adapter_lines(run["backend"])
    comparison["diagram"] = _diagram(architectures)
    comparison["code"] = dict(_sources(dict.fromkeys(run["backend"] for run in runs), architectures[0], report))
    if wishes.verify and begun:
        comparison["verify"] = _verified(architectures[0], begun, wishes, report)
        comparison["shapes"] = _shapes(comparison["verify"])
    if wishes.pictures:
        for run in runs:
            _add_pictures(run, wishes, report)


def adapter_lines(backend: str) -> int | None:
    """Lines of code in the package of a backend's adapter, without blank ones and comments; None if it is not here."""
    try:
        folder = Path(inspect.getfile(type(registry.load(backend)))).parent
    except (NinMultiError, OSError, TypeError):
        return None
    if Path(__file__).parents[1] in folder.parents:  # the oracle is a part of the core, and has no adapter
        return None
    lines = (line.strip() for path in folder.glob("*.py") for line in path.read_text(encoding="utf-8").splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def _sources(
    backends: Iterable[str], architecture: Architecture, report: Callable[[str], None]
) -> Iterable[tuple[str, str]]:
    for name in backends:
        try:
            yield name, registry.load(name).source(architecture)
        except NinMultiError as error:
            report(f"code of {name} left out: {error}")


def _diagram(architectures: Sequence[Architecture]) -> str:
    from nin_multi.drawing.diagram import draw_diagram

    return draw_diagram(architectures).decode()


def _verified(
    architecture: Architecture, runs: Mapping[str, Run], wishes: Wishes, report: Callable[[str], None]
) -> dict[str, Any]:
    """As `verify --json`, each backend as it computed its run; `failed` has the reasons of those without an answer."""
    report(f"{architecture.name}: asking the oracle (float64)")
    problem = checks.clear_problem(architecture, IMAGES, 0)
    truth = checks.find_truth(problem, STEPS)

    def words(name: str) -> list[str]:
        run = runs[name]
        tuning = [word for knob, value in run["tuning"].items() for word in ("--set", f"{knob}={value}")]
        return ["--device", run["device"], "--precision", run["precision"], *tuning]

    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for result in verify_each(problem, truth, list(runs), words, report, wishes.pythons):
        if result.answer is not None and "backends" in result.answer:
            found |= result.answer["backends"]
        else:
            failed[result.backend] = result.failure()
            report(f"agreement of {result.backend} left out: {result.failure()}")
    return {
        "arch": architecture.name,
        "input": list(problem.x.shape),
        "seed": problem.seed,
        "nearest_decision": problem.margin if problem.margin < 1e300 else None,
        "steps": STEPS,
        "backends": found,
        "failed": failed,
        "agree": bool(found) and all(each["agree"] for each in found.values()),
    }


def _shapes(verified: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """As for one image."""
    return {
        name: {layer: [1, *shape[1:]] for layer, shape in found.get("shapes", {}).items()}
        for name, found in verified["backends"].items()
    }


def _add_pictures(run: Run, wishes: Wishes, report: Callable[[str], None]) -> None:
    """By the run's own backend, from its weights or its last checkpoint."""
    if run["run_dir"] is None or not run["events"]:
        return
    report(f"pictures of {run['label']}")
    with tempfile.TemporaryDirectory(prefix="nin_multi-") as folder:
        command = ["pictures", run["run_dir"]]
        command += [] if wishes.into_runs else ["--out", folder]
        command += ["--data-dir", str(wishes.data_dir)] if wishes.data_dir is not None else []
        result = Child(run["backend"], command, python=wishes.pythons.get(run["backend"])).result()
    answer = result.answer or {}
    if "pictures" not in answer:
        report(f"pictures of {run['label']} left out: {result.failure()}")
        return
    run["pictures"], run["samples"] = answer["pictures"], answer["samples"]
    for name, reason in answer.get("not_drawn", {}).items():
        report(f"{run['label']}: no {name.replace('_', ' ')} ({reason})")
