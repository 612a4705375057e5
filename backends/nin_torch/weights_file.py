"""A state_dict's file (.pt, .pth) in and out, as arrays by name; not which layer a name belongs to."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nin_multi.backend import Params
from nin_multi.errors import CheckpointError, show_name
from nin_multi.files import read_whole, write_bytes
from nin_multi.named_arrays import unreadable_kind

# bfloat16 is the upper half of float32, and NumPy has none.
KINDS = {
    torch.float32: torch.float32,
    torch.float16: torch.float16,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
}


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by the file's names, in its order. Raises CheckpointError unless it holds a state_dict and no more."""
    content = read_whole(path)
    _refuse_inflation(path, content)
    tensors = _state_dict(path, _load(path, content))
    # A tensor may repeat one number over any shape: a file of 1,500 bytes can ask for terabytes.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > len(content):
        raise CheckpointError(f"{path}: its tensors would take {claimed:,} bytes, and the file has {len(content):,}")
    return {name: _array(path, name, tensor) for name, tensor in tensors.items()}


def write(path: Path, named: Params) -> None:
    """A state_dict of float32 tensors, as `torch.save` writes it. Raises RunError."""
    tensors = OrderedDict((name, torch.from_numpy(np.array(value, np.float32))) for name, value in named.items())
    file = io.BytesIO()
    torch.save(tensors, file)
    write_bytes(path, file.getvalue())


def _load(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file: UnpicklingError, RuntimeError, EOFError, KeyError, IndexError...
        text = str(error)
    if asked := re.search(r"GLOBAL (\S+)", text):
        raise CheckpointError(
            f"{path}: its pickle asks for {show_name(asked[1])}, and only tensors by name are read.\n"
            "Save net.state_dict(), not the net."
        )
    # What went wrong stands behind this word, after lines that advise to trust the file.
    lines = text.rpartition("WeightsUnpickler error:")[2].strip().splitlines() or ["it ends too early"]
    raise CheckpointError(f"{path}: not a whole state_dict's file ({show_name(lines[0])})")


def _refuse_inflation(path: Path, content: bytes) -> None:
    """`torch.save` does not compress: an archive that grows when it is opened is none of its own."""
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # damaged: the loader says how
        return
    if size > len(content):
        raise CheckpointError(f"{path}: a compressed archive of {size:,} bytes, none that torch.save writes")


def _state_dict(path: Path, found: Any) -> dict[str, Tensor]:
    if isinstance(found, Mapping) and list(found) == ["state_dict"]:  # as many checkpoints wrap it
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: expected a state_dict, names and tensors, got {type(found).__name__}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            shown = show_name(str(name)) if isinstance(name, (str, int)) else type(name).__name__
            raise CheckpointError(
                f"{path}: expected a state_dict, names and tensors, got {type(value).__name__} for {shown}"
            )
    return dict(found)


def _array(path: Path, name: str, tensor: Tensor) -> NDArray[Any]:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.dim() <= 32  # NumPy's most
    if not plain or tensor.dtype not in KINDS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise unreadable_kind(path, name, kind if plain else f"{kind} of a form of its own")
    copy: NDArray[Any] = tensor.to(KINDS[tensor.dtype]).numpy(force=True).copy(order="C")
    return copy
