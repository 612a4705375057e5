"""Parameters in a safetensors file that belongs to no framework: writing, reading, checking; not when to do so.

The header holds one entry, "nin_multi", a JSON object with the architecture: one entry, because the library keeps
several in no fixed order and equal runs are to give equal files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nin_multi.backend import Params
from nin_multi.errors import CheckpointError
from nin_multi.files import write_bytes
from nin_multi.spec import Architecture

KEY = "nin_multi"


def save_weights(path: Path, params: Params, architecture: Architecture, **facts: Any) -> None:
    """Write parameters, architecture and `facts` (plain JSON values), atomically."""
    header = {"format": 1, "architecture": architecture.model_dump(mode="json"), **facts}
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in params.items()}
    write_bytes(path, save(tensors, metadata={KEY: json.dumps(header, sort_keys=True)}))


def load_weights(path: Path) -> tuple[dict[str, np.ndarray[Any, np.dtype[np.float32]]], dict[str, Any]]:
    """Parameters by name, and the header's facts. Raises CheckpointError; the file is only read."""
    try:
        with safe_open(path, framework="numpy") as file:
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            header = json.loads((file.metadata() or {})[KEY])
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weights file") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error})") from None
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: a safetensors file without the entry {KEY!r} of this project") from None
    return params, header
