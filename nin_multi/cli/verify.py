"""`verify`: every number a framework computes, against the float64 oracle; says where the first one is off, and why."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    BackendsOption,
    InputOption,
    JsonOption,
    LargeOption,
    SetOption,
    console,
    load_architecture,
    named_backends,
    note,
    one_backend,
    print_json,
    show_shape,
    table,
)
from nin_multi.cli.recipe_options import SeedOption
from nin_multi.cli.train import DeviceOption, PrecisionOption
from nin_multi.set_by_hand import parse_tuning, set_words, tuning_of_each

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text

    from nin_multi.backend import Params
    from nin_multi.checks import Problem, Truth
    from nin_multi.spec import Architecture

BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Random images in the batch.")]
StepsOption = Annotated[int, typer.Option("--steps", min=0, help="Of training, at the end of the checks.")]
LayersOption = Annotated[bool, typer.Option("--layers", help="One row per layer and per gradient as well.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Stored weights, and their architecture, in place of random ones."),
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
    set: SetOption = None,
    layers: LayersOption = False,
    allow_large: LargeOption = False,
    json: JsonOption = False,
    truth: TruthOption = None,
) -> int:
    """Activations, loss, gradients, steps: how far is each framework from the float64 oracle, and where first?"""
    _check_seed(seed)
    architecture = _architecture(arch, input, weights, allow_large)
    names = named_backends(backend) if backend is not None else None
    if names is not None and len(names) == 1:
        tuning = parse_tuning(set)
        loaded = one_backend(names[0], precision, tuning)
        chosen = {"device": device or loaded.devices()[0], "precision": precision or loaded.precisions[0]}
        from nin_multi import checks
        from nin_multi.backend import check_request
        from nin_multi.checks.truth import load
        from nin_multi.knobs import complete_tuning

        check_request(loaded, **chosen)
        if not truth:  # before the oracle is asked, which takes longer than all else
            complete_tuning(loaded.knobs(architecture, **chosen), tuning)
        problem, answers = load(truth) if truth else _ask_oracle(architecture, batch_size, steps, seed, weights)
        reports = {names[0]: checks.verify(loaded, problem, answers, **chosen, tuning=tuning).as_dict()}
    else:
        from nin_multi import registry

        tunings = tuning_of_each(names or registry.available(), architecture, set, device)
        problem, answers = _ask_oracle(architecture, batch_size, steps, seed, weights)
        reports = _verify_each(problem, answers, names, {"--device": device, "--precision": precision}, tunings)
    found = {
        "arch": problem.architecture.name,
        "input": list(problem.x.shape),
        "seed": problem.seed,
        "precision": next(iter(reports.values()))["precision"],
        "nearest_decision": problem.margin if problem.margin < 1e300 else None,
        "steps": len(answers.curve),
        "backends": reports,
        "agree": all(report["agree"] for report in reports.values()),
    }
    if json:
        print_json(found)
    else:
        _print(found, problem, layers, weights is not None)
    return 0 if found["agree"] else 1


def _check_seed(seed: int) -> None:
    from nin_multi.errors import UsageError

    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed: expected 0 to 2^63 - 1, got {seed}")


def _architecture(arch: str, size: str | None, weights: Path | None, allow_large: bool) -> Architecture:
    if weights is None:
        return load_architecture(arch, size, allow_large=allow_large)
    from nin_multi.errors import UsageError
    from nin_multi.weights import load_weights

    if size is not None:
        raise UsageError(f"--input: {weights} holds an architecture with an input of its own; leave one of the two out")
    return load_weights(weights, allow_large=allow_large).architecture


def _ask_oracle(
    architecture: Architecture, batch: int, steps: int, seed: int, weights: Path | None
) -> tuple[Problem, Truth]:
    from nin_multi import checks

    if weights is None:
        note(f"{architecture.name}: drawing weights whose every decision is clear, for {batch} images")
        problem = checks.clear_problem(architecture, batch, seed)
    else:
        problem = checks.stored_problem(architecture, _numbers_of(weights), batch, seed)
    note(f"{architecture.name}: asking the oracle (float64), {steps} training steps at the end")
    return problem, checks.find_truth(problem, steps)


def _numbers_of(weights: Path) -> Params:
    """Stored parameters. Raises CheckpointError where one is no number: then none of the oracle's answers is."""
    import numpy as np

    from nin_multi.errors import CheckpointError
    from nin_multi.weights import load_weights

    params = load_weights(weights).params
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise CheckpointError(f"{weights}: {name} holds infinities or NaN; there is nothing to compare with")
    return params


