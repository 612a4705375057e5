"""`convert`: weights from another framework's file, and back out to one; which array is which is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import JsonOption, LargeOption, large_words, load_architecture, note, one_backend, print_json

if TYPE_CHECKING:
    from nin_multi.backend import Backend, Params
    from nin_multi.spec import Architecture

SourceArgument = Annotated[Path, typer.Argument(metavar="SOURCE", help="A weights file, or a run directory.")]
TargetArgument = Annotated[Path, typer.Argument(metavar="TARGET", help="A new file; its suffix says which format.")]
ArchOption = Annotated[
    str | None,
    typer.Option("--arch", metavar="NAME|FILE", help="Needed where SOURCE does not say it: any file but our own."),
]
NamesOption = Annotated[
    str | None,
    typer.Option("--names", metavar="spec|book", help='"0.2.weight" as in the chapter (book), or as in the spec.'),
]
OURS = ".safetensors"


@dataclass(frozen=True)
class _Read:
    """What came out of SOURCE; `rounded` where it held float64."""

    params: Params
    architecture: Architecture
    rounded: bool = False


def convert(
    source: SourceArgument,
    target: TargetArgument,
    arch: ArchOption = None,
    names: NamesOption = None,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """Weights between this project's .safetensors and the frameworks' own files (.pt, .pth, .params, .ckpt).

    Arrays are matched by name, else by the order of the layers; shapes must agree. Nothing in a file is ever run.
    """
    reader, writer = _backend_for(source), _backend_for(target)
    # What can be wrong without a framework is found out before one is started.
    chosen = _check_names(names, writer, target)
    architecture = load_architecture(arch, None, allow_large=allow_large) if arch is not None else None
    _check_source(source, architecture, reader)
    _refuse_what_is_there(target)
    if writer or reader:  # from here on in its environment; another's file is read in a process of its own
        one_backend((writer or reader).name)  # type: ignore[union-attr]
    apart = reader is not None and writer is not None and reader.name != writer.name
    read = _read_apart(source, arch, reader, allow_large) if apart and reader else None
    read = read or _read(source, architecture, reader, allow_large)
    _write(target, read, source, writer, chosen)
    result = {
        "source": str(source),
        "target": str(target),
        "arch": read.architecture.name,
        "parameters": read.architecture.parameters,
        "names": chosen,
        "rounded": read.rounded,
    }
    _print(result, json)
    return 0


def _backend_for(path: Path) -> Backend | None:
    """Whose files end like this; None for our own. Raises UsageError where nobody's do."""
    from nin_multi import registry
    from nin_multi.errors import BackendUnavailable, UsageError

    suffix, known = path.suffix.lower(), [OURS]
    if suffix == OURS or path.is_dir():
        return None
    for name in registry.available():
        try:
            backend = registry.load(name)
        except BackendUnavailable:  # nobody named it
            continue
        if suffix in backend.weights_suffixes:
            return backend
        known += backend.weights_suffixes
    raise UsageError(f"{path}: expected a name that ends in one of {', '.join(known)}; the suffix says which format")


def _check_names(names: str | None, writer: Backend | None, target: Path) -> str:
    from nin_multi.errors import UsageError

    if names not in (None, "spec", "book"):
        raise UsageError(f"--names: expected spec or book, got {names!r}")
    if names == "book" and writer is None:
        raise UsageError(f"--names: {target} is a file of this project, which has the names of the spec")
    return names or ("book" if writer else "spec")


def _check_source(source: Path, architecture: Architecture | None, reader: Backend | None) -> None:
    from nin_multi.errors import CheckpointError, UsageError

    if not source.exists():
        raise CheckpointError(f"{source}: no such weights file, and no run directory")
    if reader and architecture is None:
        raise UsageError(_unsaid(source))


def _refuse_what_is_there(target: Path) -> None:
    from nin_multi.errors import RunError

    if target.exists() or target.is_symlink():
        raise RunError(f"{target}: already exists; choose another name, or remove it yourself")


def _read(source: Path, architecture: Architecture | None, reader: Backend | None, allow_large: bool) -> _Read:
    """SOURCE in this process. Raises CheckpointError, UsageError where it does not say its architecture."""
    from nin_multi.errors import UsageError
    from nin_multi.foreign_weights import adopt, read_safetensors
    from nin_multi.training.run_directory import WEIGHTS, RunDirectory
    from nin_multi.weights import is_ours, load_weights

    if source.is_dir():
        source = RunDirectory.open(source).path / WEIGHTS
    if reader is None and is_ours(source):
        stored = load_weights(source, allow_large=allow_large)
        wanted = architecture or stored.architecture
        return _Read(adopt(stored.params, wanted, str(source)), wanted)
    named: Mapping[str, Any] = reader.read_weights(source) if reader else read_safetensors(source)
    if architecture is None:
        raise UsageError(_unsaid(source))
    rounded = any(array.dtype.itemsize > 4 for array in named.values())
    return _Read(adopt(named, architecture, str(source), in_order=reader is not None), architecture, rounded)


def _unsaid(source: Path) -> str:
    return f"--arch: {source} does not say which architecture it belongs to; name it, such as --arch nin"


def _read_apart(source: Path, arch: str | None, reader: Backend, allow_large: bool) -> _Read:
    """SOURCE by way of a file of our own, which the reader's own process writes."""
    import tempfile

    from nin_multi.errors import raise_again
    from nin_multi.launcher import Child
    from nin_multi.weights import load_weights

    with tempfile.TemporaryDirectory(prefix="nin_multi-") as folder:
        between = Path(folder, f"between{OURS}")
        path = f"./{source}" if str(source).startswith("-") else str(source)  # no option
        named = [*(("--arch", arch) if arch is not None else ()), *large_words(allow_large)]
        result = Child(reader.name, ["convert", path, str(between), *named]).result()
        if result.answer is None or result.exit_status != 0:
            raise_again(result.answer, result.failure())
        stored = load_weights(between, allow_large=allow_large)
    return _Read(stored.params, stored.architecture, bool(result.answer["rounded"]))


def _write(target: Path, read: _Read, source: Path, writer: Backend | None, names: str) -> None:
    from nin_multi.foreign_weights import book_names
    from nin_multi.weights import save_weights

    if writer is None:
        save_weights(target, read.params, read.architecture, source=source.name)
        return
    shown = {name: name for name in read.params}
    if names == "book":
        shown = book_names(read.architecture, relu_takes_an_index=writer.relu_takes_an_index)
    writer.write_weights(target, {shown[name]: value for name, value in read.params.items()})


def _print(result: dict[str, Any], json: bool) -> None:
    if result["rounded"]:
        note("float64 numbers were rounded to float32")
    if json:
        print_json(result)
    else:
        print(f"{result['target']}: {result['parameters']:,} parameters of {result['arch']}, names as in the ", end="")
        print("book" if result["names"] == "book" else "spec")
