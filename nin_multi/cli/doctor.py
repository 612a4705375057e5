"""`doctor`: what would make training slow or wrong here; of a run, what became of it; and what to do."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    DataDirOption,
    JsonOption,
    console,
    named_backends,
    print_json,
    table,
)
from nin_multi.looking import NOTHING_LEFT, first_line, last_parameters, stored_test_images

if TYPE_CHECKING:
    from nin_multi.dead_channels import Look
    from nin_multi.diagnosis import Diagnosis
    from nin_multi.launcher import ChildResult
    from nin_multi.run_story import Story
    from nin_multi.training.run_directory import RunDirectory

RunArgument = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="A run directory; without one it is about this machine.")
]
BackendsOption = Annotated[
    str | None,
    typer.Option("--backend", metavar="A,B,...", help="By name, all if none is; of a run, the one to look into it."),
]
IMAGES = 500  # of the test images, to look into a net with
ROWS = 15  # of layers, in the table for people


def doctor(
    run: RunArgument = None, backend: BackendsOption = None, data_dir: DataDirOption = None, json: JsonOption = False
) -> int:
    """Whether this machine, its environment and each framework are as they should be; what to do where they are not.

    Then, what each framework says of itself, and the knobs that were measured and stored for this machine.

    With RUN: how that run went, whether it has lost classes and since when, and which channels of its net are dead.
    """
    from nin_multi.errors import UsageError

    if run is not None:
        return _about_run(run, backend, data_dir, json)
    if data_dir is not None:
        raise UsageError("--data-dir: images are needed to look into a RUN only; name one, or leave it out")
    return _about_here(backend, json)


def _about_here(backend: str | None, json: bool) -> int:
    from nin_multi import health, launcher, registry

    names = named_backends(backend) if backend is not None else list(registry.available())
    if backend is not None and len(names) == 1:
        rows = [_examine(names[0])]
    else:
        rows = [_row(result) for result in launcher.ask_each(names, ["doctor"])]
    machine = health.describe_machine()
    findings = list(health.judge_machine(machine))
    for row in rows:
        findings += health.judge_backend(row, named=backend is not None)
    told = [finding.as_dict() for finding in findings]
    if json:
        print_json({"findings": told, "machine": machine, "backends": rows})
    else:
        _print(told, rows)
    return 3 if backend is not None and any(row["status"] != "ok" for row in rows) else 0


def _examine(name: str) -> dict[str, Any]:
    """One backend, in this process."""
    from nin_multi import health
    from nin_multi.cli.common import one_backend
    from nin_multi.errors import BackendUnavailable

    try:
        return health.describe_backend(one_backend(name))
    except BackendUnavailable as error:
        return health.unavailable(name, str(error))


def _row(result: ChildResult) -> dict[str, Any]:
    """What a child said of its backend; a child that crashed says it by that."""
    from nin_multi import health

    rows = (result.answer or {}).get("backends")
    return rows[0] if rows else health.unavailable(result.backend, result.failure())


def _print(findings: list[dict[str, str]], rows: list[dict[str, Any]]) -> None:
    for finding in findings:
        _print_finding(finding)
    for row in rows:
        if row["environment"] or row["facts"]:
            _print_backend(row)
    _print_tunings(rows)


def _print_finding(finding: dict[str, str]) -> None:
    remedy = f": {finding['remedy']}" if finding["remedy"] else ""
    _print_line(finding["verdict"], f"{finding['about']}: {finding['what']}{remedy}")


def _print_line(verdict: str, text: str) -> None:
    """What is too long for a line goes on below itself, not below the verdict."""
    style = {"slow": "yellow", "wrong": "red"}.get(verdict, "")
    width = min(console().width, 80)
    console().print(_fill(f"{verdict:<8}{text}", width, 8), style=style)


def _fill(text: str, width: int, indent: int = 0) -> str:
    """Flags stay whole: they are there to be copied."""
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def _print_backend(row: dict[str, Any]) -> None:
    """What it asks for and says of itself."""
    grid = table("", f"{row['name']} {row['version']}", "", "why")
    for variable in row["environment"]:
        words = "set by you" if variable["asked"] is None else f"set by you; asked for is {variable['asked']}"
        as_asked = variable["actual"] == variable["asked"]
        grid.add_row(variable["name"], variable["actual"] or "-", variable["why"] if as_asked else words)
    for name, value in row["facts"].items():
        grid.add_row(name, value, "")
    console().print(grid)


def _print_tunings(rows: list[dict[str, Any]]) -> None:
    stored = [(row["name"], tuning) for row in rows for tuning in row["tunings"]]
    if not stored:
        console().print("No knobs are stored for this machine: `train --tune now` measures them.")
        return
    grid = table("stored for this machine", "backend", "net", "precision", "knobs", right=("batch", "gain"))
    for name, tuning in stored:
        knobs = "\n".join(f"{knob}={value}" for knob, value in tuning["tuning"].items())
        old = "" if tuning["current"] else " (old)"
        place = f"{tuning['precision']} {tuning['device']}"
        grid.add_row(f"{name}{old}", tuning["arch"], place, knobs, str(tuning["batch_size"]), f"{tuning['gain']:.2f}")
    console().print(grid)


def _about_run(path: Path, backend: str | None, data_dir: Path | None, json: bool) -> int:
    """Its files are read first; the net may be out of reach, and what they say is told all the same."""
    from nin_multi.diagnosis import diagnose
    from nin_multi.errors import BackendUnavailable
    from nin_multi.run_story import read_story
    from nin_multi.training.run_directory import RunDirectory

    directory = RunDirectory.open(path)
    story = read_story(directory)
    unavailable = False
    if backend is None:
        look = _ask(directory, story, data_dir)
    else:
        try:
            look = _look(directory, story, _one(backend), data_dir)
        except BackendUnavailable as error:
            look, unavailable = first_line(error), True
    found = diagnose(story, look)
    if json:
        print_json(_as_json(path, story, found, look))
    else:
        _print_run(path, found, look)
    return 3 if unavailable else 0 if found.is_well else 1


def _one(backend: str) -> str:
    from nin_multi.errors import UsageError

    names = named_backends(backend)
    if len(names) > 1:
        raise UsageError(f"--backend: expected one name to look into a run with, got {', '.join(names)}")
    return names[0]


def _ask(directory: RunDirectory, story: Story, data_dir: Path | None) -> Look | str:
    """In a process of the run's own backend: one that is not here, or crashes, takes no word of ours with it."""
    from nin_multi.dead_channels import Look
    from nin_multi.errors import BackendNotFound, BackendUnavailable
    from nin_multi.launcher import Child

    if story.status == "running":
        return "that would slow the run down; --backend NAME does it all the same"
    if not story.has_weights and not story.checkpoints:
        return NOTHING_LEFT
    name = directory.last_facts()["backend"]
    arguments = ["doctor", str(directory.path.absolute()), "--backend", name]
    try:
        from nin_multi import registry

        registry.load(name)
        child = Child(name, [*arguments, *(["--data-dir", str(data_dir)] if data_dir else [])]).result()
    except (BackendNotFound, BackendUnavailable) as error:
        return first_line(error)
    answer = child.answer or {}
    if answer.get("layers") is None:
        return str(answer.get("not_looked") or child.failure().partition("\n")[0])
    return Look(answer["images"], answer["layers"], answer["dead_logits"])


