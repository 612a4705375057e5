"""A checkpoint's file (.ckpt) in and out, as arrays by name; not which layer a name belongs to.

Such a file is a protobuf message, `Checkpoint`, without a pickle in it. It is read by the framework's own description
of the message, but not by `mindspore.load_checkpoint`: that one (2.9) takes the shape's word for how many bytes there
are, and where they are fewer, the array holds whatever the memory held.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from mindspore.train.checkpoint_pb2 import Checkpoint
from numpy.typing import NDArray

from nin_multi.backend import Params
from nin_multi.errors import CheckpointError, show_name
from nin_multi.files import read_whole, refuse_pickle, write_bytes
from nin_multi.named_arrays import unreadable_kind, widen_bfloat16

KINDS = {"Float32": "<f4", "Float16": "<f2", "Float64": "<f8", "BFloat16": "<u2"}
CRC = b"crc_num"  # stands before the checksum, 10 bytes, at the end of a file that has one


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by the file's names, in its order. Raises CheckpointError for all but a whole checkpoint."""
    refuse_pickle(path)
    content = read_whole(path)
    if content[-17:-10] == CRC:
        content, checksum = content[:-17], int.from_bytes(content[-10:], "big")
        if binascii.crc32(content) != checksum:
            raise CheckpointError(f"{path}: its checksum does not fit; the file was altered")
    try:
        return dict(_arrays(path, Checkpoint.FromString(content)))
    except (DecodeError, UnicodeDecodeError):
        raise CheckpointError(f"{path}: not a whole checkpoint file") from None


def write(path: Path, named: Params) -> None:
    """A checkpoint of float32 arrays, as `mindspore.save_checkpoint` writes it. Raises RunError."""
    parts = []  # one after another they are one message, and a single one must stay below 2 GB
    for name, value in named.items():
        message = Checkpoint()
        entry = message.value.add()
        entry.tag = name
        entry.tensor.dims.extend(value.shape)
        entry.tensor.tensor_type = "Float32"
        entry.tensor.tensor_content = np.ascontiguousarray(value, "<f4").tobytes()
        parts.append(message.SerializeToString())
    write_bytes(path, b"".join(parts))


def _arrays(path: Path, message: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """A large array comes in several parts, one after another, each with the whole array's shape."""
    seen: set[str] = set()
    for name, parts in groupby(message.value, lambda entry: entry.tag):
        tensors = [entry.tensor for entry in parts]
        if name in seen:
            raise CheckpointError(f"{path}: two arrays are called {show_name(name)}")
        seen.add(name)
        yield name, _array(path, name, tensors)


def _array(path: Path, name: str, tensors: list[Any]) -> NDArray[Any]:
    kind, dims = tensors[-1].tensor_type, list(tensors[-1].dims)
    if kind not in KINDS:
        raise unreadable_kind(path, name, kind or "no tensor")
    shape = () if dims == [0] else tuple(dims)  # how older versions write a single number
    content = b"".join(tensor.tensor_content for tensor in tensors)
    expected = math.prod(shape) * np.dtype(KINDS[kind]).itemsize
    if min(shape, default=1) < 1 or len(shape) > 32 or len(content) != expected:
        raise CheckpointError(
            f"{path}: {show_name(name)} has {len(content):,} bytes, which is not what its shape asks for"
        )
    array = np.frombuffer(content, KINDS[kind]).reshape(shape)
    if kind == "BFloat16":
        return widen_bfloat16(array)
    return array.astype(array.dtype.newbyteorder("="))
