"""UNITS: the newer layers of the NumPy program."""

from __future__ import annotations

UNITS: dict[str, str] = {}
