"""Knobs set by hand, `--set KNOB=VALUE`: read, sorted by the backends that have them, and handed on.

Imports are inside functions: commands have these at hand, and `--help` has to answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nin_multi.spec import Architecture


def parse_tuning(words: Sequence[str] | None) -> dict[str, str]:
    """The knobs fixed by `--set KNOB=VALUE`; whether a backend has them it says itself. Raises UsageError.

    >>> parse_tuning(["micro_batch=16"])
    {'micro_batch': '16'}
    """
    from nin_multi.errors import UsageError

    tuning: dict[str, str] = {}
    for word in words or ():
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--set: expected KNOB=VALUE, such as micro_batch=16; got {word!r}")
        if tuning.setdefault(name, value) != value:
            raise UsageError(f"--set: {name} is given twice: {tuning[name]} and {value}")
    return tuning


def tuning_of_each(
    names: Sequence[str], architecture: Architecture, words: Sequence[str] | None, device: str | None = None
) -> dict[str, dict[str, str]]:
    """Of the knobs set by hand those that each backend has, on this device or its best; that starts each one shortly.

    Raises UsageError for a knob that none of them has, or a value that one does not know.
    """
    from nin_multi import launcher, registry
    from nin_multi.errors import UsageError
    from nin_multi.knobs import complete_tuning

    tuning = parse_tuning(words)
    if not tuning:
        return {name: {} for name in names}
    kept: dict[str, dict[str, str]] = {}
    there: set[str] = set()
    for result in launcher.ask_each(names, ["backends"]):
        devices = ((result.answer or {}).get("backends") or [{}])[0].get("devices")
        backend = registry.load(result.backend)
        # One that cannot start says so itself, later.
        place = {"device": device or (devices or ["cpu"])[0], "precision": backend.precisions[0]}
        knobs = backend.knobs(architecture, **place) if devices else ()
        names_there = {knob.name for knob in knobs}
        kept[backend.name] = {name: value for name, value in tuning.items() if name in names_there}
        there |= names_there
        complete_tuning(knobs, kept[backend.name])
    if missing := [name for name in tuning if name not in there]:
        raise UsageError(
            f"--set: none of {', '.join(names)} has a knob {missing[0]!r} here; there are: "
            f"{', '.join(sorted(there)) or 'none'}"
        )
    return kept


def set_words(tuning: Mapping[str, str]) -> list[str]:
    """The arguments that set its knobs."""
    return [word for name, value in tuning.items() for word in ("--set", f"{name}={value}")]
