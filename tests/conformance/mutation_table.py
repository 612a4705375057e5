"""Prints where each backend's last run found each mutation; exit status 1 if one survived or was not tried."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mutations import FRAMEWORKS, MISSING, SURVIVED, Row, lay_out, set_side_by_side

# Where pytest's cache keeps what tests/conformance/conftest.py sets.
CACHE = Path(__file__).parents[2] / ".pytest_cache" / "v" / "nin_multi" / "mutations"


def main() -> int:
    rows = set_side_by_side({framework: read_rows(CACHE / framework) for framework in FRAMEWORKS})
    for line in lay_out(("mutation", *FRAMEWORKS), rows):
        print(line)
    planted = [cell for _, *cells in rows for cell in cells if cell != "-"]
    found = [cell for cell in planted if cell not in (SURVIVED, MISSING)]
    print(f"{len(rows)} mutations in {len(FRAMEWORKS)} adapters: {len(found)} of {len(planted)} found")
    return 0 if len(found) == len(planted) else 1


def read_rows(path: Path) -> list[Row]:
    """What one backend's run has stored; nothing where none was."""
    return json.loads(path.read_text()) if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
