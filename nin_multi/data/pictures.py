"""A photograph or drawing of a garment made into an image as the data set has them; not what a net says of it.

Fashion-MNIST's images are grey, 28 x 28, the garment bright on a black ground. A shop's photograph is coloured, large,
and dark on white. Whoever wants a fair answer lets the garment fill the picture, as it does in the data set.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nin_multi.data.resize import resize
from nin_multi.errors import DataError

__all__ = ["Picture", "read_picture"]

SIDE = 28
LIMIT = 50_000_000  # pixels: the largest cameras stay below, and decoding takes a second and half a gigabyte
BAND = 1 << 22  # pixels made grey at a time
# Only these: for other suffixes Pillow may start a program, such as Ghostscript.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")

Grey = NDArray[np.uint8]  # (h, w), 0 black to 255 white


@dataclass(frozen=True)
class Picture:
    """An image uint8 (28, 28), bright on dark, and whether the picture had to be inverted for that."""

    image: Grey
    inverted: bool


def read_picture(path: Path, invert: bool | None = None) -> Picture:
    """Read a picture file: grey, bright on dark, 28 x 28 with its aspect kept and padded with its ground.

    `invert` None decides by the mean brightness of the border. A grey picture of 28 x 28 that is not inverted comes
    back pixel for pixel. Of several frames the first counts; transparent places become ground; a camera's rotation is
    undone. Raises DataError for what is no picture, damaged, or larger than 50 megapixels.
    """
    picture = _decode(path)
    on_white = _to_grey(picture, 255, path)
    _check_shape(on_white, path)
    inverted = _is_on_light_ground(on_white) if invert is None else invert
    grey = np.invert(on_white) if inverted else _to_grey(picture, 0, path)  # 255 - value
    return Picture(_fit(grey), inverted)


def _decode(path: Path) -> Image.Image:
    """The first frame with its pixels, upright."""
    if path.exists() and not path.is_file():  # a device would never end
        raise DataError(f"{path}: expected a picture file, got a folder or a device")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notices about odd metadata; what matters is checked here
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(picture, path)
                picture.load()
                return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: no picture; expected one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise DataError(_too_large(path, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels")) from None
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise anything: OSError, SyntaxError, ValueError, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: damaged, or not wholly there ({reason})") from None


def _check_size(picture: Image.Image, path: Path) -> None:
    """Before anything is decoded: a few bytes can promise any size."""
    width, height = picture.size
    if width * height > LIMIT:
        raise DataError(_too_large(path, f"{width:,} x {height:,}"))


def _too_large(path: Path, size: str) -> str:
    return f"{path}: expected at most {LIMIT // 10**6} megapixels, got {size}; make it smaller"


def _check_shape(grey: Grey, path: Path) -> None:
    height, width = grey.shape
    if max(height, width) > SIDE * min(height, width):
        raise DataError(f"{path}: {width:,} x {height:,} is too narrow: at {SIDE} x {SIDE} nothing is left of it")


def _to_grey(picture: Image.Image, ground: int, path: Path) -> Grey:
    """Brightness as Pillow's "L" has it, on a ground of this brightness where the picture is transparent."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _from_wide(picture, path)
    width, height = picture.size
    grey = np.empty((height, width), np.uint8)
    rows = max(1, BAND // width)
    try:
        for top in range(0, height, rows):  # a band at a time: its copies in other kinds are many times as large
            band = picture.crop((0, top, width, min(top + rows, height)))
            grey[top : top + rows] = np.asarray(_band_to_grey(band, ground))
    except ValueError as error:  # a kind with a transparency that it cannot have
        raise DataError(f"{path}: a picture of a kind that cannot be made grey ({error})") from None
    return grey


def _band_to_grey(picture: Image.Image, ground: int) -> Image.Image:
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        below = Image.new("RGBA", clear.size, (ground, ground, ground, 255))
        picture = Image.alpha_composite(below, clear)
    # By way of RGB, because not every kind has its own way to grey: a grey pixel keeps its value to the bit.
    return picture if picture.mode == "L" else picture.convert("RGB").convert("L")


def _from_wide(picture: Image.Image, path: Path) -> Grey:
    """16 bits to 8, which Pillow cuts off at 255 instead."""
    wide = np.asarray(picture)  # (h, w)
    if wide.dtype.kind == "f" or wide.min() < 0 or wide.max() > 65535:
        raise DataError(f"{path}: expected 8 or 16 bits a channel, got 32; save it as PNG or JPEG")
    grey: Grey = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return grey


def _is_on_light_ground(grey: Grey) -> bool:
    """By the mean of the border.

    A picture of 28 x 28 may be one of the data set's own, and there garments touch the border, bags above all: it has
    to be lighter than they make it.
    """
    lightest = 192 if grey.shape == (SIDE, SIDE) else 128
    return bool(_border(grey).mean() >= lightest)


def _border(grey: Grey) -> Grey:
    """The pixels of a frame as wide as one pixel will be at 28 x 28."""
    wide = max(1, round(min(grey.shape) / SIDE))
    inside = np.zeros(grey.shape, bool)
    inside[wide:-wide, wide:-wide] = True
    border: Grey = grey[~inside]
    return border


def _fit(grey: Grey) -> Grey:
    """To 28 x 28, the longer side filled; beside it the border's median."""
    longer = max(grey.shape)
    height, width = (max(1, round(SIDE * side / longer)) for side in grey.shape)
    small = resize(grey[np.newaxis], (height, width))[0]
    fitted = np.full((SIDE, SIDE), np.uint8(np.median(_border(grey))), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    fitted[top : top + height, left : left + width] = small
    return fitted
