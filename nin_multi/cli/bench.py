"""`bench`: training throughput of one or all backends, against their own loops, the book and the machine's peak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    console,
    load_architecture,
    named_backends,
    note,
    print_json,
    table,
)
from nin_multi.cli.train import DeviceOption
from nin_multi.set_by_hand import tuning_of_each

if TYPE_CHECKING:
    from nin_multi.bench.job import Job

BackendsOption = Annotated[str, typer.Option("--backend", metavar="A,B,...", help="Backends to measure.")]
WhatOption = Annotated[
    str,
    typer.Option(
        "--what",
        metavar="A,B,...",
        help="harness: end to end; step: our step alone; bare: the framework's own loop; data: its preparation.",
    ),
]
VsOption = Annotated[
    str | None, typer.Option("--vs", metavar="d2l", help="Also the book's own code, as a reader of it has it.")
]
PrecisionsOption = Annotated[
    str | None, typer.Option("--precision", metavar="A,B,...", help="Such as fp32,bf16; each backend's default.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Steps per round; the book's are at least 5.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Counted rounds, after one that is not.")]
WarmUpOption = Annotated[
    int | None, typer.Option("--warm-up", min=0, help="Steps before the first round; as many as each needs.")
]
TuneOption = Annotated[
    str, typer.Option("--tune", metavar="auto|off", help="Knobs as stored for this machine, or as by default.")
]
LayersOption = Annotated[bool, typer.Option("--per-layer", help="Also how long each layer takes, both ways.")]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE.svg", help="Draw this session, and earlier ones like it.")
]
HistoryOption = Annotated[
    Path | None, typer.Option("--history", metavar="FILE", help="Where sessions are kept; else the user's data folder.")
]
NoHistoryOption = Annotated[bool, typer.Option("--no-history", help="Neither keep this session nor look at others.")]

FEW = 16  # test images for the book, whose evaluation is not measured
BOOK_STEPS = 5  # `train_ch6` divides by a fifth of them
ImagesOption = Annotated[int, typer.Option("--batch-size", help="Images per step.")]


def bench(
    backend: BackendsOption = "torch,mindspore,mxnet",
    arch: ArchOption = "nin",
    what: WhatOption = "harness,step,bare",
    vs: VsOption = None,
    precision: PrecisionsOption = None,
    batch_size: ImagesOption = 128,
    steps: StepsOption = 3,
    rounds: RoundsOption = 5,
    warm_up: WarmUpOption = None,
    per_layer: LayersOption = False,
    set: SetOption = None,
    tune: TuneOption = "auto",
    dataset: DatasetOption = "auto",
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    picture: PictureOption = None,
    history: HistoryOption = None,
    no_history: NoHistoryOption = False,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """Training images per second over wall-clock time, in rounds that alternate between all that is measured."""
    # What can be wrong without a framework is found out before one is started.
    whats, precisions = _whats(what, vs, tune, batch_size), _split("--precision", precision) if precision else []
    names = named_backends(backend)
    architecture = load_architecture(arch, None, allow_large=allow_large)
    cases, left_out = _cases(names, precisions)
    kept = _history_file(history, no_history)
    _check_picture(picture)
    from nin_multi.bench.session import Plan, measure

    tunings = tuning_of_each(names, architecture, set, device) if _trains(whats) else {}
    with _files(dataset, data_dir, batch_size, steps, vs is not None) as (files, counts):
        common: dict[str, Any] = {"architecture": architecture, "batch_size": batch_size}
        common |= {"files": files, "counts": counts, "device": device}
        jobs = _jobs(cases, whats, vs is not None, tunings, tune, common)
        plan = Plan(steps, rounds, warm_up, per_layer)
        found = measure(jobs, plan, note)
    found["left_out"] = left_out
    _keep(found, kept, picture)
    if json:
        print_json(found)
    else:
        _print(found)
    return 0


def _split(flag: str, text: str) -> list[str]:
    """Words between commas, each once. Raises UsageError where there is none."""
    from nin_multi.errors import UsageError

    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise UsageError(f"{flag}: expected one or more words with commas between")
    return words


def _whats(what: str, vs: str | None, tune: str, batch_size: int) -> list[str]:
    from nin_multi.bench import WHATS
    from nin_multi.errors import UsageError

    whats = _split("--what", what)
    if unknown := [word for word in whats if word not in WHATS]:
        raise UsageError(f"--what: expected some of {', '.join(WHATS)}; got {unknown[0]!r}")
    if vs not in (None, "d2l"):
        raise UsageError(f"--vs: expected d2l, got {vs!r}")
    if tune not in ("auto", "off"):
        raise UsageError(f"--tune: expected auto or off, got {tune!r}; `train --tune now` measures")
    if batch_size < 1:
        raise UsageError(f"--batch-size: expected at least 1, got {batch_size}")
    return whats


def _trains(whats: Sequence[str]) -> list[str]:
    return [what for what in whats if what != "data"]


def _cases(names: Sequence[str], precisions: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[dict[str, str]]]:
    """Each backend with its precisions, and those that it does not offer. One has to be left, and nobody's is wrong."""
    from nin_multi import registry
    from nin_multi.errors import BackendUnavailable

    cases: list[tuple[str, list[str]]] = []
    left_out: list[dict[str, str]] = []
    offered = {name: registry.load(name).precisions for name in names}
    for name, there in offered.items():
        wanted = list(precisions) or [there[0]]
        missing = [word for word in wanted if word not in there]
        reason = f"{name}: no precision {missing[0]!r} here; it offers {', '.join(there)}" if missing else ""
        if len(missing) == len(wanted) or any(all(word not in of for of in offered.values()) for word in missing):
            raise BackendUnavailable(reason)
        for word in missing:
            note(f"{name}: left out in {word}, it offers {', '.join(there)}")
            left_out.append({"backend": name, "precision": word, "reason": reason})
        cases.append((name, [word for word in wanted if word in there]))
    return cases, left_out


