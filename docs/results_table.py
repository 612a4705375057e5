"""Prints the results table of docs/results.md from run directories: `python docs/results_table.py RUN...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HEADINGS = ("framework", "net", "images", "seed", "loss", "train acc", "test acc", "images/s", "compute", "memory")


def row(run: Path) -> tuple[str, ...]:
    """One run's cells, as result.json has them."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    figures = (f"{result[key]:.3f}" for key in ("loss", "train_acc", "test_acc"))
    speeds = (f"{result[key]:.1f}" for key in ("examples_per_sec", "compute_examples_per_sec"))
    name = f"{result['backend']} {result['framework_version']}"
    size = f"{result['train_examples']:,} x {result['epochs']}"
    memory = f"{result['peak_memory_bytes'] / 1e9:.2f} GB"
    return name, result["arch"], size, str(result["seed"]), *figures, *speeds, memory


if __name__ == "__main__":
    for cells in (HEADINGS, ("---",) * len(HEADINGS), *(row(Path(run)) for run in sys.argv[1:])):
        print("| " + " | ".join(cells) + " |")
