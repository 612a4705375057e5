"""How much memory a net really takes in training and in prediction, a process per case: docs/studies/memory.json.

    python tools/measure_memory.py --backends torch,mindspore,mxnet --arch nin-mnist,nin --batch-sizes 32,128

What counts is how far the process's resident memory grows at its most, from when the framework is loaded and nothing of
the net is there: the net, its batch and its dropout masks, a few steps (or predictions), whatever the framework sets up
for them. A case that is in the file is not measured again. The habits of each framework (nin_multi.footprint) are
fitted anew to what is there. docs/exercises/resources.md shows both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nin_multi import launcher, machine, randomness, registry
from nin_multi.architecture_file import load_architecture
from nin_multi.files import write_bytes
from nin_multi.footprint import Load, fit_habits, load_of

STORE = Path(__file__).parents[1] / "docs" / "studies" / "memory.json"
FITTED_ON = ("nin-mnist", "nin", "alexnet")  # the others show what the fit is worth
CASE = ("backend", "arch", "what", "batch_size", "precision", "set")
STEPS = 3
Row = dict[str, Any]


def main() -> int:
    """Every case that is not known yet, each in a process of its own."""
    options = _options()
    if options.case is not None:
        print(json.dumps(measure(json.loads(options.case))))
        return 0
    for case in _cases(options):
        rows = _rows(options.store)
        if any(all(row[name] == case[name] for name in CASE) for row in rows):
            continue
        row = _in_a_process(case)
        print(f"{' '.join(map(str, case.values()))}: {row['growth_bytes'] / 1e6:.0f} MB", flush=True)
        _write(options.store, [*rows, row])
    if rows := _rows(options.store):
        _write(options.store, rows)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch,mindspore,mxnet", help="with commas (%(default)s)")
    parser.add_argument("--arch", default="nin-mnist,nin", help="of the zoo, with commas (%(default)s)")
    parser.add_argument("--what", default="training,prediction", help="with commas (%(default)s)")
    parser.add_argument("--batch-sizes", default="32,128", help="with commas (%(default)s)")
    parser.add_argument("--precision", default="fp32", help="(%(default)s)")
    parser.add_argument("--set", default="", help="knobs, such as micro_batch=all; with commas")
    parser.add_argument("--store", type=Path, default=STORE, help="the file of results (%(default)s)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> Iterator[Row]:
    for backend in options.backends.split(","):
        for arch in options.arch.split(","):
            for what in options.what.split(","):
                for size in options.batch_sizes.split(","):
                    values = (backend, arch, what, int(size), options.precision, options.set)
                    yield dict(zip(CASE, values, strict=True))


def _in_a_process(case: Row) -> Row:
    environment = launcher.environment_for(case["backend"], case["precision"], _knobs(case["set"]))
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case}: status {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _knobs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def measure(case: Row) -> Row:
    """The growth, and what it was measured on. In this very process, which should hold nothing else."""
    backend = registry.load(case["backend"])
    architecture = load_architecture(case["arch"])
    version, device = backend.version(), "cpu"
    held = _begin()
    params = randomness.initial_parameters(architecture, 0, "he")
    place = {"device": device, "precision": case["precision"], "seed": None}
    net = backend.build(architecture, params, **place, tuning=_knobs(case["set"]) or None)
    x = np.zeros((case["batch_size"], *architecture.input), np.float32)
    x += np.linspace(0, 1, x[0].size, dtype=np.float32).reshape(x.shape[1:])
    y = np.arange(len(x), dtype=np.int32) % architecture.classes
    seconds = []
    for step in range(STEPS):
        began = time.perf_counter()
        if case["what"] == "training":
            net.train_step(x, y, randomness.dropout_masks(architecture, len(x), 0, step), 0.001, 0.9)
        else:
            net.logits(x)
        seconds.append(round(time.perf_counter() - began, 4))
    growth = machine.peak_memory_bytes() - held
    tuning = dict(getattr(net, "tuning", {}))
    facts = {"tuning": tuning, "growth_bytes": growth, "held_before_bytes": held, "seconds": seconds}
    about = {"versions": machine.versions(backend.name, version), "machine": machine.describe()}
    return {**case, **facts, **about, "measured": time.strftime("%Y-%m-%d", time.gmtime())}


def _begin() -> int:
    """What the process holds now; its peak is counted anew from here on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return machine.resident_memory_bytes()


def _rows(store: Path) -> list[Row]:
    return list(json.loads(store.read_text())["rows"]) if store.exists() else []


def _write(store: Path, rows: list[Row]) -> None:
    """A row a line, sorted: what two machines measured merges."""
    store.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: [str(row[name]) for name in CASE])
    lines = ",\n".join(json.dumps(row) for row in ordered)
    head = f'"fitted_on": {json.dumps(FITTED_ON)},\n"habits": {json.dumps(_habits(rows))}'
    write_bytes(store, f'{{{head},\n"rows": [\n{lines}\n]}}\n'.encode())


def _habits(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """By framework, and of training and of prediction, where enough is known; in float32."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for backend, what in sorted({(row["backend"], row["what"]) for row in rows}):
        chosen = [row for row in rows if (row["backend"], row["what"], row["precision"]) == (backend, what, "fp32")]
        chosen = [row for row in chosen if row["arch"] in FITTED_ON]
        with contextlib.suppress(ValueError):
            habits = fit_habits([load(row) for row in chosen], [row["growth_bytes"] for row in chosen])
            found.setdefault(backend, {})[what] = asdict(habits)
    return found


def load(row: Row) -> Load:
    """What a row's net had to hold."""
    size = row["tuning"]["micro_batch"]
    images = row["batch_size"] if size == "all" else min(int(size), row["batch_size"])
    return load_of(load_architecture(row["arch"]), images, row["batch_size"])


if __name__ == "__main__":
    sys.exit(main())
