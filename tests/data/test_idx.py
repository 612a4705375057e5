"""One IDX file: every way in which it can be wrong has words of its own."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from nin_multi.data import idx
from nin_multi.data.idx import content_digest, idx_header, read_idx

SHAPE = (5, 4, 3)
ARRAY = np.arange(60, dtype=np.uint8).reshape(SHAPE)
RAW = idx_header(SHAPE) + ARRAY.tobytes()
GZ = gzip.compress(RAW, mtime=0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some-file"


@pytest.mark.parametrize(
    "content",
    [
        RAW,
        GZ,
        GZ + b"\0" * 100,
        gzip.compress(RAW[:20]) + gzip.compress(RAW[20:]),
        gzip.compress(RAW, compresslevel=0),
    ],
    ids=["raw", "gz", "padded", "two-members", "stored"],
)
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_reads_raw_and_gzip_whatever_the_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    array = read_idx(tmp_path / name, SHAPE)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, ARRAY)


def test_reads_in_small_chunks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "_CHUNK", 1)
    file.write_bytes(gzip.compress(RAW[:30]) + b"\0\0\0" + gzip.compress(RAW[30:]) + b"\0")
    np.testing.assert_array_equal(read_idx(file, SHAPE), ARRAY)


def test_missing(file: Path, refused) -> None:
    with refused(str(file), "is missing"):
        read_idx(file, SHAPE)


def test_unreadable(tmp_path: Path, refused) -> None:
    with refused(str(tmp_path), "cannot be read"):
        read_idx(tmp_path, SHAPE)


@pytest.mark.parametrize("cut", [2, 5, 15, len(GZ) // 2, len(GZ) - 8, len(GZ) - 1])
def test_truncated_gzip(file: Path, cut: int, refused) -> None:
    file.write_bytes(GZ[:cut])
    with refused(str(file), "truncated"):
        read_idx(file, SHAPE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GZ[:-8] + bytes([GZ[-8] ^ 1]) + GZ[-7:], "incorrect data check"),
        (GZ[:-1] + bytes([GZ[-1] ^ 1]), "incorrect length check"),
        (GZ[:10] + b"\xff" + GZ[11:], "invalid block type"),
        (GZ + b"something else", "incorrect header check"),
    ],
)
def test_damaged_gzip(file: Path, content: bytes, words: str, refused) -> None:
    file.write_bytes(content)
    with refused(str(file), "damaged", words):
        read_idx(file, SHAPE)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
class TestContent:
    def test_wrong_magic(self, file: Path, pack, refused) -> None:
        file.write_bytes(pack(b"PK\x03\x04" + RAW[4:]))
        with refused("not an IDX file", "00000803", "504b0304"):
            read_idx(file, SHAPE)

    def test_labels_where_images_are_expected(self, file: Path, pack, refused) -> None:
        file.write_bytes(pack(idx_header((60,)) + ARRAY.tobytes()))
        with refused("3 dimensions", "00000803", "00000801"):
            read_idx(file, SHAPE)

    def test_wrong_dimensions(self, file: Path, pack, refused) -> None:
        file.write_bytes(pack(idx_header((5, 3, 4)) + ARRAY.tobytes()))
        with refused("another shape", "expected 5 x 4 x 3", "got 5 x 3 x 4"):
            read_idx(file, SHAPE)

    @pytest.mark.parametrize("length", [0, 3, 10, 16, 75])
    def test_too_short(self, file: Path, pack, length: int, refused) -> None:
        file.write_bytes(pack(RAW[:length]))
        with refused("too short", "expected 76", f"got {length}"):
            read_idx(file, SHAPE)

    def test_too_long(self, file: Path, pack, refused) -> None:
        file.write_bytes(pack(RAW + b"\0"))
        with refused("too long", "76 bytes"):
            read_idx(file, SHAPE)


def test_gzip_bomb_stops_at_the_expected_size(file: Path, monkeypatch: pytest.MonkeyPatch, refused) -> None:
    file.write_bytes(gzip.compress(RAW + bytes(50_000_000)))
    assert file.stat().st_size < 100_000
    unpacked = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.stream = real(wbits)

        def __getattr__(self, name: str):
            return getattr(self.stream, name)

        def decompress(self, data: bytes, limit: int) -> bytes:
            content = self.stream.decompress(data, limit)
            unpacked.append(len(content))
            return content

    monkeypatch.setattr(idx.zlib, "decompressobj", Counting)
    with refused("too long"):
        read_idx(file, SHAPE)
    assert sum(unpacked) == len(RAW) + 1


def test_members_without_end(file: Path, refused) -> None:
    file.write_bytes(gzip.compress(b"", mtime=0) * 2_000 + GZ)
    with refused(str(file), "damaged", "more than 1,000 members"):
        read_idx(file, SHAPE)


@pytest.mark.parametrize("start", [RAW, GZ, b""], ids=["raw", "gzip", "zeros"])
def test_a_sparse_file_is_not_read_to_its_end(file: Path, start: bytes, refused) -> None:
    with file.open("wb") as sparse:
        sparse.write(start)
        sparse.truncate(10**12)
    with refused(str(file), "too long", "1,000,000,000,000 bytes"):
        read_idx(file, SHAPE)


def test_a_pipe(file: Path, refused) -> None:
    os.mkfifo(file)
    with refused(str(file), "cannot be read", "a folder or a device"):
        read_idx(file, SHAPE)


def test_digest_is_that_of_the_raw_file() -> None:
    import hashlib

    assert content_digest(ARRAY) == hashlib.sha256(RAW).hexdigest()
    assert content_digest(ARRAY, "md5") == hashlib.md5(RAW).hexdigest()
