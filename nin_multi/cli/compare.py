"""`compare`: the same training in several frameworks, one process each, and one table."""

from __future__ import annotations

import math
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    DataDirOption,
    DatasetOption,
    JsonOption,
    LargeOption,
    SetOption,
    TuneOption,
    check_tune,
    console,
    large_words,
    load_architecture,
    named_backends,
    note,
    print_json,
    set_words,
    table,
    tuning_of_each,
)
from nin_multi.cli.recipe_options import (
    BatchOption,
    DecayOption,
    DropoutOption,
    DropoutRateOption,
    EpochsOption,
    FinalReluOption,
    InitOption,
    LrOption,
    MomentumOption,
    RecipeOption,
    SeedOption,
    TestOption,
    TrainOption,
    WarmUpOption,
    make_recipe,
    recipe_words,
)
from nin_multi.cli.train import RunsDirOption

if TYPE_CHECKING:
    from nin_multi.launcher import ChildResult

BackendsOption = Annotated[str, typer.Option("--backend", metavar="A,B,...", help="Backends to compare.")]
PatienceOption = Annotated[
    str,
    typer.Option(
        "--patience", metavar="SECONDS|off", help="A backend without a sign of life for so long is stopped; off: never."
    ),
]
PATIENCE = "600"  # starting up, compiling a graph, or one step of a huge net take minutes
LEAST_PATIENCE = 5.0  # seconds; signs of life come once a second, and a machine under load is slower


