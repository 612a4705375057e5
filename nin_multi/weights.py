"""Parameters in a safetensors file that belongs to no framework: writing, reading, checking; not when to do so.

The header holds one entry, "nin_multi", a JSON object with the architecture: one entry, because the library keeps
several in no fixed order and equal runs are to give equal files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nin_multi.backend import Params, check_params
from nin_multi.errors import CheckpointError, SpecError
from nin_multi.files import write_bytes
from nin_multi.spec import Architecture

KEY = "nin_multi"


@dataclass(frozen=True)
class StoredWeights:
    """What a weights file holds: parameters by name, their architecture, and the facts it was written with."""

    params: Params
    architecture: Architecture
    facts: Mapping[str, Any]


def save_weights(path: Path, params: Params, architecture: Architecture, **facts: Any) -> None:
    """Write parameters, architecture and `facts` (plain JSON values), atomically, with a checksum."""
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in params.items()}
    header = {"format": 1, "architecture": architecture.model_dump(mode="json"), "facts": facts}
    header["sha256"] = _digest(tensors)
    write_bytes(path, save(tensors, metadata={KEY: json.dumps(header, sort_keys=True)}))


def load_weights(path: Path) -> StoredWeights:
    """Read them back. Raises CheckpointError for anything but a whole, unaltered file of this project."""
    try:
        with safe_open(path, framework="numpy") as file:
            entries = file.metadata() or {}
            if KEY not in entries:
                raise CheckpointError(f"{path}: a safetensors file without the entry {KEY!r} of this project")
            header = json.loads(entries[KEY])
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  (no mapping)
            if set(kinds.values()) - {"F32"}:
                raise CheckpointError(
                    f"{path}: expected float32 parameters, got {', '.join(sorted(set(kinds.values())))}"
                )
            params = {name: file.get_tensor(name) for name in kinds}
        architecture = Architecture.model_validate(header["architecture"])
        expected, facts = header["sha256"], header["facts"]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weights file") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error})") from None
    except (KeyError, ValueError, TypeError, SpecError):
        raise CheckpointError(f"{path}: a safetensors file without a valid entry {KEY!r} of this project") from None
    if _digest(params) != expected:
        raise CheckpointError(f"{path}: its parameters are not those it was written with; the file was altered")
    check_params(architecture, params)
    return StoredWeights(params, architecture, facts)


def _digest(params: Params) -> str:
    """SHA-256 over names, shapes and bytes: safetensors itself has no checksum."""
    digest = hashlib.sha256()
    for name in sorted(params):
        digest.update(f"{name} {params[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(params[name], "<f4").tobytes())
    return digest.hexdigest()
