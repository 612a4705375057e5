"""`sweep`: many runs of a plan in a file, on this machine or a cluster; each is an ordinary run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    DataDirOption,
    JsonOption,
    PatienceOption,
    console,
    note,
    patience_seconds,
    print_json,
    table,
)

if TYPE_CHECKING:
    from nin_multi.cli.sweep_file import Sweep
    from nin_multi.sweep.plan import Outcome, Planned, Task

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="YAML: backends, architectures, recipes, seeds, train, resources.")
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where the run directories are; on a cluster, a shared folder.")
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Runs at once here; they share the cores.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="A Dask scheduler whose workers take the runs; else here."),
]


def sweep(
    file: FileArgument,
    out: OutOption = Path("runs"),
    jobs: JobsOption = 1,
    address: AddressOption = None,
    data_dir: DataDirOption = None,
    patience: PatienceOption = "600",
    json: JsonOption = False,
) -> int:
    """Every backend with every architecture, recipe and seed of a file; goes on where it was stopped or killed."""
    from nin_multi.sweep import conductor

    waits = patience_seconds(patience)
    conductor.require()
    plan = _read(file, jobs)
    runs = {planned.name: out.resolve() / planned.name for planned in plan.runs}
    ended = {name: outcome for name, run in runs.items() if (outcome := _ended(plan, name, run))}
    left = [planned for planned in plan.runs if planned.name not in ended]
    note(f"{plan.name}: {len(plan.runs)} runs, {len(ended)} of them are done; run directories in {out}")
    if left:
        tasks = [_task(planned, runs[planned.name], plan, data_dir, waits) for planned in left]

        def tell(outcome: Outcome) -> None:
            ended[outcome.name] = outcome
            note(f"{len(ended)} of {len(runs)}  {_in_words(outcome)}")

        with conductor.cluster(address, jobs) as client:
            conductor.check_room(client, plan.resources)
            conductor.conduct(client, tasks, plan.resources, tell)
    told = [_row(planned, ended[planned.name], runs[planned.name]) for planned in plan.runs]
    done = sum(row["status"] == "done" for row in told)
    if json:
        print_json({"sweep": plan.name, "runs": told, "done": done, "failed": len(told) - done})
    else:
        _print(plan.name, told)
    return max((_status(outcome) for outcome in ended.values()), default=0)


def _read(file: Path, jobs: int) -> Sweep:
    """With the cores that a run takes: where the file does not say, each of so many at once has its share."""
    from dataclasses import replace

    from nin_multi.backend import cores
    from nin_multi.cli.sweep_file import read_sweep

    plan = read_sweep(file)
    asked = plan.resources.cores or max(cores() // jobs, 1)
    return replace(plan, resources=replace(plan.resources, cores=asked))


def _ended(plan: Sweep, name: str, run: Path) -> Outcome | None:
    """How a run ended that is there already. Raises UsageError where its directory holds another one."""
    from nin_multi.errors import UsageError
    from nin_multi.sweep.plan import Outcome
    from nin_multi.sweep.wanted import differences, end_of, has_begun

    planned = next(each for each in plan.runs if each.name == name)
    if has_begun(run) and (other := differences(planned.wanted, run)):
        found = "; ".join(other)
        raise UsageError(f"{run}: holds another run ({found}).\nChoose another --out, or remove it yourself.")
    result = end_of(run)
    return Outcome(name, result["status"], result, result.get("reason") or "", attempts=0) if result else None


def _task(planned: Planned, run: Path, plan: Sweep, data_dir: Path | None, patience: float) -> Task:
    from nin_multi.sweep.plan import Task

    data = [] if data_dir is None else ["--data-dir", str(data_dir.resolve())]
    return Task(
        planned.name,
        planned.wanted.backend,
        run,
        begin=(*planned.wanted.arguments(), "--run-dir", str(run), *data),
        resume=("--resume", str(run), *data),
        cores=plan.resources.cores or 1,
        patience=patience,
    )


def _status(outcome: Outcome) -> int:
    """What a run adds to the exit status."""
    match outcome.status:
        case "done":
            return 0
        case "failed":
            return outcome.exit_status or 1
        case _:
            return 1


def _in_words(outcome: Outcome) -> str:
    if outcome.result is None:
        return f"{outcome.name}: {outcome.status}, {outcome.reason}"
    accuracy = outcome.result.get("test_acc")
    return f"{outcome.name}: {outcome.status}" + (f", test acc {accuracy:.3f}" if accuracy is not None else "")


def _row(planned: Planned, outcome: Outcome, run: Path) -> dict[str, Any]:
    wanted, result = planned.wanted, outcome.result or {}
    figures = {name: result.get(name) for name in ("test_acc", "loss", "examples_per_sec")}
    return {
        "run": planned.name,
        "backend": wanted.backend,
        "arch": wanted.architecture.name,
        "recipe": planned.recipe,
        "seed": wanted.seed,
        "status": outcome.status,
        "reason": outcome.reason,
        "attempts": outcome.attempts,
        **figures,
        "run_dir": str(run),
    }


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    grid = table(f"{name}: {len(rows)} runs", "run", "status", right=("loss", "test acc", "images/s"))
    for row in rows:
        cells = [
            "" if row[key] is None else f"{row[key]:{form}}"
            for key, form in (("loss", ".3f"), ("test_acc", ".3f"), ("examples_per_sec", ".1f"))
        ]
        grid.add_row(row["run"], row["status"], *cells)
    console().print(grid)
    for row in rows:
        if row["status"] == "failed":
            console().print(f"{row['run']}: {row['reason']}")
