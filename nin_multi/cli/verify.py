"""`verify`: every number a framework computes, against the float64 oracle; says where the first one is off, and why."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    BackendsOption,
    InputOption,
    JsonOption,
    console,
    load_architecture,
    named_backends,
    note,
    one_backend,
    print_json,
    show_shape,
    table,
)
from nin_multi.cli.train import DeviceOption, PrecisionOption, SeedOption

if TYPE_CHECKING:
    from nin_multi.checks import Problem, Truth
    from nin_multi.spec import Architecture

BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Random images in the batch.")]
StepsOption = Annotated[int, typer.Option("--steps", min=0, help="Of training, at the end of the checks.")]
LayersOption = Annotated[bool, typer.Option("--layers", help="One row per layer and per gradient as well.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Stored weights in place of random ones that decide clearly."),
]
# The oracle's answers, handed from the command to the process of each backend.
TruthOption = Annotated[Path | None, typer.Option("--truth", hidden=True)]

ROWS = {
    "activation": "activations, the furthest",
    "logits": "logits",
    "loss": "loss",
    "grad": "gradients, the furthest",
    "step": "parameters after a step",
    "momentum": "after two with momentum",
    "curve": "loss of {steps} steps",
}


def verify(
    arch: ArchOption = "nin",
    backend: BackendsOption = None,
    input: InputOption = None,
    batch_size: BatchOption = 8,
    steps: StepsOption = 20,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    layers: LayersOption = False,
    json: JsonOption = False,
    truth: TruthOption = None,
) -> int:
    """Activations, loss, gradients, steps: how far is each framework from the float64 oracle, and where first?"""
    architecture = _architecture(arch, input, weights)
    names = named_backends(backend) if backend is not None else None
    if names is not None and len(names) == 1:
        loaded = one_backend(names[0])
        chosen = {"device": device or loaded.devices()[0], "precision": precision or loaded.precisions[0]}
        from nin_multi import checks
        from nin_multi.backend import check_request

        check_request(loaded, **chosen)
        problem, answers = _ask_oracle(architecture, batch_size, steps, seed, weights, truth)
        reports = {names[0]: checks.verify(loaded, problem, answers, **chosen).as_dict()}
    else:
        problem, answers = _ask_oracle(architecture, batch_size, steps, seed, weights, None)
        flags = {"--device": device, "--precision": precision, "--arch": arch, "--input": input}
        reports = _verify_each(problem, answers, names, flags)
    found = {
        "arch": architecture.name,
        "input": [batch_size, *architecture.input],
        "seed": seed,
        "precision": next(iter(reports.values()), {"precision": precision})["precision"],
        "nearest_decision": problem.margin if problem.margin < 1e300 else None,
        "steps": len(answers.curve),
        "backends": reports,
        "agree": all(report["agree"] for report in reports.values()),
    }
    if json:
        print_json(found)
    else:
        _print(found, problem, layers)
    return 0 if found["agree"] else 1


def _architecture(arch: str, size: str | None, weights: Path | None) -> Architecture:
    if weights is None:
        return load_architecture(arch, size)
    from nin_multi.weights import load_weights

    return load_weights(weights).architecture


def _ask_oracle(
    architecture: Architecture, batch: int, steps: int, seed: int, weights: Path | None, stored: Path | None
) -> tuple[Problem, Truth]:
    from nin_multi import checks
    from nin_multi.checks.truth import load

    if stored is not None:
        return load(stored)
    if weights is None:
        note(f"{architecture.name}: drawing weights whose every decision is clear, for {batch} images")
        problem = checks.clear_problem(architecture, batch, seed)
    else:
        from nin_multi.weights import load_weights

        problem = checks.stored_problem(architecture, load_weights(weights).params, batch, seed)
    note(f"{architecture.name}: asking the oracle (float64), {steps} training steps at the end")
    return problem, checks.find_truth(problem, steps)


def _verify_each(
    problem: Problem, truth: Truth, names: list[str] | None, flags: dict[str, str | None]
) -> dict[str, dict[str, Any]]:
    """One process each, with the oracle's answers in a folder."""
    from nin_multi import launcher, registry
    from nin_multi.checks.truth import save
    from nin_multi.errors import raise_again

    reports: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="nin_multi-") as folder:
        save(Path(folder), problem, truth)
        arguments = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
        for name in names if names is not None else registry.available():
            note(f"{problem.architecture.name}: {name}")
            command = ["verify", "--backend", name, *arguments, "--truth", folder]
            result = launcher.Child(name, command).result()
            if result.answer is not None and "backends" in result.answer:
                reports |= result.answer["backends"]
            elif names is not None:
                raise_again(result.answer, result.failure())
            else:
                note(f"left out: {result.failure()}")
    return reports


def _print(found: dict[str, Any], problem: Problem, layers: bool) -> None:
    reports = found["backends"]
    title = f"{found['arch']}, input {show_shape(found['input'])}, {found['precision']} against the float64 oracle"
    grid = table(title, "relative error of", right=("allowed", *reports))
    for key, words in ROWS.items():
        field = f"{key}_rel_err"
        if any(field in report for report in reports.values()):
            allowed = {report["tolerances"]["gradient" if key == "grad" else key] for report in reports.values()}
            cells = [_cell(report, field) for report in reports.values()]
            grid.add_row(words.format(steps=found["steps"]), f"{max(allowed):.0e}", *cells)
    for rate in dict.fromkeys(rate for report in reports.values() for rate in report["native_dropout"]):
        shares = [f"{report['native_dropout'].get(rate, float('nan')):.3f}" for report in reports.values()]
        grid.add_row("share dropped by its own dropout", rate, *shares)
    console().print(grid)
    if layers:
        _print_rows("layer", "layers", reports)
        _print_rows("gradient", "gradients", reports)
    for name, report in reports.items():
        for finding in report["divergences"]:
            _print_finding(name, finding)
    if not problem.is_clear:
        console().print(
            f"A ReLU or a max pool is within {problem.margin:.0e} of deciding otherwise: float32 may do so rightly, "
            "and a gradient may then be off by 1e-3."
        )
    if reports:
        verdict = "All values agree" if found["agree"] else "The values DISAGREE"
        console().print(f"{verdict}: float64 oracle, {', '.join(reports)}.")


def _print_rows(heading: str, key: str, reports: dict[str, Any]) -> None:
    grid = table("", heading, right=tuple(reports))
    for name in dict.fromkeys(name for report in reports.values() for name in report[key]):
        grid.add_row(name, *(_number(report[key].get(name)) for report in reports.values()))
    console().print(grid)


def _cell(report: dict[str, Any], field: str) -> str:
    return _number(report.get(field))


def _number(error: float | None) -> str:
    return "-" if error is None else f"{error:.1e}"


def _print_finding(backend: str, finding: dict[str, Any]) -> None:
    console().print(
        f"{backend} diverges: {finding['check']}, {finding['where']}"
        + (f", error {finding['error']:.1e}" if finding["error"] is not None else "")
        + (f" (allowed {finding['allowed']:.0e})" if finding["allowed"] else ""),
        style="red",
    )
    console().print(f"  expected  {finding['expected']}\n  observed  {finding['observed']}")
    for cause in finding["causes"]:
        console().print(f"  this would explain it: {cause}")