def _jobs(
    cases: Sequence[tuple[str, list[str]]],
    whats: Sequence[str],
    vs_book: bool,
    tunings: dict[str, dict[str, str]],
    tune: str,
    common: dict[str, Any],
) -> list[Job]:
    """One for each backend and precision, one for the book's code of each backend, one for data.

    A bare loop that needs another environment than the harness has a process of its own.
    """
    from nin_multi import registry
    from nin_multi.bench import BOOK, DATA
    from nin_multi.bench.job import Job

    jobs: list[Job] = []
    for name, precisions in cases:
        alone = registry.load(name).bare_tuning if "bare" in whats else {}
        together = tuple(what for what in _trains(whats) if not (alone and what == "bare"))
        for word in precisions:
            if together:
                jobs.append(Job(name, word, together, **common, tuning=tunings[name], tune=tune))
            if alone:
                jobs.append(Job(name, word, ("bare",), **common, tuning={**tunings[name], **alone}))
        if vs_book:
            jobs.append(Job(name, "fp32", (BOOK,), **common))
    if DATA in whats:
        jobs.append(Job("numpy", "fp32", (DATA,), **{**common, "device": "cpu"}))
    return jobs


@contextmanager
def _files(
    dataset: str, data_dir: Path | None, batch_size: int, steps: int, vs_book: bool
) -> Iterator[tuple[Path, tuple[int, int]]]:
    """A folder with as many images as a round takes, and how many those are."""
    from nin_multi.bench.job import files_of
    from nin_multi.data import load_dataset
    from nin_multi.data.batches import steps_per_epoch
    from nin_multi.errors import UsageError

    data = load_dataset(dataset, data_dir, report=note)
    needed = batch_size * (max(steps, BOOK_STEPS) if vs_book else steps)
    some = data.head(min(needed, len(data.train)), min(FEW, len(data.test)))
    if vs_book and steps_per_epoch(len(some.train), batch_size) < BOOK_STEPS:
        raise UsageError(f"--batch-size: the book needs {BOOK_STEPS} steps, and there are {len(data.train):,} images")
    with files_of(some) as folder:
        yield folder, (len(some.train), len(some.test))


def _history_file(history: Path | None, no_history: bool) -> Path | None:
    from nin_multi.bench.history import check_writable, default_file
    from nin_multi.errors import RunError, UsageError

    if no_history:
        if history is not None:
            raise UsageError("--no-history: does not go with --history")
        return None
    try:
        check_writable(history or default_file())
    except RunError as error:
        if history is not None:
            raise
        note(f"this session will not be kept: {error}")  # nobody asked for it
        return None
    return history or default_file()