def compare(
    context: typer.Context,
    backend: BackendsOption = "torch,mindspore,mxnet",
    arch: ArchOption = "nin",
    dataset: DatasetOption = "auto",
    data_dir: DataDirOption = None,
    recipe: RecipeOption = "book",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lr: LrOption = None,
    momentum: MomentumOption = None,
    init: InitOption = None,
    warm_up: WarmUpOption = None,
    decay: DecayOption = None,
    final_relu: FinalReluOption = None,
    dropout_rate: DropoutRateOption = None,
    dropout: DropoutOption = None,
    seed: SeedOption = 0,
    train_examples: TrainOption = None,
    test_examples: TestOption = None,
    set: SetOption = None,
    tune: TuneOption = "auto",
    runs_dir: RunsDirOption = Path("runs"),
    patience: PatienceOption = PATIENCE,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """Train in several frameworks from the same weights, order and masks, one after another; then one table."""
    from nin_multi import launcher

    names = named_backends(backend)
    check_tune(tune)
    seconds = _seconds(patience)
    architecture = load_architecture(arch, None, allow_large=allow_large)
    made = make_recipe(context.params)
    flags = {"--arch": arch, "--dataset": dataset, "--data-dir": data_dir, "--runs-dir": runs_dir, "--tune": tune}
    arguments = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    arguments += [*recipe_words(made), *large_words(allow_large)]
    tunings = tuning_of_each(names, architecture, set)
    runs: list[dict[str, Any]] = []
    worst = 0
    for name in names:
        note(f"--- {name}")
        command = ["train", "--backend", name, *arguments, *set_words(tunings[name])]
        result = launcher.Child(name, command, quiet=False, patience=seconds).result()
        worst = max(worst, result.status)
        runs.append(_run_of(result))
        if result.died:
            _tell_at_once(runs[-1])
    if json:
        print_json({"arch": arch, "runs": runs})
    else:
        _print_table(arch, runs)
    return worst


def _seconds(patience: str) -> float:
    """What --patience says; infinity for "off" and 0. Raises UsageError."""
    from nin_multi.errors import UsageError

    try:
        seconds = 0.0 if patience == "off" else float(patience)
    except ValueError:
        seconds = math.nan
    if seconds == 0.0:
        return math.inf
    if not LEAST_PATIENCE <= seconds < math.inf:
        raise UsageError(f"--patience: expected {LEAST_PATIENCE:.0f} seconds or more, or off, got {patience!r}")
    return seconds


def _run_of(result: ChildResult) -> dict[str, Any]:
    """The result of a run; of one that failed, why, and its directory."""
    answer = result.answer or {}
    if "status" in answer and result.silence is None:
        return {**answer, "reason": result.failure()} if result.died else answer
    run_dir = _run_left_behind(result.last.run_dir if result.last is not None else None)
    reason = result.failure() + (" (--patience SECONDS waits longer)" if result.silence is not None else "")
    return {"backend": result.backend, "status": "failed", "reason": reason, "run_dir": run_dir}


def _run_left_behind(run_dir: str | None) -> str | None:
    """The run directory of a process that is gone, if a run had begun there; an empty one would only puzzle."""
    from nin_multi.training.run_directory import RUN, RunDirectory

    if run_dir is None or (Path(run_dir) / RUN).exists():
        return run_dir
    RunDirectory(Path(run_dir)).abandon()
    return None


def _tell_at_once(run: dict[str, Any]) -> None:
    """That it is over with this one: it could not say so itself, and the table may be hours away."""
    if sys.stderr.isatty():
        print("\x1b[?25h", file=sys.stderr)  # its progress bar has hidden the cursor, and stands in the line
    note(f"error: {run['reason']}")
    if command := _to_go_on(run):
        note(command)


def _print_table(arch: str, runs: list[dict[str, Any]]) -> None:
    done = [run for run in runs if run["status"] != "failed"]
    title = arch
    if done:
        source = "synthetic images" if done[0]["synthetic"] else done[0]["dataset"]
        title = f"{arch} on {done[0]['train_examples']:,} {source}, {_epochs(done[0]['epochs'])}, one start for all"
    headings = ("loss", "train acc", "test acc", "images/s", "compute", "memory")
    grid = table(title, "framework", right=headings)
    for run in runs:
        grid.add_row(*_cells(run))
    console().print(grid)
    for run in runs:
        _print_end(run)
    if done:
        console().print("images/s counts data preparation, compute does not; memory is a process's peak.")
    if len(done) > 1:
        console().print(
            f"All began with the same weights, images, order{_and_masks(done)}. Training amplifies the roundings in\n"
            f"which frameworks differ; `nin_multi verify --arch {arch}` shows whether the nets are the same."
        )


def _print_end(run: dict[str, Any]) -> None:
    """Why a run is not done, whole, and how to go on with it: below the table, whose cells are too narrow."""
    name, status = run["backend"], run["status"]
    reason = str(run.get("reason") or (f"at step {run['steps']:,}" if status == "interrupted" else ""))
    if not reason:
        return
    for line in f"{name} {status}: {reason.removeprefix(f'{name}: ')}".splitlines():
        lines = textwrap.wrap(line, console().width, subsequent_indent="    ", break_on_hyphens=False)
        console().print("\n".join(lines), style="red")
    if command := _to_go_on(run):
        console().print(command, soft_wrap=True)  # on one line however long it is, to be copied


def _to_go_on(run: dict[str, Any]) -> str:
    """The command that does; empty where there is nothing to go on with."""
    if run["status"] not in ("failed", "interrupted") or run["run_dir"] is None:
        return ""
    return f"  to go on: nin_multi train --resume {shlex.quote(run['run_dir'])}"


def _and_masks(runs: list[dict[str, Any]]) -> str:
    return " and dropout masks" if runs[0]["dropout"] == "shared" else ""


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _cells(run: dict[str, Any]) -> list[str]:
    if run["status"] == "failed":
        return [run["backend"], "failed"]
    values = ["-" if run[key] is None else f"{run[key]:.3f}" for key in ("loss", "train_acc", "test_acc")]
    speeds = [f"{run[key]:.1f}" for key in ("examples_per_sec", "compute_examples_per_sec")]
    return [
        f"{run['backend']} {run['framework_version']}",
        *values,
        *speeds,
        f"{run['peak_memory_bytes'] / 1e9:.2f} GB",
    ]