def _verify_each(
    problem: Problem,
    truth: Truth,
    names: list[str] | None,
    flags: dict[str, str | None],
    tunings: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, Any]]:
    """One process each."""
    from nin_multi import registry
    from nin_multi.compare.agreement import verify_each
    from nin_multi.errors import BackendUnavailable, raise_again

    reports: dict[str, dict[str, Any]] = {}
    arguments = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    asked_of = names if names is not None else registry.available()
    for result in verify_each(problem, truth, asked_of, lambda name: [*arguments, *set_words(tunings[name])], note):
        if result.answer is not None and "backends" in result.answer:
            reports |= result.answer["backends"]
        elif names is not None:
            raise_again(result.answer, result.failure())
        else:
            note(f"left out: {result.failure()}")
    if not reports:
        asked = " and ".join(f"{flag} {value}" for flag, value in flags.items() if value is not None)
        raise BackendUnavailable(f"no backend can start here{f' with {asked}' if asked else ''}; nothing was compared")
    return reports


def _print(found: dict[str, Any], problem: Problem, layers: bool, is_stored: bool) -> None:
    reports = found["backends"]
    size, precisions = show_shape(found["input"]), dict.fromkeys(report["precision"] for report in reports.values())
    # Before the table and not as its title, which would be broken where the table is narrower.
    console().print(f"{found['arch']}, input {size}, {' and '.join(precisions)} against the float64 oracle")
    grid = table("", "relative error of", right=("allowed", *reports))
    for key, words in ROWS.items():
        field, check = f"{key}_rel_err", "gradient" if key == "grad" else key
        if any(field in report for report in reports.values()):
            allowed = max(report["tolerances"][check] for report in reports.values())
            cells = (_cell(report, _was_asked(report, key), report.get(field), check) for report in reports.values())
            grid.add_row(words.format(steps=found["steps"]), f"{allowed:.0e}", *cells)
    for rate in dict.fromkeys(rate for report in reports.values() for rate in report["native_dropout"]):
        shares = (report["native_dropout"].get(rate) for report in reports.values())
        shown = ("-" if share is None else f"{share:.3f}" for share in shares)
        grid.add_row(f"its own dropout at {rate} drops", "", *shown)
    console().print(grid)
    if layers:
        _print_rows("layer", "layers", "activation", reports)
        _print_rows("gradient", "gradients", "gradient", reports)
    for name, report in reports.items():
        for index, finding in enumerate(_joined(report["divergences"])):
            _print_finding(f"{name} diverges" if index == 0 else f"{name}, after that", finding)
    if not problem.is_clear:
        console().print(
            f"A ReLU or a max pool is within {problem.margin:.0e} of deciding otherwise: float32 may do so rightly, "
            "and a gradient may then be off by 1e-3."
        )
    elif is_stored:
        console().print(f"The nearest decision of a ReLU or a max pool is {problem.margin:.0e} from being another.")
    verdict = "All values agree" if found["agree"] else "The values DISAGREE"
    console().print(f"{verdict}: float64 oracle, {', '.join(reports)}.")


def _joined(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checks that found the same thing (a net that raises does so in all of them) told as one."""
    told: dict[tuple[str, str, str], dict[str, Any]] = {}
    for finding in findings:
        same = told.get(key := (finding["where"], finding["expected"], finding["observed"]))
        told[key] = finding if same is None else {**same, "check": f"{same['check']}, {finding['check']}"}
    return list(told.values())


def _print_rows(heading: str, key: str, check: str, reports: dict[str, Any]) -> None:
    rows = dict.fromkeys(name for report in reports.values() for name in report[key])
    if not rows:  # a net without parameters has no gradients
        return
    grid = table("", heading, right=tuple(reports))
    for name in rows:
        grid.add_row(
            name, *(_cell(report, name in report[key], report[key].get(name), check) for report in reports.values())
        )
    console().print(grid)


def _was_asked(report: dict[str, Any], key: str) -> bool:
    """Whether a backend came as far as this; its gradients have a field in any case."""
    field = f"{key}_rel_err"
    return field in report and (key != "grad" or bool(report["gradients"]) or report[field] is not None)


def _cell(report: dict[str, Any], asked: bool, error: float | None, check: str) -> Text:
    """An error; red where it is too large. JSON has no infinity: None is one, unless it was not `asked` for."""
    from rich.text import Text

    if not asked:
        return Text("-")
    if error is None:
        return Text("inf", style="red")
    return Text(f"{error:.1e}", style="red" if error > report["tolerances"][check] else "")


def _print_finding(what: str, finding: dict[str, Any]) -> None:
    console().print(
        f"{what}: {finding['check']}, {finding['where']}"
        + (f", error {finding['error']:.1e}" if finding["error"] is not None else "")
        + (f" (allowed {finding['allowed']:.0e})" if finding["allowed"] else ""),
        style="red",
    )
    for text in (
        f"expected  {finding['expected']}",
        f"observed  {finding['observed']}",
        *(f"this would explain it: {cause}" for cause in finding["causes"]),
    ):
        # What is too long for a line goes on further to the right, still below its headline.
        console().print(textwrap.fill(text, console().width, initial_indent="  ", subsequent_indent="      "))
