"""Runs that are killed at random instants, and what becomes of them: `make chaos` for many kills, tests for a few.

One run per backend is left alone. Others are killed by SIGKILL: at a random time after they began, in the middle of a
checkpoint's bytes, before they are flushed, before and after they get their name, within a line of events, before old
checkpoints are dropped. After each kill a copy is resumed to its end, which has to be the undisturbed one's, bit for
bit; the run itself is resumed only to be killed again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURE = """
name: small
input: [1, 12, 12]
layers:
  - {type: nin_block, out_channels: 12, kernel_size: 3}
  - {type: max_pool2d, kernel_size: 3, stride: 2}
  - {type: dropout, rate: 0.3}
  - {type: nin_block, out_channels: 10, kernel_size: 3}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""
STEPS = 120  # 3 epochs of 640 images
FLAGS = (
    *("--dataset", "synthetic", "--train-examples", "640", "--test-examples", "100", "--batch-size", "16"),
    *("--epochs", "3", "--momentum", "0.9", "--lr", "0.02", "--init", "he", "--tune", "off", "--json"),
    *("--checkpoint-every", "7"),
)
KINDS = ("time", "half", "unflushed", "unnamed", "named", "event", "drop")
MOVING = {"seconds", "examples_per_sec", "compute_examples_per_sec"}
LIMIT = 300.0  # seconds for one process


# In the process that is killed.


def child(plan: str, arguments: list[str]) -> None:
    """Run a command of nin_multi that kills itself as planned: "time:0.25", "half:3", "event:11"."""
    kind, _, value = plan.partition(":")
    if kind == "time":
        _die_in(float(value))
    elif kind == "event":
        _die_in_event(int(value))
    elif kind == "drop":
        _die_before_dropping(int(value))
    elif kind != "never":
        _die_in_checkpoint(kind, int(value))
    from nin_multi.cli import main

    sys.argv = ["nin_multi", *arguments]
    main()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in(seconds: float) -> None:
    """So long after the run has begun."""
    from nin_multi.training.run_directory import RunDirectory

    begin = RunDirectory.begin

    def begun(directory: RunDirectory, facts: Any) -> None:
        begin(directory, facts)
        timer = threading.Timer(seconds, _die)
        timer.daemon = True
        timer.start()

    RunDirectory.begin = begun  # type: ignore[method-assign]


def _die_in_event(number: int) -> None:
    from nin_multi.training.run_directory import EVENTS, RunDirectory

    append, left = RunDirectory.append, [number]

    def appended(directory: RunDirectory, event: Any) -> None:
        left[0] -= 1
        if left[0] > 0:
            return append(directory, event)
        with (directory.path / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event)[: random.randrange(1, 60)])
        return _die()

    RunDirectory.append = appended  # type: ignore[method-assign]


def _die_before_dropping(number: int) -> None:
    from nin_multi.training.run_directory import RunDirectory

    drop, left = RunDirectory.drop_old_checkpoints, [number]

    def dropped(directory: RunDirectory) -> None:
        left[0] -= 1
        return drop(directory) if left[0] > 0 else _die()

    RunDirectory.drop_old_checkpoints = dropped  # type: ignore[method-assign]


def _die_in_checkpoint(stage: str, number: int) -> None:
    """While the checkpoint of that number is written, through the calls that `nin_multi.files` makes."""
    from nin_multi import files

    left, current = [number], [""]

    class Tempfile:
        @staticmethod
        def mkstemp(*, prefix: str, dir: Path) -> tuple[int, str]:
            current[0] = prefix
            left[0] -= prefix.startswith(".step-")
            return tempfile.mkstemp(prefix=prefix, dir=dir)

    def is_now(wanted: str) -> bool:
        return stage == wanted and left[0] == 0 and current[0].startswith(".step-")

    class Half:
        def __init__(self, handle: int) -> None:
            self.handle = handle

        def __enter__(self) -> Half:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, content: bytes) -> None:
            os.write(self.handle, content[: random.randrange(len(content))])
            _die()

    class System:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def fdopen(self, handle: int, mode: str) -> Any:
            return Half(handle) if is_now("half") else os.fdopen(handle, mode)

        def fsync(self, handle: int) -> None:
            if is_now("unflushed"):
                _die()
            os.fsync(handle)

        def replace(self, source: str, target: Path) -> None:
            if is_now("unnamed"):
                _die()
            os.replace(source, target)
            if is_now("named"):
                _die()

    files.tempfile = Tempfile  # type: ignore[assignment, attr-defined]
    files.os = System()  # type: ignore[assignment, attr-defined]


# In the process that looks on.


@dataclass
class Kill:
    """One kill, what a copy of the run then became, and where it was gone on from."""

    backend: str
    plan: str
    resumed_from: int
    identical: bool
    problem: str
    seconds: float


