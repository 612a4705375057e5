"""`train`: one backend on Fashion-MNIST; prints the book's two lines at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi import heartbeat
from nin_multi.cli.common import (
    ArchOption,
    DataDirOption,
    DatasetOption,
    InputOption,
    JsonOption,
    LargeOption,
    SetOption,
    TuneOption,
    check_tune,
    load_architecture,
    note,
    one_backend,
    print_json,
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
)
from nin_multi.cli.train_resumed import has_begun, of_last, opened
from nin_multi.cli.train_workers import Joining, JoinOption, PortOption, RestartsOption, WorkersOption, lead
from nin_multi.set_by_hand import parse_tuning

if TYPE_CHECKING:
    from nin_multi.spec import Architecture
    from nin_multi.training.cadence import Cadence
    from nin_multi.training.job import Job
    from nin_multi.training.recipe import Recipe
    from nin_multi.training.run_directory import RunDirectory

BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="torch, mindspore, mxnet or numpy.")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="Such as cpu or cuda:0; the best here if not given.")
]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="fp32 or bf16, as the backend offers.")]
RunDirOption = Annotated[Path | None, typer.Option("--run-dir", help="A directory that holds no run yet.")]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Go on from a run's last checkpoint. With it go only --backend, --device, --precision, --data-dir, "
        "--set, --tune, --checkpoint-every, --allow-large, --tensorboard, --json, --workers and what goes with it, and "
        "--epochs to train longer.",
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-every",
        metavar="N|TIME|epoch",
        help="Steps, or a time such as 90s, 5m or 1h, or both: 200,5m; the end of an epoch always. Without it: 5m.",
    ),
]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too, into the run's folder tensorboard/.")
]
RunsDirOption = Annotated[Path, typer.Option("--runs-dir", help="Where a run directory is made if none is given.")]


def train(
    context: typer.Context,
    backend: BackendOption = None,
    arch: ArchOption = "nin",
    input: InputOption = None,
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
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    train_examples: TrainOption = None,
    test_examples: TestOption = None,
    set: SetOption = None,
    tune: TuneOption = "auto",
    checkpoint_every: CheckpointOption = None,
    allow_large: LargeOption = False,
    tensorboard: TensorboardOption = False,
    resume: ResumeOption = None,
    run_dir: RunDirOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    workers: WorkersOption = None,
    port: PortOption = None,
    join_timeout: JoinOption = 60.0,
    restarts: RestartsOption = 0,
    json: JsonOption = False,
) -> int:
    """Train one architecture in one framework; the defaults are the chapter's."""
    heartbeat.beat(heartbeat.STARTING)
    # What can be wrong without a framework is found out before one is started.
    check_tune(tune)
    from nin_multi.training.cadence import Cadence

    how: dict[str, Any] = {"fixed": parse_tuning(set), "tune": tune}
    how["allow_large"], how["tensorboard"] = allow_large, tensorboard
    if tensorboard:
        from nin_multi.training.tensorboard import require

        require()
    if checkpoint_every is not None:
        how["cadence"] = Cadence.parse(checkpoint_every)
    given = {name for name in context.params if _is_given(context, name)}
    name = _named(backend) if resume is None else of_last(resume, "backend", backend)
    joining = Joining(
        name, workers if resume is None else of_last(resume, "workers", workers), join_timeout, port, restarts
    )
    how["tune"], how["joining"] = joining.check_tune(tune), joining
    if joining.has_restarted and run_dir is not None and has_begun(run_dir):
        resume = run_dir
        given.clear()
    with joining.telling():
        if resume is not None:
            result = _resume(resume, given, backend, epochs, device, precision, data_dir, how)
        else:
            made = make_recipe(context.params)
            architecture = load_architecture(arch, input, allow_large=allow_large)
            place = partial(_directory, f"{architecture.name}-{name}-s{made.seed}", run_dir, runs_dir)
            job = partial(_job, name, device, precision, architecture, (dataset, data_dir), made, **how)
            result = _begin(joining, made, place, job, has_dropout=dropout is not None)
        joining.end(result)
    if joining.writes:
        _report(result, json)
    return _status(result)


