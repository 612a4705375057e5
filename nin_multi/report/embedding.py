"""Putting foreign text into a page so that it can do nothing there: JSON, pictures, code; not the page itself."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any

from markupsafe import Markup

# In a script element "</script" would end it and "<!--" change how it is read; U+2028 ends lines in older JavaScript.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever strings are in it; what is no number becomes null."""
    text = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def picture_address(svg: Any) -> str:
    """An SVG as the address of an image: no script of it runs, nothing of it is loaded, its ids are its own."""
    text = str(svg or "").strip()
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}" if text else ""


def script_hash(script: str) -> str:
    """What a Content-Security-Policy calls this script, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def highlighted(source: str) -> Markup:
    """Python source as HTML: spans with classes of page.css, everything escaped."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return Markup(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True, classprefix="hl-")))
