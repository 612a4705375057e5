"""`train --resume`: the run that goes on, and what may be asked of it; not how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nin_multi.training.run_directory import RunDirectory

_RESUMABLE = frozenset(
    (
        "resume",
        "backend",
        "epochs",
        "device",
        "precision",
        "data_dir",
        "set",
        "tune",
        "checkpoint_every",
        "allow_large",
        "tensorboard",
        "workers",
        "port",
        "join_timeout",
        "restarts",
        "json",
    )
)


def opened(run: Path, given: set[str]) -> RunDirectory:
    """The run to go on with. Raises UsageError for options that it cannot have any more, RunError where none is."""
    from nin_multi.errors import UsageError
    from nin_multi.training.run_directory import RunDirectory

    if fixed := sorted(given - _RESUMABLE):
        flag = f"--{fixed[0].replace('_', '-')}"
        raise UsageError(f"{flag}: a resumed run keeps what it began with; leave it out, or begin a new run")
    return RunDirectory.open(run)


def of_last(run: Path, name: str, chosen: Any) -> Any:
    """What was chosen for a run that goes on, else what it had last."""
    from nin_multi.training.run_directory import RunDirectory

    return chosen or RunDirectory.open(run).last_facts().get(name)


def has_begun(run: Path) -> bool:
    """Whether a run is there already: a launcher's restart begins with the same words."""
    from nin_multi.training.run_directory import RUN

    return (run / RUN).is_file()
