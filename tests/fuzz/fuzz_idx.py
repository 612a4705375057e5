"""IDX files, raw and gzipped: bombs, many members, wrong headers."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from fuzz_harness import Parser, damaged, working_folder

from nin_multi.data.idx import idx_header, read_idx
from nin_multi.errors import DataError

SHAPE = (40, 28, 28)
RAW = idx_header(SHAPE) + np.arange(40 * 28 * 28, dtype=np.uint32).astype(np.uint8).tobytes()
SEEDS = [RAW, gzip.compress(RAW, mtime=0), gzip.compress(RAW, 0, mtime=0)]
BOMB = gzip.compress(RAW + bytes(30_000_000), mtime=0)
MEMBERS = gzip.compress(b"", mtime=0) * 3_000
TOKENS = [
    *(b"\x1f\x8b\x08", b"\x1f\x8b", b"\0\0\x08\x01", b"\0\0\x0d\x03", BOMB, MEMBERS, gzip.compress(RAW[:9], mtime=0)),
    *(idx_header((2**32 - 1,) * 3), idx_header((2**32 - 1,)), idx_header((40, 28)), bytes(100_000)),
]
FILE: Path = working_folder() / "train-images-idx3-ubyte.gz"


def parse(data: bytes) -> str:
    FILE.write_bytes(data)
    assert read_idx(FILE, SHAPE).shape == SHAPE
    return "accepted"


# Damage done before compressing arrives behind gzip's checksums.
PARSERS = [
    Parser(
        "idx",
        parse,
        (DataError,),
        SEEDS,
        damaged(SEEDS, TOKENS) | damaged([RAW], TOKENS).map(lambda raw: gzip.compress(raw, 1, mtime=0)),
        [token for token in TOKENS if len(token) < 64],
    )
]