class Chaos:
    """One backend's runs below a folder."""

    def __init__(self, backend: str, folder: Path, seed: int) -> None:
        self.backend, self.folder, self.draw = backend, folder, random.Random(f"{backend} {seed}")
        folder.mkdir(parents=True, exist_ok=True)
        self.architecture = folder / "small.yaml"
        self.architecture.write_text(ARCHITECTURE)
        self.victim = folder / "victim"
        self.whole = folder / "whole"
        self._begin(self.whole, "never")
        events = _events(self.whole)
        assert events[-1]["step"] == STEPS, events[-1]
        self.loop_seconds = events[-1]["seconds"]

    def kills(self, count: int, kinds: Sequence[str] = KINDS) -> Iterator[Kill]:
        for number in range(count):
            began = time.monotonic()
            kind = kinds[number % len(kinds)]
            plan = self._kill(kind)
            copy = self.folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.victim, copy)
            reached = _last_step(copy)
            done = self._run(["train", "--resume", str(copy), "--json"], "never")
            problem = self._compare(copy) if done.returncode == 0 else done.stderr.strip()[-300:]
            yield Kill(self.backend, plan, reached, not problem, problem, time.monotonic() - began)

    def _kill(self, kind: str) -> str:
        """Kill the victim as planned, which may take several attempts: it may come to its end before."""
        while True:
            if (self.victim / "run.json").exists() and _last_step(self.victim) > 0.8 * STEPS:
                shutil.rmtree(self.victim)
            is_new = not (self.victim / "run.json").exists()
            plan = self._plan(kind)
            if is_new:
                shutil.rmtree(self.victim, ignore_errors=True)
                done = self._begin(self.victim, plan)
            else:
                done = self._run(["train", "--resume", str(self.victim), "--json"], plan)
            if done.returncode == -signal.SIGKILL and (self.victim / "run.json").exists():
                return plan
            if done.returncode not in (0, -signal.SIGKILL):
                raise AssertionError(f"{self.backend}, {plan}: status {done.returncode}: {done.stderr[-500:]}")
            shutil.rmtree(self.victim, ignore_errors=True)

    def _plan(self, kind: str) -> str:
        if kind == "time":
            return f"time:{self.draw.uniform(0, 0.5 * self.loop_seconds):.3f}"
        return f"{kind}:{self.draw.randint(1, 6)}"

    def _begin(self, run: Path, plan: str) -> subprocess.CompletedProcess[str]:
        flags = ["--backend", self.backend, "--arch", str(self.architecture), *FLAGS, "--run-dir", str(run)]
        done = self._run(["train", *flags], plan)
        if plan == "never" and done.returncode != 0:
            raise AssertionError(f"{self.backend}: the undisturbed run ended with {done.returncode}: {done.stderr}")
        return done

    def _run(self, arguments: list[str], plan: str) -> subprocess.CompletedProcess[str]:
        from nin_multi.launcher import environment_for

        command = [sys.executable, __file__, "--child", plan, "--", *arguments]
        return subprocess.run(
            command, env=environment_for(self.backend), capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def _compare(self, run: Path) -> str:
        """What differs from the undisturbed run; empty where nothing does."""
        for name in ("weights.safetensors", "curve.svg"):
            if (run / name).read_bytes() != (self.whole / name).read_bytes():
                return f"{name} differs"
        found, wanted = ([_fixed(event) for event in _events(path)] for path in (run, self.whole))
        if found != wanted:
            return "events differ"
        left = [path.name for path in run.rglob(".*")]
        return f"left behind: {left}" if left else ""


def _fixed(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in MOVING}


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def _last_step(run: Path) -> int:
    names = [path.stem[5:] for path in (run / "checkpoints").glob("step-*.safetensors")]
    return max(map(int, names), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="over all backends (%(default)s)")
    parser.add_argument("--backends", default="torch,mindspore,mxnet")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    backends = options.backends.split(",")
    found: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for number, backend in enumerate(backends):
            share = options.kills // len(backends) + (number < options.kills % len(backends))
            for kill in Chaos(backend, Path(folder) / backend, options.seed).kills(share):
                found.append(kill)
                ending = "identical" if kill.identical else f"NOT identical: {kill.problem}"
                words = f"{kill.plan:12} resumed from step {kill.resumed_from:3}, {ending} ({kill.seconds:.1f} s)"
                print(f"{len(found):3} {backend:10} {words}", flush=True)
    good = sum(kill.identical for kill in found)
    print(f"{len(found)} kills, {good} resumed to the same ending, bit for bit")
    return int(good != len(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[4:])
    else:
        sys.exit(main())
