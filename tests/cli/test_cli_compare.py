"""`compare` and `backends`: one process for each backend, and one that fails takes no other with it."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nin_multi import launcher
from nin_multi.cli import compare_tables
from nin_multi.compare import conductor

RUN = {
    *("backend", "framework_version", "device", "precision", "arch", "dataset", "train_examples", "test_examples"),
    *("epochs", "steps", "seed", "loss", "train_acc", "test_acc", "examples_per_sec", "compute_examples_per_sec"),
    *("peak_memory_bytes", "run_dir", "status"),
}


class TestBackends:
    def test_json(self, nin) -> None:
        found = nin("backends", "--backend", "numpy", "--json")
        assert (found.status, found.err) == (0, "")
        (row,) = found.json["backends"]
        assert row.keys() >= {"name", "version", "devices", "status", "reason"}
        assert (row["name"], row["version"], row["devices"]) == ("numpy", np.__version__, ["cpu"])
        assert row["status"] == "ok"

    def test_one_that_cannot_start(self, nin, others) -> None:
        found = nin("backends", "--backend", "missing", "--json", inside="missing")
        assert found.status == 3
        (row,) = found.json["backends"]
        assert (row["name"], row["version"], row["devices"], row["status"]) == ("missing", None, [], "unavailable")
        assert "'a_framework_that_is_nowhere' is not installed" in row["reason"]

    def test_several(self, nin, others) -> None:
        found = nin("backends", "--backend", "crashing,numpy,broken", "--json")
        assert found.status == 3
        rows = found.json["backends"]
        assert [(row["name"], row["status"]) for row in rows] == [
            *(("crashing", "unavailable"), ("numpy", "ok"), ("broken", "unavailable")),
        ]
        assert "SIGABRT" in rows[0]["reason"]
        assert rows[1]["devices"] == ["cpu"]
        assert "libbroken.so.1" in rows[2]["reason"]

    def test_for_people(self, nin, others) -> None:
        """The reason tells what to install, with its square brackets, which are markup to the table's printer."""
        found = nin("backends", "--backend", "missing", inside="missing")
        assert found.status == 3
        assert "nin-multi[missing]" in re.sub(r"\s+", "", found.out)
        found = nin("backends", "--backend", "numpy")
        assert found.status == 0
        assert re.search(rf"numpy\W+{re.escape(np.__version__)}\W+cpu\W+ok", found.out)


