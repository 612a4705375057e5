"""How often each recipe fails, and how accurate it is: many seeds, one process each; `make study` runs it.

Goes on where it stopped: a run that is done counts, one that was cut off is resumed, as long as MINUTES last. Then, and
with --minutes 0 at once, all runs that are done become a table on stdout, study.json, and a picture, study.svg.

With --enough 0.9 a run is stopped after the first epoch that ends at that test accuracy or above, and counts as it is.

A run has failed where it lost a class for good (a logit of 0 for every test image), diverged, or ended below 0.80, the
bound by which the book's own builds were counted.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FAILED_BELOW = 0.80
COLORS = {"book": "C1", "dependable": "C0"}
Case = tuple[str, str]  # backend, recipe


def main() -> int:
    """Runs as long as there is time, then everything that is known."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * options.minutes
    for backend, recipe, seed in _wanted(options):
        left = ends - time.monotonic()
        if left <= 0:
            break
        _run(options, backend, recipe, seed, left)
    results = _results(options)
    (options.out / "study.json").write_text(json.dumps(results, indent=1) + "\n")
    if results:
        print(_table(results))
        (options.out / "study.svg").write_bytes(_picture(results, options.arch))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder for runs and results (%(default)s)")
    parser.add_argument("--backends", default="torch", help="with commas (%(default)s)")
    parser.add_argument("--recipes", default="book,dependable", help="with commas (%(default)s)")
    parser.add_argument("--seeds", type=_seeds, default="20", help="so many from 0 on, or FIRST-LAST (%(default)s)")
    parser.add_argument("--arch", default="nin-mnist")
    parser.add_argument("--enough", type=float, default=1.1, help="test accuracy to stop at; all epochs if not given")
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    parser.add_argument("train", nargs="*", help="after --, more arguments of `train`, for every run")
    return parser.parse_args()


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(first))


def _wanted(options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Seed after seed, so that the cases stay even wherever the time ends."""
    for seed in options.seeds:
        for backend in options.backends.split(","):
            for recipe in options.recipes.split(","):
                yield backend, recipe, seed


def _directory(options: argparse.Namespace, backend: str, recipe: str, seed: int) -> Path:
    return Path(options.out) / "runs" / f"{options.arch}-{backend}-{recipe}-s{seed}"


def _run(options: argparse.Namespace, backend: str, recipe: str, seed: int, seconds: float) -> None:
    """Begin a run, or go on with it; at the end of the time it is told to write a checkpoint and leave."""
    run = _directory(options, backend, recipe, seed)
    if _is_over(options, run):
        return
    command = [sys.executable, "-m", "nin_multi", "train", "--json"]
    if (run / "run.json").exists():
        command += ["--resume", str(run)]
    else:
        command += ["--backend", backend, "--arch", options.arch, "--recipe", recipe, "--seed", str(seed)]
        command += ["--tune", "off", "--dataset", "fashion-mnist", "--run-dir", str(run), *options.train]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        time.sleep(1.0)
        if time.monotonic() - began > seconds or _best(run) >= options.enough:
            process.send_signal(signal.SIGTERM)
            break
    out, err = process.communicate()
    if process.returncode not in (0, 1, 143):
        raise SystemExit(f"{run}: status {process.returncode}: {err.strip()[-500:]}")
    ended = json.loads(out)
    words = f"test acc {ended['test_acc']}, dead {ended['dead_classes']}"
    print(f"{run.name}: {ended['status']}, {words}, {time.monotonic() - began:.0f} s", flush=True)


def _is_over(options: argparse.Namespace, run: Path) -> bool:
    return _result(run).get("status") in ("done", "diverged") or _best(run) >= options.enough


def _best(run: Path) -> float:
    """The highest test accuracy after an epoch so far."""
    return max((event.get("test_acc") or 0.0 for event in _events(run)), default=0.0)


def _result(run: Path) -> dict[str, Any]:
    path = run / "result.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _results(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One line per run that is done."""
    rows = []
    for backend, recipe, seed in _wanted(options):
        run = _directory(options, backend, recipe, seed)
        result = _result(run)
        if result and _is_over(options, run):
            names = ("status", "epochs", "steps", "loss", "train_acc", "test_acc", "dead_classes", "train_examples")
            accuracies = [event["test_acc"] for event in _events(run) if event["event"] == "epoch"]
            facts = {name: result[name] for name in names}
            rows.append({"backend": backend, "recipe": recipe, "seed": seed, **facts, "test_accs": accuracies})
    return rows


def _events(run: Path) -> list[dict[str, Any]]:
    path = run / "events.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def has_failed(row: dict[str, Any]) -> bool:
    """As the first lines of this file say."""
    return row["status"] == "diverged" or bool(row["dead_classes"]) or row["test_acc"] < FAILED_BELOW


def _cases(rows: list[dict[str, Any]]) -> dict[Case, list[dict[str, Any]]]:
    cases: dict[Case, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cases[row["backend"], row["recipe"]].append(row)
    return cases


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| framework | recipe | epochs | seeds | failed | lost classes | test acc, lowest | median | highest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (backend, recipe), part in sorted(_cases(rows).items()):
        accuracies = [row["test_acc"] or 0.0 for row in part]
        lost = sorted(len(row["dead_classes"] or []) for row in part)
        shown = ", ".join(f"{value:.3f}" for value in (min(accuracies), statistics.median(accuracies), max(accuracies)))
        failed = sum(map(has_failed, part))
        cells = [backend, recipe, part[0]["epochs"], len(part), failed, " ".join(map(str, lost)), *shown.split(", ")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _picture(rows: list[dict[str, Any]], arch: str) -> bytes:
    """Test accuracy after each epoch, a line per seed, a panel per framework."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    backends = sorted({row["backend"] for row in rows})
    with matplotlib.rc_context({"svg.hashsalt": "nin_multi", "font.size": 8}):
        figure = Figure(figsize=(3.4 * len(backends), 2.7), layout="constrained")
        panels = figure.subplots(1, len(backends), squeeze=False, sharey=True)[0]
        for panel, backend in zip(panels, backends, strict=True):
            for (_, recipe), part in sorted(_cases([row for row in rows if row["backend"] == backend]).items()):
                for number, row in enumerate(part):
                    label = f"{recipe}, n = {len(part)}" if number == 0 else None
                    at = range(1, len(row["test_accs"]) + 1)
                    panel.plot(at, row["test_accs"], ".-", color=COLORS[recipe], alpha=0.6, linewidth=0.8, label=label)
            panel.set(title=f"{arch}, {backend}", xlabel="epoch", ylim=(0, 1))
            panel.axhline(FAILED_BELOW, color="0.5", linewidth=0.6, linestyle=":")
            panel.grid(alpha=0.3)
            panel.legend(loc="lower right")
        panels[0].set_ylabel("test accuracy")
        buffer = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
