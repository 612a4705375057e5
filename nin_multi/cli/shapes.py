"""`shapes`: the layer-by-layer table, as the spec expects it and as each framework's net shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    BackendsOption,
    InputOption,
    JsonOption,
    LargeOption,
    console,
    large_words,
    load_architecture,
    named_backends,
    note,
    one_backend,
    print_json,
    show_shape,
    table,
)

if TYPE_CHECKING:
    from rich.text import Text

    from nin_multi.spec import Architecture

ExpandOption = Annotated[bool, typer.Option("--expand", help="Open the blocks.")]
Observed = dict[str, list[int]]


def shapes(
    arch: ArchOption = "nin",
    backend: BackendsOption = None,
    input: InputOption = None,
    expand: ExpandOption = False,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """Layer-by-layer shapes, expected and observed per backend."""
    architecture = load_architecture(arch, input, allow_large=True)  # expected shapes allocate nothing
    arguments = ["shapes", "--arch", arch, *(("--input", input) if input else ()), *large_words(allow_large)]
    observed = _observe(architecture, arguments, backend, allow_large)
    found = _compare(architecture, observed, expand)
    if json:
        print_json(found)
    else:
        _print_table(found, list(observed))
    return 0 if found["agree"] else 1


def _observe(
    architecture: Architecture, arguments: list[str], backend: str | None, allow_large: bool
) -> dict[str, Observed]:
    """Backend -> layer -> shape. One backend runs in this process, several in one of their own each."""
    from nin_multi import checks, launcher, registry
    from nin_multi.limits import check_size

    names = named_backends(backend) if backend is not None else list(registry.available())
    check_size(architecture, allow_large=allow_large)
    if backend is not None and len(names) == 1:
        loaded = one_backend(names[0])
        found = checks.observed_shapes(loaded, architecture, device=loaded.devices()[0])
        return {names[0]: {name: list(shape) for name, shape in found.items()}}
    observed: dict[str, Observed] = {}
    for result in launcher.ask_each(names, [*arguments, "--expand"]):
        if failure := _failure(result, named=backend is not None):
            note(failure)
            continue
        rows = (result.answer or {})["layers"]
        observed[result.backend] = {row["name"]: row["observed"][result.backend] for row in rows}
    return observed


def _failure(result: Any, *, named: bool) -> str:
    """Why a backend gives no shapes, where it was only discovered. Raises its error where it was named."""
    from nin_multi.errors import raise_again

    if result.answer is not None and "layers" in result.answer:
        return ""
    if named:
        raise_again(result.answer, result.failure())
    return f"left out: {result.failure()}"


def _compare(architecture: Architecture, observed: dict[str, Observed], expand: bool) -> dict[str, Any]:
    """The command's JSON. Layers inside blocks are compared even where they are not shown."""
    rows: list[dict[str, Any]] = [
        {
            "name": row.name,
            "type": row.layer.type,
            "expected": list(row.output),
            "observed": {name: found.get(row.name) for name, found in observed.items()},
        }
        for row in architecture.walk()
    ]
    # A layer that the net has and the spec does not is a disagreement too.
    extra = dict.fromkeys(
        name for found in observed.values() for name in found if name not in {r["name"] for r in rows}
    )
    for name in extra:
        seen = {backend: found.get(name) for backend, found in observed.items()}
        rows.append({"name": name, "type": "unexpected", "expected": None, "observed": seen})
    agree = all(shape == row["expected"] for row in rows for shape in row["observed"].values())
    shown = [row for row in rows if expand or "." not in str(row["name"]) or not _agrees(row)]
    return {"arch": architecture.name, "input": [1, *architecture.input], "layers": shown, "agree": agree}


def _agrees(row: dict[str, Any]) -> bool:
    return all(shape == row["expected"] for shape in row["observed"].values())


def _print_table(found: dict[str, Any], names: list[str]) -> None:
    grid = table(f"{found['arch']}, input {show_shape(found['input'])}", "layer", "expected", *names)
    for row in found["layers"]:
        cells = [_cell(row["observed"][name], row["expected"]) for name in names]
        grid.add_row(row["name"], show_shape(row["expected"]) if row["expected"] else "none", *cells)
    console().print(grid)
    if names:
        verdict = "All layers agree" if found["agree"] else "The shapes DISAGREE"
        console().print(f"{verdict}: spec, {', '.join(names)}.")


def _cell(observed: list[int] | None, expected: list[int] | None) -> Text:
    from rich.text import Text

    if observed == expected:
        return Text("same")
    return Text("missing" if observed is None else show_shape(observed), style="red")
