"""Everything there is to check and measure on one GPU, part by part; `make bench-gpu` runs it.

Works in a bare checkout, where nothing of this project is installed: its backends are then found through a folder of
package metadata that this program makes. Each part writes its own small file into --out as it goes, so that what was
measured stays when the time runs out.

    tests.txt          tests/gpu with the device named
    throughput.jsonl   end-to-end training images/s of one epoch's steps, by combination of knobs
    epochs.jsonl       `train` of the whole recipe with evaluation, twice: the chapter's, and He with momentum
    profile.txt        which kernels the time goes to
    verify.jsonl       `verify` in fp32 and bf16
    seeds.jsonl        many seeds of both recipes: accuracies, dead classes; goes on where it stopped
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("tests", "throughput", "epochs", "profile", "verify", "seeds")
RECIPES: tuple[dict[str, Any], ...] = (
    {"init": "xavier", "momentum": 0.0, "lr": 0.1},
    {"init": "he", "momentum": 0.9, "lr": 0.01},
)
GROUP = "nin_multi.backends"
OWN = ("data", "resize", "graph", "compile", "micro_batch")  # combined below; of other knobs each value has its turn


def main() -> int:
    """The exit status is 1 where a test or a bound failed, or a part could not run."""
    options = _options()
    if not importlib.metadata.entry_points(group=GROUP):
        _start_with_metadata()
    if options.child:
        return int(CHILDREN[options.child](options) or 0)
    options.out.mkdir(parents=True, exist_ok=True)
    worst = 0
    for part in options.parts.split(","):
        began = time.monotonic()
        print(f"== {part}", flush=True)
        status = WHOLE[part](options)
        print(f"== {part}: status {status}, {time.monotonic() - began:.0f} s", flush=True)
        worst = max(worst, min(abs(status), 1))
    return worst


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"), help="folder for the results")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--arch", default="nin")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of counted steps for each combination of knobs")
    parser.add_argument("--minutes", type=float, default=3.0, help="for the study of seeds")
    parser.add_argument("--seeds", type=int, default=1000, help="at most so many for each recipe")
    parser.add_argument("--data-dir", help="folder of Fashion-MNIST's four files; else NIN_MULTI_DATA")
    parser.add_argument("--train-examples", type=int)
    parser.add_argument("--test-examples", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="for epochs, profile, seeds")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"--parts: expected some of {','.join(PARTS)}; got {','.join(sorted(unknown))}")
    return options


def _start_with_metadata() -> None:
    """Begin anew with the entry points of pyproject.toml where Python looks for them."""
    if "NIN_MULTI_METADATA" in os.environ:
        raise SystemExit(f"no entry points of {GROUP}, in spite of {os.environ['NIN_MULTI_METADATA']}")
    try:
        import tomllib
    except ImportError:
        raise SystemExit("nin_multi is not installed: pip install -e . (without that, Python 3.11 is needed)") from None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = Path(tempfile.mkdtemp(prefix="nin_multi-metadata-"))
    info = folder / f"nin_multi-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nin-multi\nVersion: {project['version']}\n")
    lines = (f"{name} = {value}" for name, value in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text("\n".join((f"[{GROUP}]", *lines, "")))
    paths = [str(folder), str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "NIN_MULTI_METADATA": str(folder)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


# The parts, each in processes of its own.


def _tests(options: argparse.Namespace) -> int:
    command = ["-m", "pytest", "-q", "tests/gpu", "--device", options.device, "--durations=10"]
    ended = _python(command, timeout=400)
    (options.out / "tests.txt").write_text(ended.stdout + ended.stderr)
    print("\n".join(ended.stdout.splitlines()[-25:]))
    return ended.returncode


def _verify(options: argparse.Namespace) -> int:
    worst = 0
    for precision in ("fp32", "bf16"):
        command = ["-m", "nin_multi", "verify", "--backend", "torch", "--arch", options.arch]
        command += ["--device", options.device, "--precision", precision, "--batch-size", "4", "--steps", "5", "--json"]
        ended = _python(command, timeout=300)
        _append(options.out / "verify.jsonl", _answer(ended, precision=precision))
        worst = max(worst, abs(ended.returncode))
    return worst


def _throughput(options: argparse.Namespace) -> int:
    worst = 0
    for tuning in _combinations(options):
        command = _child(options, "speed", [f"{name}={value}" for name, value in tuning.items()])
        ended = _python(command, timeout=240)
        _append(options.out / "throughput.jsonl", _answer(ended, tuning=tuning))
        worst = max(worst, abs(ended.returncode))
    return worst


def _combinations(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Our knobs together, and each other knob's values beside the defaults and beside the compiler."""
    from nin_multi import load, load_backend

    knobs = load_backend("torch").knobs(load(options.arch), device=options.device, precision=options.precision)
    values = {knob.name: knob.values for knob in knobs}
    compiled = [{"compile": how} for how in values.get("compile", ())[1:]]
    yield {}
    yield from ({"graph": value} for value in values.get("graph", ())[1:])
    yield from compiled
    yield from ({"resize": value} for value in values.get("resize", ())[1:])
    for name in (name for name in values if name not in OWN):
        for value in values[name][1:]:
            yield from ({name: value, **how} for how in ({}, *compiled[:1]))


