"""`report`: runs that are already there, side by side in one file that opens in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import DataDirOption, JsonOption, note, print_json
from nin_multi.cli.report_options import (
    PicturesOption,
    PythonOption,
    VerifyOption,
    check_target,
    free_name,
    parse_pythons,
    write,
)

if TYPE_CHECKING:
    from nin_multi.compare.comparison import Comparison, Run
    from nin_multi.spec import Architecture

RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE.html",
        help="The report, .md and .csv beside it; report.html if not given, or a free name.",
    ),
]


def report(
    runs: RunsArgument,
    out: OutOption = None,
    data_dir: DataDirOption = None,
    python: PythonOption = None,
    verify: VerifyOption = True,
    pictures: PicturesOption = True,
    json: JsonOption = False,
) -> int:
    """Runs side by side: curves, figures, agreement, classes, code, in one file; as Markdown and CSV beside it."""
    from nin_multi.compare.extras import Wishes, add_extras

    target = check_target(out) if out is not None else free_name(Path(), "report")
    comparison, architectures = _read(list({path.resolve(): path for path in runs}.values()))
    pythons = parse_pythons(python, [run["backend"] for run in comparison["runs"]])
    for run in comparison["runs"]:
        if run["status"] == "running":
            note(f"{run['run_dir']}: this run is still going; the report shows it as it stands now")
    for difference in comparison["differences"]:
        note(difference)
    if not comparison["comparable"]:
        note("These runs are not comparable; the report says so at its top.")
    add_extras(comparison, architectures, Wishes(verify, pictures, pythons, data_dir), note)
    written = [str(path) for path in write(comparison, target)]
    if json:
        told = {key: comparison[key] for key in ("title", "comparable", "differences", "verify")}
        print_json({**told, "runs": [_told(run) for run in comparison["runs"]], "report": written})
    else:
        print("\n".join(written))
    return 0 if comparison["verify"] is None or comparison["verify"]["agree"] else 1


def _read(paths: list[Path]) -> tuple[Comparison, list[Architecture]]:
    """All runs as their files tell them. Raises RunError where one is none, or is damaged."""
    from nin_multi.compare.comparison import make_comparison
    from nin_multi.compare.sides import ids_of, labels_of
    from nin_multi.compare.stored import stored_run

    read = [stored_run(path) for path in paths]
    runs: list[Run] = [run for run, _ in read]
    labels = labels_of(runs)
    for run, label, identity in zip(runs, labels, ids_of(labels), strict=True):
        run |= {"label": label, "id": identity}
    architectures = list({story.architecture: None for _, story in read})
    repeat = list(dict.fromkeys(_command(run) for run in runs))
    return make_comparison(runs, architectures, read[0][1].names, repeat), architectures


def _command(run: Run) -> str:
    """What trains it once more."""
    import shlex

    from nin_multi.compare.plan import recipe_words
    from nin_multi.training.recipe import Recipe

    words = ["--backend", run["backend"], "--arch", run["arch"], "--precision", run["precision"]]
    words += ["--dataset", run["dataset"]["name"], *recipe_words(Recipe.from_dict(run["recipe"]))]
    return shlex.join(["nin_multi", "train", *words])


def _told(run: Run) -> dict[str, Any]:
    return {key: run[key] for key in ("label", "backend", "arch", "seed", "status", "reason", "run_dir", "result")}
