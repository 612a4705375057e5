"""The errors a user can meet, each with the exit status it ends a command with; nothing else is caught by the CLI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn


class NinMultiError(Exception):
    """Base of every expected error: its text is one or two lines (what, where, expected, got, what to do)."""

    exit_status = 2


class UsageError(NinMultiError):
    """A command line or a function argument that cannot be served."""


class SpecError(NinMultiError):
    """An architecture that cannot be read, or whose layers do not fit together; `layer_index` counts from 0."""

    def __init__(self, message: str, *, layer_index: int | None = None) -> None:
        super().__init__(message)
        self.layer_index = layer_index


class DataError(NinMultiError):
    """A data set that is missing, damaged, or not the one its file names promise."""


class RunError(NinMultiError):
    """A run directory that is missing, damaged, unwritable or already in use."""


class CheckpointError(NinMultiError):
    """Stored weights that are damaged, or that belong to another architecture; `is_damage` tells the two apart."""

    def __init__(self, message: str, *, is_damage: bool = False) -> None:
        super().__init__(message)
        self.is_damage = is_damage


class BackendNotFound(NinMultiError):
    """No adapter of that name is installed."""


class UnsupportedLayer(NinMultiError):
    """A backend has no form of this layer, or not with these settings."""


class BackendUnavailable(NinMultiError):
    """An adapter is there, but its framework, its device or its precision cannot start here."""

    exit_status = 3


class OutOfMemory(NinMultiError):
    """Memory that could not be had, or that a run would need far more of than there is."""


def raise_again(answer: Mapping[str, Any] | None, otherwise: str) -> NoReturn:
    """Raise the error that another process printed as JSON; `otherwise` tells of one that ended without a word."""
    known: dict[str, Callable[[str], NinMultiError]]
    known = {cls.__name__: cls for cls in NinMultiError.__subclasses__()}
    told = (answer or {}).get("error") or {}
    raise known.get(str(told.get("type")), BackendUnavailable)(str(told.get("message") or otherwise))


def show_name(name: str) -> str:
    """A name out of somebody's file, fit for a message: on one line, and of an end."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
