"""`compare`: the same training in several frameworks, one process each, and one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    DataDirOption,
    DatasetOption,
    JsonOption,
    SetOption,
    TuneOption,
    check_tune,
    console,
    load_architecture,
    named_backends,
    note,
    print_json,
    set_words,
    table,
    tuning_of_each,
)
from nin_multi.cli.train import (
    BatchOption,
    DropoutOption,
    EpochsOption,
    InitOption,
    LrOption,
    MomentumOption,
    RunsDirOption,
    SeedOption,
    TestOption,
    TrainOption,
)

BackendsOption = Annotated[str, typer.Option("--backend", metavar="A,B,...", help="Backends to compare.")]


def compare(
    backend: BackendsOption = "torch,mindspore,mxnet",
    arch: ArchOption = "nin",
    dataset: DatasetOption = "auto",
    data_dir: DataDirOption = None,
    epochs: EpochsOption = 10,
    batch_size: BatchOption = 128,
    lr: LrOption = 0.1,
    momentum: MomentumOption = 0.0,
    init: InitOption = "xavier",
    dropout: DropoutOption = "shared",
    seed: SeedOption = 0,
    train_examples: TrainOption = None,
    test_examples: TestOption = None,
    set: SetOption = None,
    tune: TuneOption = "auto",
    runs_dir: RunsDirOption = Path("runs"),
    json: JsonOption = False,
) -> int:
    """Train in several frameworks from the same weights, order and masks, one after another; then one table."""
    from nin_multi import launcher
    from nin_multi.training.recipe import Recipe

    names = named_backends(backend)
    check_tune(tune)
    architecture = load_architecture(arch, None)
    recipe = Recipe(epochs, batch_size, lr, seed, train_examples, test_examples, momentum, init, dropout)
    flags = {"--arch": arch, "--dataset": dataset, "--data-dir": data_dir, "--runs-dir": runs_dir, "--tune": tune}
    flags |= {f"--{key.replace('_', '-')}": value for key, value in recipe.as_dict().items()}
    arguments = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    tunings = tuning_of_each(names, architecture, set)
    runs: list[dict[str, Any]] = []
    worst = 0
    for name in names:
        note(f"--- {name}")
        command = ["train", "--backend", name, *arguments, *set_words(tunings[name])]
        result = launcher.Child(name, command, quiet=False).result()
        worst = max(worst, result.exit_status if result.exit_status >= 0 else 3)
        answer = result.answer or {}
        failed = {"backend": name, "status": "failed", "reason": result.failure()}
        runs.append(answer if "status" in answer else failed)
    if json:
        print_json({"arch": arch, "runs": runs})
    else:
        _print_table(arch, runs)
    return worst


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
    console().print("images/s counts data preparation, compute does not; memory is a process's peak.")
    if len(done) > 1:
        console().print(
            f"All began with the same weights, images, order{_and_masks(done)}. Training amplifies the roundings in\n"
            f"which frameworks differ; `nin_multi verify --arch {arch}` shows whether the nets are the same."
        )


def _and_masks(runs: list[dict[str, Any]]) -> str:
    return " and dropout masks" if runs[0]["dropout"] == "shared" else ""


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _cells(run: dict[str, Any]) -> list[str]:
    if run["status"] == "failed":
        return [run["backend"], f"failed: {run['reason']}"]
    values = ["-" if run[key] is None else f"{run[key]:.3f}" for key in ("loss", "train_acc", "test_acc")]
    speeds = [f"{run[key]:.1f}" for key in ("examples_per_sec", "compute_examples_per_sec")]
    return [
        f"{run['backend']} {run['framework_version']}",
        *values,
        *speeds,
        f"{run['peak_memory_bytes'] / 1e9:.2f} GB",
    ]
