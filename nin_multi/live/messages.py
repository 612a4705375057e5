"""Plain JSON values and the framing of server-sent events; not which messages there are.

The framing is that of the HTML standard, section "Server-sent events": fields in lines, an empty line ends a message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

KEEP_ALIVE = b": still here\n\n"  # a comment, which a browser ignores
RETRY = b"retry: 1000\n\n"  # milliseconds after which a browser that has lost us asks again


def plain(value: Any) -> Any:
    """A deep copy of JSON values, NaN and infinities as None: JSON has none. Raises TypeError for anything else."""
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"expected a string as a key, got {odd[0]!r}")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):  # a bool is an int
        return value
    raise TypeError(f"expected a JSON value, got {type(value).__name__}: {value!r}")


def frame(event: str, data: Any, number: int | None = None) -> bytes:
    r"""One message. JSON escapes every line break, so nothing in `data` can end the line that it stands in.

    >>> frame("run", {"label": "a\n\ndata: b"}, 3)
    b'id: 3\nevent: run\ndata: {"label":"a\\n\\ndata: b"}\n\n'
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII: half a surrogate pair is no UTF-8
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {event}\ndata: {text}\n\n".encode("ascii")