def _epochs(options: argparse.Namespace) -> int:
    worst = 0
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            command = ["-m", "nin_multi", "train", "--backend", "torch", "--json", "--run-dir", f"{folder}/run"]
            command += ["--arch", options.arch, "--device", options.device, "--precision", options.precision]
            command += ["--epochs", str(options.epochs), "--batch-size", str(options.batch_size)]
            command += [word for key, value in recipe.items() for word in (f"--{key}", str(value))]
            command += [word for knob in options.set for word in ("--set", knob)] + _data_flags(options)
            began = time.perf_counter()
            ended = _python(command, timeout=400)
            seconds = time.perf_counter() - began
            events = Path(folder, "run", "events.jsonl")
            told = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
            ends = [event for event in told if event["event"] == "epoch"]
            _append(options.out / "epochs.jsonl", _answer(ended, recipe=recipe, process_seconds=seconds, ends=ends))
        worst = max(worst, abs(ended.returncode))
    return worst


def _profile(options: argparse.Namespace) -> int:
    ended = _python(_child(options, "profile", options.set), timeout=300)
    (options.out / "profile.txt").write_text(ended.stdout + ended.stderr[-4000:])
    return ended.returncode


def _seeds(options: argparse.Namespace) -> int:
    return subprocess.run([sys.executable, *_child(options, "seeds", options.set)], cwd=ROOT).returncode


WHOLE: dict[str, Callable[[argparse.Namespace], int]] = {
    "tests": _tests,
    "throughput": _throughput,
    "epochs": _epochs,
    "profile": _profile,
    "verify": _verify,
    "seeds": _seeds,
}


def _child(options: argparse.Namespace, what: str, knobs: list[str]) -> list[str]:
    """This program again, in the environment that torch asks for."""
    words = ["-m", "nin_multi.launcher", "torch", str(Path(__file__).resolve()), "--child", what]
    words += ["--out", str(options.out.resolve()), *_data_flags(options)]
    for name in ("device", "precision", "arch", "batch_size", "epochs", "seconds", "minutes", "seeds"):
        words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    return words + [word for knob in knobs for word in ("--set", knob)]


def _data_flags(options: argparse.Namespace) -> list[str]:
    given = {name: getattr(options, name) for name in ("data_dir", "train_examples", "test_examples")}
    return [
        w for name, value in given.items() if value is not None for w in (f"--{name.replace('_', '-')}", str(value))
    ]


def _python(arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        text = [part.decode(errors="replace") if isinstance(part, bytes) else part or "" for part in
                (error.stdout, error.stderr)]  # fmt: skip
        return subprocess.CompletedProcess(command, 124, text[0], f"{text[1]}\nended after {timeout:.0f} s")


def _answer(ended: subprocess.CompletedProcess[str], **facts: Any) -> dict[str, Any]:
    """The JSON object that a process printed last, or how it failed."""
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    found = json.loads(lines[-1]) if lines else {"stdout": ended.stdout[-2000:]}
    failed = {} if ended.returncode == 0 else {"exit_status": ended.returncode, "stderr": ended.stderr[-3000:]}
    return {**facts, **found, **failed}


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row)[:600], flush=True)


# What the children do.


