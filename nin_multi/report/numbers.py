"""Numbers as people read them in a report; page.js has the same words for a page that is still being written."""

from __future__ import annotations

import math
from typing import Any

NOTHING = "–"


def is_number(value: object) -> bool:
    """A finite number; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def show_score(value: Any) -> str:
    """A loss or an accuracy: "0.871"."""
    return f"{value:.3f}" if is_number(value) else NOTHING


def show_rate(value: Any) -> str:
    """Images per second: "1,410", "38.2"."""
    if not is_number(value):
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def show_seconds(value: Any) -> str:
    """A time that was measured: "0.84 s", "12.3 s", "4 min 5 s", "2 h 10 min"."""
    if not is_number(value):
        return NOTHING
    if value < 10:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def show_left(value: Any) -> str:
    """A time that was estimated: "40 s", "4 min", "2 h 10 min"; rounded, for it is not known better."""
    if not is_number(value):
        return NOTHING
    if value < 90:
        return f"{max(round(value), 1)} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def show_memory(value: Any) -> str:
    """Bytes as "0.43 GB"."""
    return f"{value / 1e9:.2f} GB" if is_number(value) else NOTHING


def show_error(value: Any) -> str:
    """A relative error: "1.3e-07"."""
    return f"{value:.1e}" if is_number(value) else NOTHING


def show_count(value: Any) -> str:
    """A whole number: "349,674"."""
    return f"{value:,}" if is_number(value) else NOTHING


def show_percent(value: Any) -> str:
    """A share: "87 %"; what is not quite nothing is never called nothing."""
    if not is_number(value):
        return NOTHING
    return "<1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"


def show_shape(value: Any) -> str:
    """A shape: "1 × 48 × 28 × 28"."""
    return " × ".join(str(size) for size in value) if isinstance(value, list | tuple) else NOTHING


def show_setting(value: Any) -> str:
    """A setting of a layer or a recipe: "on", "0.05"; two equal numbers as one, others as "64/48"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == "":
        return NOTHING
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1] and is_number(value[0]):
        return show_setting(value[0])
    if isinstance(value, list | tuple):
        return ("/" if all(map(is_number, value)) else ", ").join(map(show_setting, value)) or NOTHING
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_moment(value: Any) -> str:
    """A time of day as the files have it, "2026-11-23T06:10:00Z", for people: "2026-11-23 06:10 UTC"."""
    text = str(value or "")
    return f"{text[:10]} {text[11:16]} UTC" if len(text) >= 16 and text[10] == "T" else text
