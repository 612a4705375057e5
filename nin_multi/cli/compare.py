"""`compare`: the same training in several frameworks, one process each: live bars, one table, a report."""

from __future__ import annotations

import datetime
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    DataDirOption,
    DatasetOption,
    JsonOption,
    LargeOption,
    PatienceOption,
    SetOption,
    TuneOption,
    check_tune,
    large_words,
    load_architecture,
    note,
    patience_seconds,
    print_json,
    split_names,
)
from nin_multi.cli.compare_tables import json_of, print_tables
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
    TestOption,
    TrainOption,
    WarmUpOption,
    make_recipe,
)
from nin_multi.cli.report_options import (
    PicturesOption,
    PythonOption,
    VerifyOption,
    check_target,
    free_name,
    parse_pythons,
    write,
)
from nin_multi.cli.train import DeviceOption, RunsDirOption, TensorboardOption
from nin_multi.set_by_hand import tuning_of_each

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nin_multi.compare.comparison import Comparison
    from nin_multi.compare.extras import Wishes
    from nin_multi.compare.plan import Plan
    from nin_multi.compare.sides import Side
    from nin_multi.live import LivePage
    from nin_multi.spec import Architecture
    from nin_multi.training.recipe import Recipe

BackendsOption = Annotated[str, typer.Option("--backend", metavar="A,B,...", help="Backends to compare.")]
ArchsOption = Annotated[str, typer.Option("--arch", metavar="NAME|FILE,...", help="Of the zoo, or .yaml files.")]
PrecisionsOption = Annotated[
    str | None, typer.Option("--precision", metavar="P,...", help="fp32, bf16, or both, as the backends offer.")
]
SeedsOption = Annotated[str, typer.Option("--seed", metavar="N,...", help="Of weights, order and masks; one run each.")]
TogetherOption = Annotated[
    bool, typer.Option("--together", help="All at once: sooner done, but their speeds then mean nothing.")
]
ReportOption = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE.html|off", help="Where the report goes; by default into --runs-dir."),
]
LiveOption = Annotated[bool, typer.Option("--live", help="Show the report in a browser while the runs go on.")]
HostOption = Annotated[
    str, typer.Option("--host", help="Where --live listens; others than this machine get an address with a token.")
]
PortOption = Annotated[
    int | None, typer.Option("--port", min=1, max=65535, help="Of --live; 8765, or the next free one, if not given.")
]
LINGER = 10.0  # seconds for browsers to fetch the finished report


