"""One IDX file, raw or gzipped, to a uint8 array of a known shape; not about which files make a data set.

The shape is known beforehand, so nothing is ever read or decompressed beyond the expected size plus one byte:
a file that claims, or unpacks to, gigabytes stops there.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nin_multi.errors import DataError

__all__ = ["content_digest", "idx_header", "read_idx"]

_GZIP_START = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_CHUNK = 1 << 18
_MOST_MEMBERS = 1_000  # of a gzip file; an empty one has 20 bytes and costs as much as a full one


def idx_header(shape: tuple[int, ...]) -> bytes:
    """The bytes with which an IDX file of unsigned bytes of this shape begins.

    Source: the format as described with the MNIST database: two zero bytes, the type, the number of
    dimensions, then each dimension as a big-endian 32-bit number.

    >>> idx_header((60000,)).hex()
    '000008010000ea60'
    """
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, _UNSIGNED_BYTE, len(shape), *shape)


def content_digest(array: NDArray[np.uint8], algorithm: str = "sha256") -> str:
    """Hexadecimal digest of the raw IDX file that holds `array`, whichever way the file was stored."""
    digest = hashlib.new(algorithm, idx_header(array.shape), usedforsecurity=False)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read the IDX file of unsigned bytes at `path`, raw or gzipped (decided by its first bytes).

    Returns an array of exactly `shape`. Raises DataError, naming the file, where it is missing, unreadable,
    truncated, damaged, or holds something of another kind, shape or length.
    """
    header = idx_header(shape)
    expected = len(header) + math.prod(shape)
    content = _read_content(path, expected + 1)
    _check_header(path, content, header)
    if len(content) < expected:
        raise DataError(f"{path} is too short: expected {expected:,} bytes of content, got {len(content):,}.")
    if len(content) > expected:
        raise DataError(f"{path} is too long: its content goes on after the expected {expected:,} bytes.")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)


def _read_content(path: Path, limit: int) -> bytearray:
    """At most `limit` bytes of the file's content."""
    if path.exists() and not path.is_file():  # a device would never end
        raise DataError(f"{path} cannot be read: it is a folder or a device.")
    try:
        stored = path.stat().st_size
        if stored > 2 * limit + (1 << 20):  # gzip adds less than 1 %; zeros behind it would be read to their end
            raise DataError(f"{path} is too long: {stored:,} bytes for at most {limit - 1:,} of content.")
        with path.open("rb") as file:
            start = file.read(len(_GZIP_START))
            file.seek(0)
            return _gunzip(file, limit) if start == _GZIP_START else bytearray(file.read(limit))
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except EOFError:
        raise DataError(
            f"{path} is truncated: its gzip stream stops short, after {path.stat().st_size:,} bytes.\n"
            "Copy or download it again."
        ) from None
    except zlib.error as error:
        raise DataError(
            f"{path} is damaged: gzip reports '{str(error).rpartition(': ')[2]}'.\nCopy or download it again."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _gunzip(file: BinaryIO, limit: int) -> bytearray:
    """Decompress until the end or until `limit` bytes; EOFError where the stream stops early.

    zlib and not the gzip module, because only zlib's `max_length` bounds what is decompressed to the byte.
    Reading on to the end of the stream also verifies gzip's own checksum and length.
    """
    content = bytearray()
    stream, pending, members = zlib.decompressobj(wbits=31), b"", 1
    while len(content) < limit:
        pending = pending or file.read(_CHUNK)
        if not pending:
            if not stream.eof:
                raise EOFError
            break
        if stream.eof:  # zero padding, or a further member as `cat a.gz b.gz` makes it
            pending = pending.lstrip(b"\0")
            if not pending:
                continue
            stream, members = zlib.decompressobj(wbits=31), members + 1
            if members > _MOST_MEMBERS:
                raise zlib.error(f": more than {_MOST_MEMBERS:,} members")
        content += stream.decompress(pending, limit - len(content))
        pending = stream.unused_data if stream.eof else stream.unconsumed_tail
    return content


def _check_header(path: Path, content: bytearray, header: bytes) -> None:
    """Magic number first, then dimensions: the two tell a wrong kind of file from a swapped one."""
    if len(content) >= 4 and content[:4] != header[:4]:
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {header[3]} dimension{'s' * (header[3] > 1)}: "
            f"expected it to begin with {header[:4].hex()}, got {content[:4].hex()}."
        )
    if len(content) >= len(header) and content[: len(header)] != header:
        raise DataError(
            f"{path} holds an array of another shape: expected {_dimensions(header)}, "
            f"got {_dimensions(bytes(content[: len(header)]))}."
        )


def _dimensions(header: bytes) -> str:
    return " x ".join(str(size) for size in struct.unpack(f">{header[3]}I", header[4:]))