class TestCompare:
    def test_for_people(self, nin, others, flags: list[str], tmp_path: Path) -> None:
        """A row for each, also for one that failed; the other ran, and the exit status is that of the failure."""
        found = nin("compare", "--report", "off", "--backend", "missing,numpy", *flags)
        assert found.status == 3
        assert "Traceback" not in found.err
        cells = r"\W+(\d\.\d{3})\W+([01]\.\d{3})\W+([01]\.\d{3})\W+(\d+\.\d)\W+(\d+\.\d)\W+[\d.,]+ [MG]B"
        row = re.search(rf"numpy {re.escape(np.__version__)}{cells}", found.out)
        assert row is not None
        (run,) = (tmp_path / "runs").iterdir()
        result = json.loads((run / "result.json").read_text())
        keys = ("loss", "train_acc", "test_acc", "examples_per_sec", "compute_examples_per_sec")
        for text, key in zip(row.groups(), keys, strict=True):
            assert float(text) == pytest.approx(result[key], abs=0.051 if "per_sec" in key else 0.00051)
        assert "tiny" in found.out
        assert "64 synthetic images, 2 epochs" in found.out
        assert re.search(r"missing\W.*failed: ", found.out)
        said = re.sub(r"\s+", "", found.out)  # a long reason may be broken into several lines
        assert "isnotinstalled" in said
        assert "nin-multi[missing]" in said  # what to install, though square brackets are markup to Rich

    def test_one_that_crashes_does_not_stop_the_other(self, nin, others, flags: list[str], tmp_path: Path) -> None:
        found = nin(
            "compare",
            "--report",
            "off",
            "--backend",
            "crashing,numpy",
            *flags,
            "--runs-dir",
            "mine",
            "--seed",
            "4",
            "--json",
        )
        assert found.status == 3
        crashed, done = found.json["runs"]
        assert (crashed["backend"], crashed["status"]) == ("crashing", "failed")
        assert "SIGABRT (the framework crashed)" in crashed["reason"]
        assert crashed["run_dir"] is None
        assert done.keys() >= RUN
        assert (done["backend"], done["status"], done["seed"], done["steps"]) == ("numpy", "done", 4, 14)
        (run,) = (tmp_path / "mine").iterdir()
        assert json.loads((run / "result.json").read_text()) == done

    def test_the_reason_is_whole_below_the_table(self, nin, others, flags: list[str], monkeypatch) -> None:
        """A cell of the table would break it into pieces of a few letters."""
        monkeypatch.setattr(compare_tables, "console", lambda: Console(width=80, highlight=False, markup=False))
        found = nin("compare", "--report", "off", "--backend", "missing,numpy", *flags)
        lines = found.out.splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert ["missing", "failed"] in [line.split() for line in lines]
        whole = " ".join(found.out.split())
        assert "missing failed: the package 'a_framework_that_is_nowhere' is not installed. Install it:" in whole

    def test_patience(self, nin, flags: list[str], monkeypatch) -> None:
        """It reaches the child; 0 and off are for ever."""
        given = []

        class Never(launcher.Child):
            def __init__(self, *_: object, patience: float, **__: object) -> None:
                given.append(patience)

            def has_ended(self, within: float) -> bool:
                return True

            def sign(self) -> None:
                return None

            def result(self) -> launcher.ChildResult:
                return launcher.ChildResult("numpy", 2, {"error": {"message": "never"}})

        monkeypatch.setattr(conductor, "Child", Never)
        for words in ([], ["--patience", "5"], ["--patience", "1e3"], ["--patience", "0"], ["--patience", "off"]):
            assert nin("compare", "--report", "off", "--backend", "numpy", *flags, *words).status == 2
        assert given == [600, 5, 1000, math.inf, math.inf]

    @pytest.mark.parametrize("word", ["-1", "4.9", "nan", "inf", "-inf", "soon", "", "5 s", "OFF"])
    def test_patience_that_makes_no_sense(self, nin, flags: list[str], tmp_path: Path, word: str) -> None:
        found = nin("compare", "--report", "off", "--backend", "numpy", *flags, f"--patience={word}")
        assert found.status == 2
        assert found.error.startswith("--patience: expected")
        assert repr(word) in found.error
        assert not (tmp_path / "runs").exists()

    def test_bad_input_reaches_every_row(self, nin, tmp_path: Path) -> None:
        """What only the child finds out is its error."""
        odd = tmp_path / "odd[" / "x]"
        odd.mkdir(parents=True)
        (tmp_path / "tiny.yaml").rename(odd / "tiny.yaml")
        found = nin(
            "compare", "--report", "off", "--backend", "numpy", "--dataset", "sinthetic", "--arch", "odd[/x]/tiny.yaml"
        )
        assert found.status == 2
        assert "unknown dataset 'sinthetic'" in found.out
        assert found.out.startswith("tiny ")
        assert not (tmp_path / "runs").exists()


INTERRUPTED = {"terminal": (signal.SIGINT, 130), "process": (signal.SIGTERM, 143)}


