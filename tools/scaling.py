"""How training scales with workers: measured with one and two on this machine, by a model past it.

    python tools/scaling.py measure --backends torch,mindspore,mxnet --arch nin-mnist --rounds 3 --steps 12
    python tools/scaling.py table
    python tools/scaling.py model

`measure` runs `nin_multi train` as anybody would, on Fashion-MNIST: one worker on one core, one worker on two cores,
two workers on a core each; round after round, so that noise of the machine hits all alike, and each round begins with
another. Ratios are taken within a round. With torch, it also times the sum of the gradients alone, between two
processes. Its results are docs/studies/scaling.json, which `table` shows; `model` is tools/scaling_model.py.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import scaling_model as model

from nin_multi import launcher, machine
from nin_multi.backend import cores
from nin_multi.files import write_json

STORE = Path(__file__).parents[1] / "docs" / "studies" / "scaling.json"
WAYS = {"one core": (1, 1), "two cores": (1, 2), "two workers": (2, 2)}  # workers, cores
RATIOS = (("two workers", "one core"), ("two cores", "one core"), ("two workers", "two cores"))
SPEEDS = ("examples_per_sec", "compute_examples_per_sec")
KEPT = (*SPEEDS, "first_step_seconds", "peak_memory_bytes")
WARM, TIMES = 3, 20  # exchanges that do not count, and that do
Row = dict[str, Any]


def main() -> int:
    """Measure, or show what was measured, or what the model expects."""
    options = _options()
    if options.command == "exchange":
        print(json.dumps(_exchange(options.bytes)))
    elif options.command == "model":
        print("\n\n".join(model.tables(_assumed(options))))
    elif options.command == "table":
        print("\n\n".join(tables(json.loads(options.json.read_text()))))
    else:
        measured = _measure(options)
        print("\n\n".join(tables(measured)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="measure|table|model")
    measure = commands.add_parser("measure", help="real runs, on this machine")
    measure.add_argument("--backends", default="torch,mindspore,mxnet", help="with commas (%(default)s)")
    measure.add_argument("--arch", default="nin-mnist", help="(%(default)s)")
    measure.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    measure.add_argument("--steps", type=int, default=12, help="of every run (%(default)s)")
    measure.add_argument("--batch-size", type=int, default=128, help="of all workers together (%(default)s)")
    measure.add_argument("--json", type=Path, default=STORE, help="the file of results (%(default)s)")
    table = commands.add_parser("table", help="what was measured, as Markdown")
    table.add_argument("--json", type=Path, default=STORE, help="the file of results (%(default)s)")
    assumed = model.Assumptions()
    words = commands.add_parser("model", help="what to expect of more, by assumptions, as Markdown")
    words.add_argument("--arch", default=assumed.arch, help="(%(default)s)")
    words.add_argument("--batch-size", type=int, default=assumed.batch, help="(%(default)s)")
    words.add_argument("--images-per-sec", type=float, default=assumed.gpu.images_per_sec, help="a GPU's (%(default)s)")
    words.add_argument("--floor-ms", type=float, default=1e3 * assumed.gpu.floor, help="of a GPU's step (%(default)s)")
    words.add_argument(
        "--cpu-images-per-sec",
        default=",".join(f"{name}={speed}" for name, speed in assumed.cpus),
        help="a machine's, with commas (%(default)s)",
    )
    words.add_argument(
        "--prepared-per-sec", type=float, default=assumed.prepared_per_sec, help="images and masks (%(default)s)"
    )
    exchange = commands.add_parser("exchange")
    exchange.add_argument("--bytes", type=int, required=True)
    return parser.parse_args()


def _assumed(options: argparse.Namespace) -> model.Assumptions:
    pairs = (pair.split("=", 1) for pair in options.cpu_images_per_sec.split(","))
    cpus = tuple((name, float(speed)) for name, speed in pairs)
    gpu = model.Work(options.images_per_sec, options.floor_ms / 1e3)
    return model.Assumptions(options.arch, options.batch_size, gpu, cpus, options.prepared_per_sec)


def _measure(options: argparse.Namespace) -> Row:
    here = sorted(os.sched_getaffinity(0))[:2]
    if len(here) < 2:
        raise SystemExit(f"two cores are needed, and this process may use {cores()}")
    sizes = {arch: model.gradient_bytes(arch) for arch in dict.fromkeys((options.arch, "nin"))}
    found: Row = {
        "arch": options.arch,
        "batch_size": options.batch_size,
        "steps": options.steps,
        "gradient_bytes": sizes,
        "machine": machine.describe(),
        "versions": {},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "runs": [],
        "exchanges": [],
    }
    backends = options.backends.split(",")
    for number in range(options.rounds):
        for backend in backends:
            names = list(WAYS)
            first = number % len(names)
            for name in names[first:] + names[:first]:
                workers, count = WAYS[name]
                on = here if count == 2 else [here[number % 2]]
                busy = machine.load()
                figures, versions = _train(backend, workers, on, options)
                found["versions"][backend] = versions
                row = {"round": number, "backend": backend, "way": name, "cores": on, "load_before": busy, **figures}
                found["runs"].append(row)
                print(f"round {number}: {backend}, {name}: {row['examples_per_sec']:.1f} images/s", flush=True)
        if "torch" in backends:
            for arch, size in sizes.items():
                seconds = _exchange_here(size, here)
                found["exchanges"].append({"round": number, "arch": arch, "bytes": size, "seconds": seconds})
        write_json(options.json, found)
    return found


def _train(backend: str, workers: int, on: Sequence[int], options: argparse.Namespace) -> tuple[Row, Row]:
    """The figures of a run, and its versions."""
    with tempfile.TemporaryDirectory(prefix="nin_multi-scaling-") as name:
        run = Path(name) / "run"
        command = [
            *(sys.executable, "-m", "nin_multi", "train", "--json"),
            *("--backend", backend, "--arch", options.arch, "--workers", str(workers)),
            *("--dataset", "fashion-mnist", "--train-examples", str(options.steps * options.batch_size)),
            *("--test-examples", str(options.batch_size), "--batch-size", str(options.batch_size)),
            # Knobs are not tried for several workers, and so for none; the clock of a step is not to meet a checkpoint.
            *("--epochs", "1", "--tune", "off", "--checkpoint-every", "epoch", "--run-dir", str(run)),
        ]
        printed = _run(command, launcher.plain_environment(), on)
        result = json.loads(printed)
        facts = json.loads((run / "run.json").read_text())
    if facts["workers"] != workers:
        raise SystemExit(f"{backend}: {facts['workers']} workers trained, not {workers}")
    return {key: result[key] for key in KEPT}, facts["versions"]


def _run(command: Sequence[str], environment: dict[str, str], on: Sequence[int]) -> str:
    start = partial(_begin, on)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=start, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nstatus {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _begin(on: Sequence[int]) -> None:
    os.sched_setaffinity(0, on)
    launcher.end_with_parent()


def _exchange_here(size: int, here: Sequence[int]) -> float:
    """Seconds of one sum between two processes on a core each; the median."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank, core in enumerate(here):
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment = {**launcher.environment_for("torch"), "OMP_NUM_THREADS": "1", **place}
        command = [sys.executable, __file__, "exchange", "--bytes", str(size)]
        start = partial(_begin, [core])
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=start)
        )
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("the exchange alone failed; see above")
    return float(statistics.median(json.loads(printed[0])))