def compare(
    context: typer.Context,
    backend: BackendsOption = "torch,mindspore,mxnet",
    arch: ArchsOption = "nin",
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
    seed: SeedsOption = "0",
    device: DeviceOption = None,
    precision: PrecisionsOption = None,
    train_examples: TrainOption = None,
    test_examples: TestOption = None,
    set: SetOption = None,
    tune: TuneOption = "auto",
    tensorboard: TensorboardOption = False,
    python: PythonOption = None,
    together: TogetherOption = False,
    runs_dir: RunsDirOption = Path("runs"),
    report: ReportOption = None,
    verify: VerifyOption = True,
    pictures: PicturesOption = True,
    live: LiveOption = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = None,
    patience: PatienceOption = "600",
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """Train in several frameworks from the same weights, order and masks, one after another; a table and a report."""
    check_tune(tune)
    names, pythons = _backends(backend, python)
    seconds, seeds = patience_seconds(patience), _seeds(seed)
    made = make_recipe({**context.params, "seed": seeds[0]})
    architectures = {name: load_architecture(name, None, allow_large=allow_large) for name in _archs(arch)}
    target = _target(report, runs_dir, architectures)
    if tensorboard and len(pythons) < len(names):
        from nin_multi.training.tensorboard import require

        require()
    from nin_multi.compare.extras import Wishes
    from nin_multi.compare.plan import Plan
    from nin_multi.compare.sides import sides_of

    precisions = [None] if precision is None else split_names(precision, "--precision", "fp32,bf16")
    here = [name for name in names if name not in pythons]
    flags = {"--dataset": dataset, "--data-dir": data_dir, "--device": device, "--runs-dir": runs_dir, "--tune": tune}
    plan = Plan(
        sides_of(names, list(architectures), precisions, seeds, pythons),
        architectures,
        made,
        flags=flags,
        switches=[*large_words(allow_large), *(["--tensorboard"] if tensorboard else [])],
        tunings=tuning_of_each(here, next(iter(architectures.values())), set, device),
        repeat=_repeat(context, made),
    )
    wishes = Wishes(verify, pictures, pythons, data_dir, into_runs=True)
    comparing = _Comparing(plan, seconds, together)
    status, whole, written = comparing.go(target, wishes, (host, port) if live else None)
    if json:
        print_json(json_of(arch, whole, written))
    else:
        print_tables(whole, written)
    return status


class _Comparing:
    """All runs of a comparison under way, and whoever watches them."""

    def __init__(self, plan: Plan, patience: float, together: bool) -> None:
        self._plan, self._patience, self._together = plan, patience, together
        self._board = plan.board()

    def go(
        self, target: Path | None, wishes: Wishes, place: tuple[str, int | None] | None
    ) -> tuple[int, Comparison, list[Path]]:
        """The exit status, the comparison with everything in it, and the files of its report."""
        with ExitStack() as stack:
            page = _live_page(self._plan.comparison(self._board, over=False), *place) if place is not None else None
            if page is not None:
                stack.callback(page.close, LINGER)
                self._board.audience.append(_Relay(page))
            try:
                status = self._train()
            except SystemExit:  # somebody stops us
                if left := self._board.what_is_left():
                    note(left)
                raise
            whole = self._plan.comparison(self._board, over=True)
            written = self._complete(whole, target, wishes, is_shown=page is not None)
            if page is not None:
                page.finish(whole)
        disagrees = whole["verify"] is not None and not whole["verify"]["agree"]
        return max(status, 1 if disagrees else 0), whole, written

    def _train(self) -> int:
        """All runs to their ends; the gravest of their exit statuses."""
        from nin_multi.compare.conductor import conduct
        from nin_multi.compare.screen import choose_screen

        plan = self._plan
        with choose_screen(plan.sides) as screen:
            self._board.audience.append(screen)
            results = conduct(
                plan.sides,
                plan.command,
                self._board,
                epochs=plan.recipe.epochs,
                patience=self._patience,
                together=self._together,
            )
        return max(result.status for result in results)

    def _complete(self, whole: Comparison, target: Path | None, wishes: Wishes, *, is_shown: bool) -> list[Path]:
        from nin_multi.compare.extras import add_extras

        if target is None and not is_shown:
            return []
        add_extras(whole, list(self._plan.architectures.values()), wishes, note)
        if target is None:
            return []
        return write(whole, target if target.suffix else free_name(target.parent, target.name))


class _Relay:
    """Hands what happens on to the page."""

    def __init__(self, page: LivePage) -> None:
        self._page = page

    def note(self, side: Side, text: str) -> None:
        pass

    def change(self, side: Side, fields: Mapping[str, Any]) -> None:
        self._page.change(side.id, fields)

    def point(self, side: Side, event: Mapping[str, Any]) -> None:
        self._page.point(side.id, event)


def _live_page(comparison: Comparison, host: str, port: int | None) -> LivePage:
    from nin_multi.live import LivePage
    from nin_multi.report import render_html

    page = LivePage(render_html, comparison, host=host, port=port)
    page.start()
    note(f"live page {page.address}")
    return page


def _backends(backend: str, words: list[str] | None) -> tuple[list[str], dict[str, str]]:
    """All names, and the Pythons of those in other environments: only the rest has to be known here."""
    from nin_multi import registry

    names = split_names(backend)
    pythons = parse_pythons(words, names)
    for name in names:
        if name not in pythons:
            registry.load(name)
    return names, pythons


def _archs(text: str) -> list[str]:
    """Names between commas; a file whose name has a comma is one."""
    return [text] if Path(text).is_file() else split_names(text, "--arch", "nin,alexnet")


def _seeds(text: str) -> list[int]:
    """Raises UsageError."""
    from nin_multi.errors import UsageError

    seeds = [int(word) if word.isdecimal() else -1 for word in split_names(text, "--seed", "0,1,2")]
    if not all(0 <= seed < 2**63 for seed in seeds):
        raise UsageError(f"--seed: expected whole numbers from 0 to 2^63 - 1, such as 0,1,2; got {text!r}")
    return seeds


def _target(report: str | None, runs_dir: Path, architectures: dict[str, Architecture]) -> Path | None:
    """Where the report goes: a file that was named; without suffix, a stem whose free name is chosen at the end."""
    if report == "off":
        return None
    if report is not None:
        return check_target(Path(report))
    names = "-".join(dict.fromkeys(found.name for found in architectures.values()))
    return runs_dir / f"{datetime.date.today().isoformat()}-compare-{names}".replace(".", "_")


def _repeat(context: typer.Context, made: Recipe) -> str:
    """The command that does the same: what was given on the command line, but for where things lie here."""
    import shlex

    given = dict.fromkeys(("backend", "arch", "dataset", "precision", "device", "seed"))
    words = []
    for name in given:
        source = context.get_parameter_source(name)
        if name in ("backend", "arch", "seed") or (source is not None and source.name == "COMMANDLINE"):
            words += [f"--{name}", str(context.params[name])]
    from nin_multi.compare.plan import recipe_words

    told = iter(recipe_words(made))
    pairs = [(flag, value) for flag, value in zip(told, told, strict=True) if flag != "--seed"]
    return shlex.join(["nin_multi", "compare", *words, *(word for pair in pairs for word in pair)])
