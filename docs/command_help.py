"""What the page of commands calls: each command's own help, and a check that none is forgotten."""

from __future__ import annotations

from chapter_cells import Myst, command

from nin_multi.cli import app

_shown: set[str] = set()


def help_of(name: str) -> Myst:
    """A command's help as it prints it."""
    _shown.add(name)
    return command(f"{name} --help")


def check_all_are_here() -> None:
    """Raises ValueError where a command is not on the page, or one is that there is not."""
    known = {str(each.name) for each in app.registered_commands}
    if known != _shown:
        raise ValueError(f"docs/commands.md: not shown {sorted(known - _shown)}, unknown {sorted(_shown - known)}")
