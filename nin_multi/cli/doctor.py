"""`doctor`: what would make training slow or wrong here, and what was chosen for this machine."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from nin_multi.cli.common import BackendsOption, JsonOption, console, named_backends, print_json, table

if TYPE_CHECKING:
    from nin_multi.launcher import ChildResult


def doctor(backend: BackendsOption = None, json: JsonOption = False) -> int:
    """Whether this machine, its environment and each framework are as they should be; what to do where they are not.

    Then, what each framework says of itself, and the knobs that were measured and stored for this machine.
    """
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
        remedy = f": {finding['remedy']}" if finding["remedy"] else ""
        _print_line(finding["verdict"], f"{finding['about']}: {finding['what']}{remedy}")
    for row in rows:
        if row["environment"] or row["facts"]:
            _print_backend(row)
    _print_tunings(rows)


def _print_line(verdict: str, text: str) -> None:
    """What is too long for a line goes on below itself, not below the verdict."""
    style = {"slow": "yellow", "wrong": "red"}.get(verdict, "")
    width = min(console().width, 80)
    console().print(textwrap.fill(f"{verdict:<8}{text}", width, subsequent_indent=" " * 8), style=style)


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