def _check_picture(picture: Path | None) -> None:
    from nin_multi.errors import UsageError

    if picture is None:
        return
    if picture.suffix != ".svg":
        raise UsageError(f"--picture: expected a name that ends in .svg, got {picture}")
    if not picture.absolute().parent.is_dir():
        raise UsageError(f"--picture: there is no folder {picture.absolute().parent}")


def _keep(found: dict[str, Any], kept: Path | None, picture: Path | None) -> None:
    """Into the history, and into a picture; what was measured is shown even where neither can be written."""
    from nin_multi.bench import history
    from nin_multi.errors import RunError
    from nin_multi.files import write_bytes

    before = history.comparable(history.read(kept), found) if kept and picture else []
    try:
        if kept:
            history.append(kept, found)
        if picture:
            from nin_multi.bench.picture import draw

            write_bytes(picture, draw(found, before))
    except RunError as error:
        note(f"error: {error}")


def _print(found: dict[str, Any]) -> None:
    rows = found["rows"]
    title = f"{rows[0]['arch']}, batch {max(row['batch_size'] for row in rows)}, training images per second"
    grid = table(title, "framework", "kind", "what", right=("images/s", "spread", "of peak", "x book"))
    for row in rows:
        share, times = row["peak_share"], row["times_the_book"]
        figures = [f"{row['examples_per_sec']:.1f}", f"{row['spread']:.0%}"]
        figures += ["" if share is None else f"{share:.0%}", "" if times is None else f"{times:.1f}"]
        grid.add_row(f"{row['backend']} {row['framework_version']}", row["precision"], row["what"], *figures)
    console().print(grid)
    _print_notes(found)
    for backend, precision in dict.fromkeys((layer["backend"], layer["precision"]) for layer in found["layers"]):
        _print_layers(found, backend, precision)


def _print_notes(found: dict[str, Any]) -> None:
    """What the figures are to be read with."""
    here = found["machine"]
    peaks = ", ".join(f"{peak:.0f} GFLOP/s in {precision}" for precision, peak in here["matmul_gflops"].items())
    instructions = ", ".join(here["instruction_sets"]) or "no telling instruction set"
    lines = [
        f"{here['processor']}, {here['threads']} threads, {instructions}",
        f"matrix peak {peaks}; {found['training_flop_per_image'] / 1e9:.3f} GFLOP per image",
    ]
    said = [f"{row['backend']} {row['book_says']:.1f}" for row in found["rows"] if "book_says" in row]
    if said:
        lines.append(f"the book's own timer, which leaves data out, says {', '.join(said)}")
    few = [row for row in found["rows"] if row["what"] == "book" and row["batch_size"] < found["rows"][0]["batch_size"]]
    lines += [f"{row['backend']} as its users write it: {row['batch_size']} images a step" for row in few]
    tuned: dict[str, list[str]] = {}
    for row in found["rows"]:
        knobs = ", ".join(f"{knob}={value}" for knob, value in row["tuning"].items())
        tuned.setdefault(f"{row['backend']} {row['precision']}: {knobs}", []).append(row["what"])
    lines += [f"{knobs} ({', '.join(whats)})" for knobs, whats in tuned.items() if not knobs.endswith(": ")]
    for line in lines:
        console().print(line)


def _print_layers(found: dict[str, Any], backend: str, precision: str) -> None:
    """Where the time goes, and whether the layers alone add up to the step."""
    mine = {"backend": backend, "precision": precision}
    layers = [layer for layer in found["layers"] if mine.items() <= layer.items()]
    grid = table(f"{backend} {precision}, ms a batch", "layer", right=("forward", "backward", "GFLOP/s", "of peak"))
    for layer in layers:
        reached, share = layer["gflops"], layer["peak_share"]
        figures = ("" if reached is None else f"{reached:.0f}", "" if share is None else f"{share:.0%}")
        grid.add_row(layer["layer"], f"{layer['forward_ms']:.2f}", f"{layer['backward_ms']:.2f}", *figures)
    forward, backward = (sum(layer[way] for layer in layers) for way in ("forward_ms", "backward_ms"))
    grid.add_row("all layers", f"{forward:.2f}", f"{backward:.2f}", "", "")
    console().print(grid)
    for row in found["rows"]:
        if mine.items() <= row.items() and row["what"] == "step":
            whole = 1e3 * row["batch_size"] / row["examples_per_sec"]
            console().print(f"layers one by one {forward + backward:.1f} ms, a whole step {whole:.1f} ms")
