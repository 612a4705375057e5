"""`export`: an architecture as a program in one framework; what the program says is its adapter's doing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nin_multi.cli.common import ArchOption, InputOption, JsonOption, load_architecture, print_json

BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="The framework; it need not be installed.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A new file, instead of stdout.")]


def export(
    arch: ArchOption = "nin",
    backend: BackendOption = None,
    input: InputOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> int:
    """The net as Python that a person would write in one framework, which runs with that framework alone."""
    from nin_multi import registry

    chosen = registry.load(_one_name(backend))
    architecture = load_architecture(arch, input, allow_large=True)  # a program allocates nothing
    _refuse_what_is_there(out)
    source = chosen.source(architecture)
    if out is not None:
        _write(out, source)
    if json:
        said = str(out) if out is not None else None
        print_json({"arch": architecture.name, "backend": chosen.name, "source": source, "out": said})
    elif out is not None:
        print(f"{out}: {architecture.name} for {chosen.name}, {len(source.splitlines())} lines")
    else:
        print(source, end="")
    return 0


def _one_name(backend: str | None) -> str:
    from nin_multi.errors import UsageError

    if backend is None or "," in backend:
        got = "" if backend is None else f", got {backend!r}"
        raise UsageError(f"--backend: expected one name, such as torch{got}; `nin_multi backends` lists them")
    return backend.strip()


def _refuse_what_is_there(out: Path | None) -> None:
    from nin_multi.errors import RunError

    if out is not None and (out.exists() or out.is_symlink()):
        raise RunError(f"{out}: already exists; choose another name, or remove it yourself")


def _write(out: Path, source: str) -> None:
    from nin_multi.files import write_bytes

    write_bytes(out, source.encode())
