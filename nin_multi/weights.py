"""Parameters and velocities in a safetensors file that belongs to no framework: writing, reading, checking; not when.

The header holds one entry, "nin_multi", a JSON object with the architecture: one entry, because the library keeps
several in no fixed order and equal runs are to give equal files. Velocities carry the prefix "velocity/", which no
parameter's name can have.
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

from nin_multi.backend import Params, check_params, show_name
from nin_multi.errors import CheckpointError, SpecError
from nin_multi.files import refuse_pickle, write_bytes
from nin_multi.spec import Architecture

KEY = "nin_multi"
VELOCITY = "velocity/"


@dataclass(frozen=True)
class StoredWeights:
    """What a weights file holds: parameters and velocities by name, the architecture, the facts it was written with."""

    params: Params
    architecture: Architecture
    facts: Mapping[str, Any]
    velocities: Params


def save_weights(
    path: Path, params: Params, architecture: Architecture, velocities: Params | None = None, **facts: Any
) -> None:
    """Write parameters, velocities, architecture and `facts` (plain JSON values), atomically, with a checksum."""
    named = {**params, **{VELOCITY + name: value for name, value in (velocities or {}).items()}}
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in named.items()}
    header = {"format": 1, "architecture": architecture.model_dump(mode="json"), "facts": facts}
    header["sha256"] = _digest(tensors)
    header["facts_sha256"] = _digest_of_facts(header)
    write_bytes(path, save(tensors, metadata={KEY: json.dumps(header, sort_keys=True)}))


def load_weights(path: Path, expected: Architecture | None = None) -> StoredWeights:
    """Read them back; the parameters have to be those of `expected`, where it is given.

    Raises CheckpointError for anything but a whole, unaltered file of this project.
    """
    refuse_pickle(path)
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
            tensors = {name: file.get_tensor(name) for name in kinds}
        architecture = Architecture.model_validate(header["architecture"])
        digest, facts = header["sha256"], dict(header["facts"])
        facts_digest = header.get("facts_sha256", _digest_of_facts(header))  # older files have none
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weights file") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({show_name(str(error))})") from None
    except (KeyError, ValueError, TypeError, SpecError):
        raise CheckpointError(f"{path}: a safetensors file without a valid entry {KEY!r} of this project") from None
    if _digest(tensors) != digest:
        raise CheckpointError(f"{path}: its parameters are not those it was written with; the file was altered")
    if _digest_of_facts(header) != facts_digest:
        raise CheckpointError(f"{path}: its facts are not those it was written with; the file was altered")
    params = {name: value for name, value in tensors.items() if not name.startswith(VELOCITY)}
    velocities = {name[len(VELOCITY) :]: value for name, value in tensors.items() if name.startswith(VELOCITY)}
    wanted = expected or architecture
    for named in (params, velocities) if velocities else (params,):
        _check(path, wanted, named)
    return StoredWeights(_ordered(wanted, params), architecture, facts, _ordered(wanted, velocities))


def _check(path: Path, architecture: Architecture, named: Params) -> None:
    try:
        check_params(architecture, named)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _ordered(architecture: Architecture, named: Params) -> Params:
    """In the order of the layers; the file's is the alphabet's."""
    return {name: named[name] for name in architecture.parameter_shapes() if name in named}


def _digest(params: Params) -> str:
    """SHA-256 over names, shapes and bytes: safetensors itself has no checksum."""
    digest = hashlib.sha256()
    for name in sorted(params):
        digest.update(f"{name} {params[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(params[name], "<f4").tobytes())
    return digest.hexdigest()


def _digest_of_facts(header: Mapping[str, Any]) -> str:
    """SHA-256 over the architecture and the facts."""
    text = json.dumps([header["architecture"], header["facts"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_ours(path: Path) -> bool:
    """Whether a file says that it is one of this project; a damaged one does not."""
    try:
        with safe_open(path, framework="numpy") as file:
            return KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False
