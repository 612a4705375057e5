"""What `compare` prints at its end: tables for people, or its JSON."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nin_multi.cli.common import console, table

if TYPE_CHECKING:
    from nin_multi.compare.comparison import Comparison, Run


def json_of(arch: str, whole: Comparison, written: list[Path]) -> dict[str, Any]:
    """The command's JSON: each run as `train --json` has it, or why there is none."""
    runs = [_told(run) for run in whole["runs"]]
    told = {key: whole[key] for key in ("comparable", "differences", "verify")}
    labels = [run["label"] for run in whole["runs"]]
    return {"arch": arch, "runs": runs, "labels": labels, **told, "report": [str(path) for path in written]}


def _told(run: Run) -> dict[str, Any]:
    if run["result"] and run["status"] != "failed":
        return {**run["result"], "reason": run["reason"]} if run["reason"] else dict(run["result"])
    return {key: run[key] for key in ("backend", "status", "reason", "run_dir")}


def print_tables(whole: Comparison, written: list[Path]) -> None:
    """How each run ended, what it cost, and what the figures mean."""
    runs = whole["runs"]
    done = [run for run in runs if run["result"]]
    headings = ("loss", "train acc", "test acc", "images/s", "compute", "memory")
    grid = table(_title(whole, done), "framework", right=headings)
    for run in runs:
        grid.add_row(*_cells(run))
    console().print(grid)
    for run in runs:
        _print_end(run)
    if done:
        console().print("images/s counts data preparation, compute does not; memory is a process's peak.")
        _print_costs(whole, done)
    for difference in whole["differences"]:
        _print_wrapped(difference, "red" if not whole["comparable"] else "")
    if len(done) > 1:
        _print_wrapped(
            f"All began with the same {_what_is_shared(done)}. Training amplifies the roundings in which frameworks "
            f"differ; `nin_multi verify --arch {done[0]['arch']}` shows whether the nets are the same.",
            "",
        )
    if written:
        console().print(f"report: {written[0]}", soft_wrap=True)


def _title(whole: Comparison, done: list[Run]) -> str:
    archs = ", ".join(found["name"] for found in whole["architectures"])
    if not done:
        return archs
    result = done[0]["result"]
    source = "synthetic images" if result["synthetic"] else result["dataset"]
    start = "one start for all" if len({run["seed"] for run in done}) == 1 else "one start for each seed"
    return f"{archs} on {result['train_examples']:,} {source}, {_epochs(result['epochs'])}, {start}"


def _print_costs(whole: Comparison, done: list[Run]) -> None:
    """What a run takes before it trains, how far its net is from the oracle, and how much code the adapter is."""
    verified = (whole["verify"] or {}).get("backends", {})
    headings = ("start-up", "first step", "logits off by", "gradients", "adapter")
    grid = table("", "", right=headings)
    for run in done:
        found = verified.get(run["backend"], {})
        times = (run["result"].get(key) for key in ("startup_seconds", "first_step_seconds"))
        errors = (found.get(key) for key in ("logits_rel_err", "grad_rel_err"))
        grid.add_row(
            run["label"],
            *("-" if seconds is None else f"{seconds:.1f} s" for seconds in times),
            *("-" if error is None else f"{error:.0e}" for error in errors),
            "-" if run["adapter_lines"] is None else f"{run['adapter_lines']} lines",
        )
    console().print(grid)
    if verified:
        words = "agree with" if whole["verify"]["agree"] else "DISAGREE with"
        console().print(f"Before training, the nets {words} the float64 oracle, by the errors above.")


def _print_end(run: Run) -> None:
    """Why a run is not done, whole, and how to go on with it: below the table, whose cells are too narrow."""
    if run["status"] == "done" or not run["reason"]:
        return
    _print_wrapped(f"{run['label']} {run['status']}: {run['reason'].removeprefix(run['backend'] + ': ')}", "red")
    if run["to_go_on"]:
        console().print(f"  to go on: {run['to_go_on']}", soft_wrap=True)  # on one line, to be copied


def _print_wrapped(text: str, style: str) -> None:
    for line in text.splitlines():
        lines = textwrap.wrap(line, console().width, subsequent_indent="    ", break_on_hyphens=False)
        console().print("\n".join(lines), style=style)


def _what_is_shared(done: list[Run]) -> str:
    masks = " and dropout masks" if done[0]["result"]["dropout"] == "shared" else ""
    return f"weights, images, order{masks}"


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _cells(run: Run) -> list[str]:
    result = run["result"]
    if not result:
        return [run["label"], run["status"]]
    values = ["-" if result[key] is None else f"{result[key]:.3f}" for key in ("loss", "train_acc", "test_acc")]
    speeds = [f"{result[key]:.1f}" for key in ("examples_per_sec", "compute_examples_per_sec")]
    name = run["label"].replace(run["backend"], f"{run['backend']} {result['framework_version']}", 1)
    return [name, *values, *speeds, f"{result['peak_memory_bytes'] / 1e9:.2f} GB"]
