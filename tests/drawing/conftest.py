"""Looks into SVG: its words, and the pixels in it."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture
def words() -> Callable[[bytes], list[str]]:
    """What is written in a picture, in order."""
    return lambda svg: ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture
def pixels() -> Callable[[bytes], list[np.ndarray]]:
    """The images (h, w, 4) embedded in a picture."""

    def read(svg: bytes) -> list[np.ndarray]:
        found = [image.get(LINK, "") for image in ET.fromstring(svg).iter(f"{SVG}image")]
        files = [base64.b64decode(link.partition("base64,")[2]) for link in found]
        return [np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")) for file in files]

    return read