def _take_part(job: Job, begun: Callable[[], RunDirectory] | None, resumed: RunDirectory | None) -> dict[str, Any]:
    """As the worker that writes the run, which begins or goes on, or as one that helps it."""
    from nin_multi.training.display import choose_display
    from nin_multi.training.follower import follow
    from nin_multi.training.run import resume, train

    if job.group.rank:
        result = follow(job, resumed)
    elif resumed is not None:
        result = resume(job, resumed, choose_display())
    else:
        assert begun is not None
        result = train(job, begun(), choose_display())
    job.group.close()
    return result


def _named(backend: str | None) -> str:
    from nin_multi.errors import UsageError

    if backend is None:
        raise UsageError("--backend: expected a name, such as torch; `nin_multi backends` lists them")
    return backend


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _job(
    backend: str,
    device: str | None,
    precision: str | None,
    architecture: Architecture,
    source: tuple[str, Path | None],
    recipe: Recipe,
    *,
    joining: Joining,
    fixed: dict[str, str],
    tune: str,
    recorded: dict[str, str] | None = None,
    cadence: Cadence | None = None,
    allow_large: bool = False,
    tensorboard: bool = False,
) -> Job:
    """All that a run is made of, checked; this call may start the process anew."""
    from dataclasses import replace

    from nin_multi.backend import check_request

    framework = one_backend(backend, precision, {**(recorded or {}), **fixed})
    joining.settle(framework)
    chosen, kind = device or joining.device(framework), precision or framework.precisions[0]
    check_request(framework, chosen, kind)
    from nin_multi.data import load_dataset
    from nin_multi.training.job import Job

    heartbeat.beat(heartbeat.STARTING)  # the framework stands; images may have to be fetched
    data = load_dataset(*source, train_examples=recipe.train_examples, test_examples=recipe.test_examples, report=note)
    job = Job(framework, chosen, kind, architecture, data, recipe, fixed, tune, recorded)
    job = replace(job, allow_large=allow_large, tensorboard=tensorboard, cadence=cadence or job.cadence)
    job.check()
    return replace(job, group=joining.group(framework, chosen))


def _begin(
    joining: Joining, recipe: Recipe, place: Callable[[], RunDirectory], make: Callable[[], Job], *, has_dropout: bool
) -> dict[str, Any]:
    """A run of its own, in the directory that `place` makes; `make` may start the process anew."""
    if joining.leads:
        joining.check(recipe)
        directory = place()
        return lead(joining, directory, ["--run-dir", str(directory.path)])
    job = make()
    return _take_part(job if has_dropout else job.with_default_dropout(), place, None)


def _resume(
    run: Path,
    given: set[str],
    backend: str | None,
    epochs: int | None,
    device: str | None,
    precision: str | None,
    data_dir: Path | None,
    how: dict[str, Any],
) -> dict[str, Any]:
    """Go on with a run as its run.json says; by its own backend, device and precision where none is named."""
    from dataclasses import replace

    from nin_multi.training.cadence import Cadence

    directory, joining = opened(run, given), how["joining"]
    recipe = directory.recipe()
    if joining.leads:
        joining.check(recipe)
        return lead(joining, directory, [])
    facts, last = directory.facts(), directory.last_facts()
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    if "cadence" not in how and "checkpoint_every" in facts:
        how = {**how, "cadence": Cadence.parse(facts["checkpoint_every"])}
    chosen = backend or last["backend"]
    if chosen == last["backend"]:
        device, precision = device or last["device"], precision or last["precision"]
    place = {"backend": chosen, "device": device, "precision": precision}
    if "tune" not in given and all(last[key] == value for key, value in place.items()):
        how = {**how, "tune": "off", "recorded": last.get("tuning") or {}}  # older runs knew the defaults only
    source = (facts["dataset"]["name"], data_dir)
    job = _job(chosen, device, precision, directory.architecture(), source, recipe, **how)
    return _take_part(job, None, directory)


def _directory(stem: str, run_dir: Path | None, runs_dir: Path) -> RunDirectory:
    from nin_multi.training.run_directory import RunDirectory

    return RunDirectory.create(run_dir) if run_dir is not None else RunDirectory.create_dated(runs_dir, stem)


def _report(result: dict[str, Any], json: bool) -> None:
    if result["status"] == "diverged":
        note(f"error: {result['reason']}")
    if result["status"] == "interrupted":
        note(f"interrupted at step {result['steps']}; to go on: nin_multi train --resume {result['run_dir']}")
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
