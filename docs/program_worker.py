"""Runs the pieces of one framework's program as the chapter comes to them, in a process of its own; not which pieces.

A line on standard input names a file with Python; a line on standard output says what it printed, as JSON. The files
are real ones since MindSpore compiles functions by reading their source again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType


def run(path: Path, program: ModuleType) -> dict[str, str]:
    """Execute one piece after those before it: what it printed, and what went wrong."""
    printed, failure = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(program))
        except Exception:
            failure = traceback.format_exc()
    return {"printed": printed.getvalue(), "failure": failure}


def main() -> None:
    """Answer until standard input ends. What frameworks write to descriptor 1 by themselves goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    program = sys.modules["program"] = ModuleType("program")
    for line in sys.stdin:
        print(json.dumps(run(Path(line.rstrip("\n")), program)), file=answers, flush=True)


if __name__ == "__main__":
    main()