def _look(directory: RunDirectory, story: Story, backend: str, data_dir: Path | None) -> Look | str:
    """In this process, which may begin anew in the backend's environment. Raises BackendUnavailable."""
    from nin_multi.cli.common import one_backend
    from nin_multi.dead_channels import look_into
    from nin_multi.errors import UnsupportedLayer

    framework = one_backend(backend)
    split = stored_test_images(story, data_dir, min(IMAGES, story.dataset.test_examples))
    params = last_parameters(directory, story)
    if isinstance(split, str) or isinstance(params, str):
        return split if isinstance(split, str) else str(params)
    device = framework.devices()[0]
    try:
        network = framework.build(story.architecture, params, device=device, precision=framework.precisions[0])
    except UnsupportedLayer as error:
        return first_line(error)
    return look_into(network, story.architecture, split.images, len(story.names))


def _as_json(path: Path, story: Story, found: Diagnosis, look: Look | str) -> dict[str, Any]:
    seen = None if isinstance(look, str) else look
    return {
        "run": str(path),
        "status": story.status,
        "summary": found.summary,
        "findings": [finding.as_dict() for finding in found.findings],
        "classes": found.classes,
        "layers": seen and seen.layers,
        "dead_logits": seen and seen.dead,
        "images": seen and seen.images,
        "not_looked": None if seen else look,
    }


def _print_run(path: Path, found: Diagnosis, look: Look | str) -> None:
    """The verdict, what it stands on, and the layers: those with most dead channels where there are too many."""
    width = min(console().width, 80)
    style = "" if found.is_well else "red"
    console().print(_fill(f"{path}: {found.summary}", width), style=style)
    console().print()
    for finding in found.findings:
        _print_line(finding.verdict, f"{finding.about}: {finding.what}")
        if finding.remedy:
            _print_line("", f"-> {finding.remedy}")
    if isinstance(look, str) or not look.layers:
        return
    ranked = sorted(look.layers, key=lambda layer: -layer["dead"] / layer["channels"])[:ROWS]
    grid = table("dead channels", "layer", right=("dead", "of", "share"))
    for layer in [layer for layer in look.layers if layer in ranked]:
        share = f"{100 * layer['dead'] / layer['channels']:.0f} %"
        grid.add_row(layer["name"], str(layer["dead"]), str(layer["channels"]), share)
    console().print(grid)
    if left := len(look.layers) - len(ranked):
        console().print(f"and {left} more layers with no larger share of dead channels")
