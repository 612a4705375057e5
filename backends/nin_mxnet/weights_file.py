"""A file of named arrays (.params) in and out; not which layer a name belongs to.

`Block.save_parameters`, `export` and `mx.nd.save` write it, little-endian throughout:

    uint64 0x112, uint64 0, uint64 number of arrays, then for each
        uint32 0xF993FAC9, int32 storage (0: dense), uint32 axes, int64 length of each,
        int32 device, int32 its number, int32 kind of number, the numbers
    uint64 number of names, then for each uint64 length, UTF-8

Written with NumPy's semantics of shapes, an array begins with 0xF993FACA; the rest is the same. `mx.nd.load` (1.9.1)
believes the counts it finds: one altered byte has it fill gigabytes. Here each is held against the file's size
first. MXNet itself is not needed for any of this.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Params
from nin_multi.errors import CheckpointError, show_name
from nin_multi.files import read_whole, refuse_pickle, write_bytes
from nin_multi.named_arrays import unreadable_kind, widen_bfloat16

LIST, ARRAY, NUMPY_ARRAY = 0x112, 0xF993FAC9, 0xF993FACA
CPU = 1
FLOAT32, BFLOAT16 = 0, 12
KINDS = {FLOAT32: "<f4", 1: "<f8", 2: "<f2", BFLOAT16: "<u2"}
OTHERS = {3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool", 8: "int16", 9: "uint16", 10: "uint32", 11: "uint64"}


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by the file's names, in its order. Raises CheckpointError for all but a whole file of dense arrays."""
    refuse_pickle(path)
    file = _Reader(path, read_whole(path))
    if file.numbers("<QQ") != (LIST, 0):
        raise CheckpointError(f"{path}: not a file of named arrays, as save_parameters writes it")
    found = [_array(file, index) for index in range(file.count())]
    names = [file.text() for _ in range(file.count())]
    if not file.at_end() or len(names) != len(found):
        raise CheckpointError(f"{path}: {len(found)} arrays and {len(names)} names, or more after them; file altered?")
    named: dict[str, NDArray[Any]] = {}
    for name, (kind, array) in zip(names, found, strict=True):
        if array is None:
            raise unreadable_kind(path, name, kind)
        if name in named:
            raise CheckpointError(f"{path}: two arrays are called {show_name(name)}")
        named[name] = array
    return named


def write(path: Path, named: Params) -> None:
    """Dense float32 arrays, as `save_parameters` writes them. Raises RunError."""
    parts = [struct.pack("<QQQ", LIST, 0, len(named))]
    for value in named.values():
        parts.append(struct.pack(f"<IiI{value.ndim}q", ARRAY, 0, value.ndim, *value.shape))
        parts.append(struct.pack("<iii", CPU, 0, FLOAT32))
        parts.append(np.ascontiguousarray(value, "<f4").tobytes())
    parts.append(struct.pack("<Q", len(named)))
    for name in named:
        parts += [struct.pack("<Q", len(name.encode())), name.encode()]
    write_bytes(path, b"".join(parts))


def _array(file: _Reader, index: int) -> tuple[str, NDArray[Any] | None]:
    """The array, or for numbers that are none of ours what they are: a name to say it with comes later."""
    magic, storage, axes = file.numbers("<IiI")
    if magic not in (ARRAY, NUMPY_ARRAY) or storage != 0 or axes > 32:
        raise CheckpointError(f"{file.path}: array {index + 1} is sparse, damaged, or from MXNet before 1.0")
    if axes == 0 and magic == ARRAY:  # in that semantics no number, but an array that was never filled
        return "nothing", None
    shape = file.numbers(f"<{axes}q")
    _, _, flag = file.numbers("<iii")
    if flag in OTHERS:
        file.take(_size(shape) * np.dtype(OTHERS[flag]).itemsize)
        return OTHERS[flag], None
    if flag not in KINDS:
        raise CheckpointError(f"{file.path}: array {index + 1} has an unknown kind of numbers ({flag})")
    kind = np.dtype(KINDS[flag])
    array = np.frombuffer(file.take(_size(shape) * kind.itemsize), kind).reshape(shape)
    if flag == BFLOAT16:
        return "", widen_bfloat16(array)
    return "", array.astype(kind.newbyteorder("="))


def _size(shape: tuple[int, ...]) -> int:
    """How many numbers; beyond any file where a length is none."""
    return math.prod(shape) if min(shape, default=1) > 0 else 2**63


class _Reader:
    """Takes bytes one after another, and never more than there are."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._rest = memoryview(content)

    def take(self, count: int) -> memoryview:
        if count > len(self._rest):
            raise CheckpointError(f"{self.path}: not a whole file of named arrays: {count:,} bytes more expected")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def count(self) -> int:
        return self.numbers("<Q")[0]

    def text(self) -> str:
        try:
            return bytes(self.take(self.count())).decode()
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: a name in it is not UTF-8") from None

    def at_end(self) -> bool:
        return not len(self._rest)
