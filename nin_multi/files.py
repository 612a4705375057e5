"""Writing files so that a reader finds the old content or the new, never half; not what stands in them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from nin_multi.errors import RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to disk, rename. Raises RunError; then `path` is as it was."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, indented, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
