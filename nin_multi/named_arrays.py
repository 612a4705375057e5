"""Arrays by name out of somebody's file: what is amiss with a set of them, and a kind that NumPy lacks.

Which arrays a net wants, and whose layout they are in, is said elsewhere: weights.py, foreign_weights.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nin_multi.errors import CheckpointError, show_name


def list_misfits(missing: list[str], unexpected: list[str], misshapen: list[str]) -> str:
    """What is wrong with a set of parameters, for a message; empty where nothing is."""
    found = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    return "; ".join(f"{what}: {_first_few(names)}" for what, names in found if names)


def _first_few(names: list[str]) -> str:
    """The first three names and how many more, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unreadable_kind(path: Path | str, name: str, kind: str) -> CheckpointError:
    """The error for an array that holds no floating-point numbers, or none that NumPy can have."""
    return CheckpointError(
        f"{path}: {show_name(name)} holds {show_name(kind)}; expected float32, float16, bfloat16 or float64"
    )


def widen_bfloat16(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 out of the bits of bfloat16, its upper half; NumPy has no such kind."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