class _Bench:
    """The data, the net and its images on the device, ready to train."""

    def __init__(self, options: argparse.Namespace) -> None:
        from nin_multi import load, load_backend, randomness
        from nin_multi.data import load_dataset

        began = time.perf_counter()
        self.options, self.architecture = options, load(options.arch)
        self.data = load_dataset(
            "auto",
            options.data_dir and Path(options.data_dir),
            train_examples=options.train_examples,
            test_examples=options.test_examples,
            report=_say,
        )
        knobs = dict(word.split("=", 1) for word in options.set)
        backend = load_backend("torch")
        self.network = backend.build(
            self.architecture,
            randomness.initial_parameters(self.architecture, 0),
            device=options.device,
            precision=options.precision,
            seed=0,
            tuning={"data": "resident", **knobs},
        )
        from nin_multi.training.residents import settle

        residents = settle(self.network, self.architecture, self.data)
        assert residents is not None, "the network does not keep images"
        self.residents = residents
        self.is_synthetic, self.version = self.data.synthetic, backend.version()
        self.setup_seconds = time.perf_counter() - began

    def recipe(self, **values: Any) -> Any:
        from nin_multi.training.recipe import Recipe

        options = self.options
        return Recipe(epochs=options.epochs, batch_size=options.batch_size, dropout="native", **values)

    def rehearse(self, recipe: Any, seconds: float) -> float:
        from nin_multi.training.residents import rehearse

        return rehearse(self.residents, self.architecture, self.data, recipe, seconds).examples_per_sec

    def facts(self) -> dict[str, Any]:
        options = self.options
        facts = {name: getattr(options, name) for name in ("arch", "device", "precision", "batch_size")}
        return {**facts, "torch": self.version, "synthetic": self.is_synthetic, "tuning": dict(self.network.tuning)}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _child_speed(options: argparse.Namespace) -> None:
    """Once with everything to be compiled and captured, then again."""
    bench = _Bench(options)
    recipe = bench.recipe(lr=0.01, momentum=0.9)
    began = time.perf_counter()
    bench.rehearse(recipe, 0.0)
    preparing = time.perf_counter() - began
    speeds = sorted(bench.rehearse(recipe, options.seconds) for _ in range(3))
    row = {**bench.facts(), "examples_per_sec": speeds[1], "all": speeds, "memory_bytes": _gpu_memory(options.device)}
    row |= {"setup_seconds": bench.setup_seconds, "capture_seconds": preparing}
    print(json.dumps(row), flush=True)


def _gpu_memory(device: str) -> int:
    import torch

    return 0 if device == "cpu" else int(torch.cuda.max_memory_reserved(device))


def _child_profile(options: argparse.Namespace) -> None:
    from torch.profiler import ProfilerActivity, profile

    from nin_multi.data.batches import batch_order

    bench = _Bench(options)
    recipe = bench.recipe(lr=0.01, momentum=0.9)
    bench.rehearse(recipe, 0.0)
    on_gpu = options.device != "cpu"
    order = batch_order(len(bench.data.train), options.batch_size, seed=0, epoch=0)[:10]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        bench.residents.train.train(order, None, 0.01, 0.9)
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    print(f"{len(order)} steps of {options.batch_size} images, {bench.facts()}")
    print(found.key_averages().table(sort_by=key, row_limit=45, max_name_column_width=90))


def _child_seeds(options: argparse.Namespace) -> None:
    """Both recipes in turn, seed by seed, until the next run would not fit into the minutes."""
    path, began = options.out / "seeds.jsonl", time.monotonic()
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["init"], row["seed"]) for row in rows if row["epochs"] == options.epochs}
    bench, longest = _Bench(options), 0.0
    for seed in range(options.seeds):
        for recipe in RECIPES:
            if (recipe["init"], seed) in done:
                continue
            if time.monotonic() - began + longest > 60 * options.minutes:
                return
            start = time.monotonic()
            _append(path, _study(bench, seed, recipe))
            longest = max(longest, time.monotonic() - start)


def _study(bench: _Bench, seed: int, values: dict[str, Any]) -> dict[str, Any]:
    """One run from the beginning, on the graphs that are there."""
    import torch

    from nin_multi import randomness
    from nin_multi.training import loop
    from nin_multi.training.progress import NotFinite, Progress, Watcher, start

    recipe, options = bench.recipe(seed=seed, **values), bench.options
    bench.network.restore(randomness.initial_parameters(bench.architecture, seed, recipe.init), {})
    bench.rehearse(recipe, 0.0)
    torch.manual_seed(seed)
    ends: list[dict[str, float]] = []

    def epoch(progress: Progress) -> None:
        totals = progress.epoch_totals
        tested = {"test_loss": progress.test_loss, "test_acc": progress.test_acc}
        ends.append({"loss": totals.mean_loss(), "train_acc": totals.accuracy(), **tested})

    progress, status = start(bench.data, recipe), "done"
    watcher = Watcher(lambda _: None, epoch, lambda: False)
    began = time.perf_counter()
    try:
        loop.fit(bench.network, bench.architecture, bench.data, recipe, progress, watcher, bench.residents)
    except NotFinite:
        status = "diverged"
    row = {**bench.facts(), "seed": seed, **values, "epochs": options.epochs, "status": status}
    row |= {"fit_seconds": time.perf_counter() - began, "examples_per_sec": progress.run_totals.examples_per_sec()}
    return {**row, **_classes(bench), "ends": ends}


def _classes(bench: _Bench) -> dict[str, Any]:
    """Of the test images: classes whose output is 0 for all (its last ReLU lets nothing pass), and what is guessed."""
    logits = bench.residents.test.logits()
    guessed = logits.argmax(1)
    count = logits.shape[1]
    return {
        "dead_classes": [number for number in range(count) if not (logits[:, number] != 0).any()],
        "guesses": [int((guessed == number).sum()) for number in range(count)],
    }


CHILDREN: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "speed": _child_speed,
    "profile": _child_profile,
    "seeds": _child_seeds,
}

if __name__ == "__main__":
    sys.exit(main())
