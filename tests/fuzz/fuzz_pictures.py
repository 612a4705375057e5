"""Pictures of every format that is opened, and PNGs with whole checksums around what they claim."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from fuzz_harness import Parser, damaged, working_folder
from hypothesis import strategies as st
from PIL import Image

from nin_multi.data.pictures import read_picture
from nin_multi.errors import DataError

GREY = (np.add.outer(np.arange(30), np.arange(40)) % 256).astype(np.uint8)
KINDS = {
    "PNG": ("L", "RGBA", "LA", "P", "1", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("P",),
    "BMP": ("L", "RGB"),
    "TIFF": ("L", "RGBA", "CMYK", "I;16", "F", "LAB", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("L", "RGB", "1"),
}


def _file(form: str, mode: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(GREY)
    if mode in ("I;16", "F"):
        picture = Image.fromarray(GREY.astype(np.uint16 if mode != "F" else np.float32))
    elif mode == "LAB":
        picture = Image.merge("LAB", [picture] * 3)
    else:
        picture = picture.convert(mode)
    extra = {"transparency": 3} if (form, mode) in (("GIF", "P"), ("PNG", "P")) else {}
    picture.save(buffer, form, **extra)  # type: ignore[arg-type]
    return buffer.getvalue()


SEEDS = [_file(form, mode) for form, modes in KINDS.items() for mode in modes]
TOKENS = [
    *(
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"IDAT",
        b"IEND",
        b"iCCP",
        b"zTXt",
        b"eXIf",
        b"acTL",
        b"fdAT",
        b"pHYs",
        b"\xff\xd8\xff",
    ),
    *(
        b"\xff\xe1\x00\x10Exif\0\0",
        b"\xff\xc0",
        b"\xff\xda",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"RIFF",
        b"WEBPVP8X",
    ),
    *(b"P5 100000 100000 255\n", b"P6 1 1 65535\n", b"P7\n", b"Pf 3 3 -1\n", b"99999 99999", b"\0\1\x86\xa0", b"%!PS"),
]
FILE = working_folder() / "picture"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(sizes: tuple[int, int], head: tuple[int, int, int], chunks: list[tuple[bytes, bytes]], pixels: bytes) -> bytes:
    begin = struct.pack(">IIBBBBB", *sizes, head[0], head[1], 0, 0, head[2])
    inside = b"".join(_chunk(*chunk) for chunk in chunks)
    body = _chunk(b"IHDR", begin) + inside + _chunk(b"IDAT", zlib.compress(pixels, 1)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


_SIDES = st.integers(0, 300) | st.sampled_from([1, 28, 7_000, 10**5, 2**31 - 1, 2**32 - 1])
_HEADS = st.tuples(st.sampled_from([0, 1, 2, 4, 8, 16, 32]), st.sampled_from([0, 2, 3, 4, 6, 7]), st.integers(0, 2))
_NAMES = st.sampled_from(
    [b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"sRGB"]
)
_BODIES = st.binary(max_size=40) | st.sampled_from([bytes(768), bytes(range(256)) * 3, zlib.compress(bytes(10**7))])
PNGS = st.builds(
    _png,
    st.tuples(_SIDES, _SIDES),
    _HEADS,
    st.lists(st.tuples(_NAMES, _BODIES), max_size=3),
    st.sampled_from([b"", bytes(10**4), bytes(range(256)) * 400, bytes(10**7)]),
)


def parse(data: bytes) -> str:
    FILE.write_bytes(data)
    assert read_picture(FILE).image.shape == (28, 28)
    return "accepted"


PARSERS = [Parser("pictures", parse, (DataError,), SEEDS, damaged(SEEDS, TOKENS) | PNGS, TOKENS)]