def _exchange(size: int) -> list[float]:
    """Seconds of each sum, one of two processes; what its environment says is which."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    values, seconds = torch.ones(size // model.FLOAT32), []
    for _ in range(WARM + TIMES):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(values)
        seconds.append(time.perf_counter() - began)
    dist.destroy_process_group()
    return seconds[WARM:]


def tables(found: Row) -> Iterator[str]:
    """What was measured, as Markdown: medians over rounds, with the lowest and highest."""
    rounds = sorted({row["round"] for row in found["runs"]})
    yield (
        f"`{found['arch']}`, global batch {found['batch_size']}, {found['steps']} steps a run, {len(rounds)} rounds, "
        f"{found['measured']}; {found['machine']['processor']}, {found['machine']['cores']} cores."
    )
    backends = list(dict.fromkeys(row["backend"] for row in found["runs"]))
    for key, title in zip(SPEEDS, ("Images/s, end to end:", "Images/s, the steps alone:"), strict=True):
        yield _speeds(found, backends, key, title)
    if found["exchanges"]:
        yield _exchanges(found)


def _speeds(found: Row, backends: Sequence[str], key: str, title: str) -> str:
    lines = [title, "", "| | " + " | ".join(WAYS) + " | " + " | ".join(f"{a} / {b}" for a, b in RATIOS) + " |"]
    lines.append("|---" * (1 + len(WAYS) + len(RATIOS)) + "|")
    for backend in backends:
        speeds = {name: _by_round(found, backend, name, key) for name in WAYS}
        cells = [f"{statistics.median(speeds[name].values()):,.1f}" for name in WAYS]
        for top, bottom in RATIOS:
            cells.append(_spread(ratios(speeds[top], speeds[bottom])))
        lines.append(f"| {backend} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _by_round(found: Row, backend: str, way: str, key: str) -> dict[int, float]:
    return {row["round"]: row[key] for row in found["runs"] if (row["backend"], row["way"]) == (backend, way)}


def ratios(top: dict[int, float], bottom: dict[int, float]) -> list[float]:
    """Within each round that has both."""
    return [top[number] / bottom[number] for number in sorted(top.keys() & bottom.keys())]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _exchanges(found: Row) -> str:
    """The sum of gradients alone, and what the model makes of two workers with it."""
    lines = ["One sum of all gradients, gloo, two processes on a core each:", ""]
    lines += ["| net | bytes | ms |", "|---|---|---|"]
    medians = {}
    for arch, size in found["gradient_bytes"].items():
        seconds = [row["seconds"] for row in found["exchanges"] if row["arch"] == arch]
        medians[arch] = statistics.median(seconds)
        low, high = 1e3 * min(seconds), 1e3 * max(seconds)
        lines.append(f"| {arch} | {size:,} | {1e3 * medians[arch]:.2f} ({low:.2f} to {high:.2f}) |")
    alone = _by_round(found, "torch", "one core", "compute_examples_per_sec")
    step = found["batch_size"] / statistics.median(alone.values())
    expected = predicted_speed_up(step, medians[found["arch"]])
    lines += ["", f"By it two workers of torch should be {expected:.2f} times as fast as one, without overlap."]
    return "\n".join(lines)


def predicted_speed_up(step: float, exchange: float) -> float:
    """Of two workers over one whose step takes so many seconds, where nothing else stands in the way."""
    return step / (step / 2 + exchange)


if __name__ == "__main__":
    sys.exit(main())
