"""`export`: an architecture as a program, or with its weights as an ONNX file; what these say is defined elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nin_multi.cli.common import InputOption, JsonOption, LargeOption, load_architecture, print_json

if TYPE_CHECKING:
    from nin_multi.cli.export_onnx import Wishes

ArchOption = Annotated[
    str | None,
    typer.Option(
        "--arch", metavar="NAME|FILE", help="An architecture of the zoo, or a .yaml file; nin, or that of --weights."
    ),
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="python|onnx", help="A program, or a file with weights.")
]
BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="The program's framework; it need not be installed.")
]
StyleOption = Annotated[str | None, typer.Option("--style", metavar="book", help="The program's; there is one so far.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="RUN|FILE", help="ONNX: a run directory, or a .safetensors file of ours."),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="ONNX: of initial weights, where none are named; 0.")
]
CheckOption = Annotated[
    bool | None,
    typer.Option(
        "--check/--no-check",
        help="ONNX: logits under onnxruntime against the oracle's; as by default where it is installed.",
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A new file; a program else to stdout.")]


def export(
    arch: ArchOption = None,
    backend: BackendOption = None,
    input: InputOption = None,
    format: FormatOption = "python",
    style: StyleOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = None,
    check: CheckOption = None,
    out: OutOption = None,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """The net as Python that a person would write in one framework, and runs with it alone; or as an ONNX file."""
    from nin_multi.cli.export_onnx import Wishes, export_onnx
    from nin_multi.errors import UsageError

    wishes = Wishes(arch, input, weights, seed, check, allow_large)
    if format == "onnx":
        _refuse("onnx", "it belongs to no framework", {"--backend": backend, "--style": style})
        return export_onnx(wishes, _new(out), json)
    if format != "python":
        raise UsageError(f"--format: expected python or onnx, got {format!r}")
    _refuse("python", "a program has no weights", {"--weights": weights, "--seed": seed, "--check": check})
    return _export_program(wishes, backend, style, out, json)


def _export_program(wishes: Wishes, backend: str | None, style: str | None, out: Path | None, json: bool) -> int:
    from nin_multi import registry

    chosen, named = registry.load(_one_name(backend)), _check_style(style)
    architecture = load_architecture(wishes.arch or "nin", wishes.size, allow_large=True)  # a program allocates nothing
    _refuse_what_is_there(out)
    source = chosen.source(architecture)
    if out is not None:
        _write(out, source)
    if json:
        said = str(out) if out is not None else None
        found = {"arch": architecture.name, "backend": chosen.name, "format": "python", "style": named}
        print_json({**found, "source": source, "out": said})
    elif out is not None:
        print(f"{out}: {architecture.name} for {chosen.name}, {len(source.splitlines())} lines")
    else:
        print(source, end="")
    return 0


def _refuse(format: str, why: str, given: dict[str, object]) -> None:
    """Raises UsageError for what means nothing in this format."""
    from nin_multi.errors import UsageError

    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option}: not with --format {format}: {why}; leave one of the two out")


def _check_style(style: str | None) -> str:
    from nin_multi.errors import UsageError

    if style not in (None, "book"):
        raise UsageError(f"--style: expected book, the one style that there is, got {style!r}")
    return "book"


def _one_name(backend: str | None) -> str:
    from nin_multi.errors import UsageError

    if backend is None or "," in backend:
        got = "" if backend is None else f", got {backend!r}"
        raise UsageError(f"--backend: expected one name, such as torch{got}; `nin_multi backends` lists them")
    return backend.strip()


def _new(out: Path | None) -> Path:
    from nin_multi.errors import UsageError

    if out is None:
        raise UsageError("--out: an ONNX file is not for a terminal; name one, such as nin.onnx")
    _refuse_what_is_there(out)
    return out


def _refuse_what_is_there(out: Path | None) -> None:
    from nin_multi.errors import RunError

    if out is not None and (out.exists() or out.is_symlink()):
        raise RunError(f"{out}: already exists; choose another name, or remove it yourself")


def _write(out: Path, source: str) -> None:
    from nin_multi.files import write_bytes

    write_bytes(out, source.encode())
