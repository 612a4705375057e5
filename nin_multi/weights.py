"""Parameters and velocities in a safetensors file that belongs to no framework: writing, reading, checking; not when.

The header holds one entry, "nin_multi", a JSON object with the architecture: one entry, because the library keeps
several in no fixed order and equal runs are to give equal files. Velocities carry the prefix "velocity/", which no
parameter's name can have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nin_multi.backend import Params, check_params
from nin_multi.errors import CheckpointError, SpecError, show_name
from nin_multi.files import refuse_pickle, write_bytes
from nin_multi.limits import LARGEST_JSON, check_size, parse_json
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


def load_weights(path: Path, expected: Architecture | None = None, *, allow_large: bool = False) -> StoredWeights:
    """Read them back; the parameters have to be those of `expected`, where it is given.

    Names, shapes and the memory they need are checked before any parameter is read: `allow_large` does without
    `limits.check_size`. Raises CheckpointError for anything but a whole, unaltered file of this project.
    """
    _refuse_before_opening(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = _read_header(path, file.metadata() or {})
            wanted = expected or header.architecture
            _check_shapes(path, file, wanted, allow_large)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weights file") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({show_name(str(error))})", is_damage=True
        ) from None
    if _digest(tensors) != header.digest:
        raise CheckpointError(
            f"{path}: its parameters are not those it was written with; the file was altered", is_damage=True
        )
    params, velocities = _split(tensors)
    return StoredWeights(_ordered(wanted, params), header.architecture, header.facts, _ordered(wanted, velocities))


@dataclass(frozen=True)
class _Header:
    """What the entry of ours says."""

    architecture: Architecture
    facts: Mapping[str, Any]
    digest: Any


def _refuse_before_opening(path: Path) -> None:
    """A device, a pickle, or a header that no net needs: whoever opens one may wait, run or parse without end."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: expected a weights file, got a folder or a device")
    refuse_pickle(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError:  # whoever reads it says so
        return
    if length > LARGEST_JSON:
        raise CheckpointError(
            f"{path}: not a complete safetensors file (expected a header of at most {LARGEST_JSON:,} bytes, "
            f"got {length:,})"
        )


def _read_header(path: Path, entries: Mapping[str, str]) -> _Header:
    if KEY not in entries:
        raise CheckpointError(f"{path}: a safetensors file without the entry {KEY!r} of this project")
    try:
        header = parse_json(entries[KEY], finite=False)
        architecture = Architecture.model_validate(header["architecture"])
        found = _Header(architecture, dict(header["facts"]), header["sha256"])
        now = _digest_of_facts(header)
        written = header.get("facts_sha256", now)  # older files have none
    except (KeyError, ValueError, TypeError, SpecError):
        raise CheckpointError(
            f"{path}: a safetensors file without a valid entry {KEY!r} of this project", is_damage=True
        ) from None
    if written != now:
        raise CheckpointError(
            f"{path}: its facts are not those it was written with; the file was altered", is_damage=True
        )
    return found


def _check_shapes(path: Path, file: Any, wanted: Architecture, allow_large: bool) -> None:
    """Kinds, names and shapes as the file's header has them, and what they need: nothing is read yet."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    kinds = {part.get_dtype() for part in slices.values()}
    if kinds - {"F32"}:
        raise CheckpointError(f"{path}: expected float32 parameters, got {', '.join(sorted(kinds))}")
    params, velocities = _split(slices)
    for named in (params, velocities) if velocities else (params,):
        # Names and shapes as a message can have them: whatever is too long for one is not the architecture's.
        _check(path, wanted, {show_name(name): _Shaped(part.get_shape()) for name, part in named.items()})
    try:
        check_size(wanted, allow_large=allow_large)
    except SpecError as error:
        raise CheckpointError(f"{path}: {error}") from None


class _Shaped:
    """What has a shape and no values."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = (*shape[:8], *(["..."] if len(shape) > 8 else []))


def _split(named: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters, and velocities without their prefix."""
    velocities = {name[len(VELOCITY) :]: value for name, value in named.items() if name.startswith(VELOCITY)}
    return {name: value for name, value in named.items() if not name.startswith(VELOCITY)}, velocities


def _check(path: Path, architecture: Architecture, named: Mapping[str, Any]) -> None:
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
        _refuse_before_opening(path)
        with safe_open(path, framework="numpy") as file:
            return KEY in (file.metadata() or {})
    except (OSError, SafetensorError, CheckpointError):
        return False
