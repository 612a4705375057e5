"""Finds backends by the entry-point group `nin_multi.backends`; it does not import their frameworks."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from nin_multi.backend import Backend
from nin_multi.errors import BackendNotFound, BackendUnavailable

GROUP = "nin_multi.backends"


def available() -> tuple[str, ...]:
    """Names of all installed adapters, in the order of the alphabet. Their frameworks may still be missing."""
    return tuple(sorted(_entry_points()))


def load(name: str) -> Backend:
    """The adapter of that name. Raises BackendNotFound, or BackendUnavailable where the adapter itself breaks."""
    found = _entry_points()
    if name not in found:
        near = difflib.get_close_matches(name, found, 1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BackendNotFound(f"no backend is called {name!r}.{hint} Installed: {', '.join(sorted(found)) or 'none'}")
    try:
        backend: Backend = found[name].load()()
    except Exception as error:  # whatever somebody's adapter does on import
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise BackendUnavailable(f"{name}: the adapter {found[name].value!r} does not load ({reason})") from error
    return backend


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
