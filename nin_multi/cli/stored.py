"""Stored weights named on a command line, a run directory or a weights file; not what a command does with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nin_multi.backend import Backend, Network, Params
    from nin_multi.spec import Architecture

WeightsArgument = Annotated[
    Path, typer.Argument(metavar="RUN|FILE", help="A run directory, or a .safetensors file of this project.")
]
StoredBackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="Which one; the weights' own if not given.")
]
BATCH = 128  # images at a time, where no recipe says it


@dataclass(frozen=True)
class Stored:
    """Parameters and their net, and what they say of where they come from: None where they do not say it."""

    path: Path
    params: Params
    architecture: Architecture
    backend: str | None
    dataset: str | None
    batch_size: int = BATCH

    def start(self, backend: str | None, precision: str | None = None) -> Backend:
        """The backend that was named, else their own, in its environment: this may start the process anew."""
        from nin_multi.cli.common import one_backend
        from nin_multi.errors import UsageError

        name = backend or self.backend
        if name is None:
            raise UsageError(f"--backend: {self.path} does not say which one it was made with; name one, such as torch")
        return one_backend(name, precision)

    def build(self, framework: Backend, device: str | None, precision: str | None) -> Network:
        """The net with these parameters; on the best device where none is named."""
        return framework.build(
            self.architecture,
            self.params,
            device=device or framework.devices()[0],
            precision=precision or framework.precisions[0],
        )


def read_stored(path: Path, allow_large: bool = False) -> Stored:
    """Raises RunError for a directory without a whole run, CheckpointError for anything but weights of this project."""
    from nin_multi.errors import CheckpointError

    if path.is_dir():
        return _read_run(path, allow_large)
    if not path.exists():
        raise CheckpointError(f"{path}: no such run directory, and no such weights file")
    return _read_file(path, allow_large)


def _read_run(path: Path, allow_large: bool) -> Stored:
    from nin_multi.training.run_directory import WEIGHTS, RunDirectory
    from nin_multi.weights import load_weights

    directory = RunDirectory.open(path)
    facts, architecture = directory.facts(), directory.architecture()
    stored = load_weights(path / WEIGHTS, architecture, allow_large=allow_large)
    named = facts["backend"], facts["dataset"]["name"], facts["recipe"]["batch_size"]
    return Stored(path, stored.params, architecture, *named)


def _read_file(path: Path, allow_large: bool) -> Stored:
    from nin_multi.errors import CheckpointError
    from nin_multi.weights import is_ours, load_weights

    try:
        stored = load_weights(path, allow_large=allow_large)
    except CheckpointError as error:
        if is_ours(path) or "\n" in str(error):
            raise
        remedy = "Files of other frameworks become weights of this project by `nin_multi convert`."
        raise CheckpointError(f"{error}\n{remedy}") from None
    said = stored.facts
    return Stored(path, stored.params, stored.architecture, _text(said.get("backend")), _text(said.get("dataset")))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
