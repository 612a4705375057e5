"""`train`: one backend on Fashion-MNIST; prints the book's two lines at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    DataDirOption,
    DatasetOption,
    InputOption,
    JsonOption,
    load_architecture,
    note,
    one_backend,
    print_json,
)

if TYPE_CHECKING:
    from nin_multi.training.run import Job
    from nin_multi.training.run_directory import RunDirectory

BackendOption = Annotated[str, typer.Option("--backend", metavar="NAME", help="torch, mindspore, mxnet or numpy.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="Such as cpu or cuda:0; the best here if not given.")
]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="fp32 or bf16, as the backend offers.")]
EpochsOption = Annotated[int, typer.Option("--epochs", help="Passes over the training images.")]
BatchOption = Annotated[int, typer.Option("--batch-size", help="Images per step.")]
LrOption = Annotated[float, typer.Option("--lr", help="Learning rate of plain SGD.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of initial weights, order and dropout masks.")]
TrainOption = Annotated[int | None, typer.Option("--train-examples", metavar="N", help="Only the first N.")]
TestOption = Annotated[int | None, typer.Option("--test-examples", metavar="N", help="Only the first N.")]
RunDirOption = Annotated[Path | None, typer.Option("--run-dir", help="A directory that holds no run yet.")]
RunsDirOption = Annotated[Path, typer.Option("--runs-dir", help="Where a run directory is made if none is given.")]


def train(
    backend: BackendOption,
    arch: ArchOption = "nin",
    input: InputOption = None,
    dataset: DatasetOption = "auto",
    data_dir: DataDirOption = None,
    epochs: EpochsOption = 10,
    batch_size: BatchOption = 128,
    lr: LrOption = 0.1,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    train_examples: TrainOption = None,
    test_examples: TestOption = None,
    run_dir: RunDirOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    json: JsonOption = False,
) -> int:
    """Train one architecture in one framework; the defaults are the chapter's."""
    # What can be wrong without a framework is found out before one is started.
    from nin_multi.backend import check_request
    from nin_multi.training.recipe import Recipe

    recipe = Recipe(epochs, batch_size, lr, seed, train_examples, test_examples)
    architecture = load_architecture(arch, input)
    framework = one_backend(backend)
    chosen, kind = device or framework.devices()[0], precision or framework.precisions[0]
    check_request(framework, chosen, kind)
    from nin_multi.data import load_dataset
    from nin_multi.training.display import choose_display
    from nin_multi.training.run import Job
    from nin_multi.training.run import train as run

    data = load_dataset(dataset, data_dir, report=note).head(train_examples, test_examples)
    job = Job(framework, chosen, kind, architecture, data, recipe)
    job.check()
    result = run(job, _directory(job, run_dir, runs_dir), choose_display())
    _report(result, json)
    return _status(result)


def _directory(job: Job, run_dir: Path | None, runs_dir: Path) -> RunDirectory:
    from nin_multi.training.run_directory import RunDirectory

    if run_dir is not None:
        return RunDirectory.create(run_dir)
    return RunDirectory.create_dated(runs_dir, f"{job.architecture.name}-{job.backend.name}-s{job.recipe.seed}")


def _report(result: dict[str, Any], json: bool) -> None:
    if result["status"] == "diverged":
        note(f"error: {result['reason']}")
    if result["status"] == "interrupted":
        note(f"interrupted at step {result['steps']}; weights so far in {result['run_dir']}")
    if json:
        print_json(result)
        return
    if result["synthetic"]:
        print("on synthetic images: these figures do not compare with Fashion-MNIST's")
    loss, train_acc, test_acc = (_three(result[key]) for key in ("loss", "train_acc", "test_acc"))
    print(f"loss {loss}, train acc {train_acc}, test acc {test_acc}")
    print(f"{result['examples_per_sec']:.1f} examples/sec on {result['device']}")
    note(f"run directory {result['run_dir']}")


def _three(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3f}"


def _status(result: dict[str, Any]) -> int:
    match result["status"]:
        case "interrupted":
            return 128 + int(result["signal"])
        case "diverged":
            return 1
        case _:
            return 0
