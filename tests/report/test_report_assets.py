from __future__ import annotations

import hashlib
import re
from pathlib import Path

ASSETS = Path(__file__).parents[2] / "nin_multi" / "report" / "assets"


def test_the_vendored_file_is_the_one_that_was_published() -> None:
    told = re.findall(r"SHA-256[^|]*\| `([0-9a-f]{64})`", (ASSETS / "VENDORED.md").read_text(encoding="utf-8"))
    files = ("plotly-basic.min.js", "plotly-basic.LICENSE")
    assert told == [hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() for name in files]


def test_every_script_can_stand_inside_a_page() -> None:
    """Nothing in it ends the element, and its hash is that of the text that a browser sees."""
    for path in ASSETS.glob("*.js"):
        text = path.read_bytes().decode("utf-8")
        assert not re.search(r"</script|<!--|\r|\0", text, re.IGNORECASE), path.name


def test_our_own_scripts_never_make_markup_of_text() -> None:
    for name in ("page.js", "theme.js"):
        text = (ASSETS / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