@pytest.fixture(scope="module")
def comparing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[subprocess.Popen[bytes], Path]]]:
    """Two comparisons that would take days, each in a process group of its own."""
    started = {}
    for name in INTERRUPTED:
        folder = tmp_path_factory.mktemp(name)
        layers = "  - {type: flatten}\n  - {type: linear, out_features: 10}\n"
        (folder / "tiny.yaml").write_text(f"name: tiny\ninput: [1, 8, 8]\nlayers:\n{layers}")
        flags = ["--arch=tiny.yaml", "--dataset=synthetic", "--train-examples=64", "--test-examples=20"]
        command = [
            sys.executable,
            "-m",
            "nin_multi",
            "compare",
            "--report=off",
            "--backend=numpy",
            *flags,
            "--epochs=10000000",
        ]
        with (folder / "stdout").open("wb") as out:
            process = subprocess.Popen(
                [*command, "--json"], cwd=folder, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True
            )
        started[name] = (process, folder)
    yield started
    for process, folder in started.values():
        for pid in {process.pid, *_processes(folder)} if process.poll() is None else _processes(folder):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def _processes(folder: Path) -> list[int]:
    """All processes that work in this folder, whoever their parent is by now."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder:
                found.append(int(link.parent.name))
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


def _end(comparing, name: str) -> tuple[int, Path]:
    """Interrupt it in the middle, once; its exit status and its folder."""
    process, folder = comparing[name]
    number, _ = INTERRUPTED[name]
    until = time.monotonic() + 60
    while not list(folder.glob("runs/*/events.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    if process.poll() is None:
        if name == "terminal":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    return process.wait(timeout=30), folder


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupted(comparing, name: str) -> None:
    """Ctrl-C comes from a terminal, a kill to the process named: the child trains no longer, and has saved."""
    status, folder = _end(comparing, name)
    number, expected = INTERRUPTED[name]
    assert status in (expected, -number)  # a shell calls both by the same number
    until = time.monotonic() + 10
    while _processes(folder) and time.monotonic() < until:
        time.sleep(0.05)
    assert _processes(folder) == [], "its child goes on training"
    (run,) = folder.glob("runs/*")
    assert json.loads((run / "result.json").read_text())["status"] == "interrupted"
    assert (run / "weights.safetensors").exists()


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupted_leaves_one_json_object(comparing, name: str) -> None:
    _, folder = _end(comparing, name)
    assert isinstance(json.loads((folder / "stdout").read_text()), dict)


class TestWhatIsCompared:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--seed", "0,-1"), "--seed: expected whole numbers"),
            (("--seed", "one"), "--seed: expected whole numbers"),
            (("--seed", ","), "--seed: expected one or more"),
            (("--arch", ""), "--arch: expected one or more"),
            (("--report", "here.txt"), "expected the name of a report"),
            (("--report", "no/where.html"), "there is no folder no"),
            (("--python", "torch=/bin/sh"), "--python: expected BACKEND=PATH, one of numpy"),
            (("--python", "numpy=/nowhere"), "no such program"),
        ],
    )
    def test_bad_input_before_anything_runs(
        self, nin, flags: list[str], tmp_path: Path, words: tuple[str, ...], said: str
    ) -> None:
        found = nin("compare", "--backend", "numpy", *flags, *words)
        assert found.status == 2
        assert said in found.error
        assert not (tmp_path / "runs").exists()

    def test_a_port_in_use(self, nin, flags: list[str], tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            found = nin("compare", "--backend", "numpy", *flags, "--report", "off", "--live", "--port", port)
        assert found.status == 2
        assert f"--port {port}" in found.error
        assert not (tmp_path / "runs").exists()

    def test_several_seeds_and_a_report(self, nin, flags: list[str], tmp_path: Path) -> None:
        """Runs, figures and files of the same comparison; the oracle is as far from itself as nothing."""
        found = nin("compare", "--backend", "numpy", *flags, "--seed", "0,5", "--report", "mine.html", "--json")
        assert found.status == 0
        told = found.json
        assert told["labels"] == ["numpy seed 0", "numpy seed 5"]
        assert [run["seed"] for run in told["runs"]] == [0, 5]
        assert (told["comparable"], told["differences"], told["verify"]["agree"]) == (True, [], True)
        assert {Path(path).suffix for path in told["report"]} == {".html", ".md", ".csv"}
        page = (tmp_path / "mine.html").read_text()
        assert all(label in page for label in told["labels"])
        assert str(tmp_path) not in page
        for run in told["runs"]:
            assert {"class-maps.svg", "filters.svg", "activations.svg", "curve.svg"} <= {
                path.name for path in Path(run["run_dir"]).iterdir()
            }

    def test_the_report_gets_a_free_name(self, nin, flags: list[str], tmp_path: Path) -> None:
        quick = ("--no-verify", "--no-pictures", "--json")
        reports = [nin("compare", "--backend", "numpy", *flags, *quick).json["report"][0] for _ in range(2)]
        assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d-compare-tiny\.html", reports[0])
        assert reports[1] == reports[0].replace(".html", "-2.html")
