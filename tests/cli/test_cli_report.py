"""`report`: runs that are there become files for people, whatever state they are in."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

QUICK = ("--no-verify", "--no-pictures")


@pytest.fixture
def make_run(nin, flags: list[str]) -> Callable[..., Path]:
    """Train one more; its directory."""

    def make(name: str, *words: str) -> Path:
        found = nin("train", "--backend", "numpy", *flags, "--run-dir", name, *words)
        assert found.status == 0, found.err
        return Path(name)

    return make


def test_all_that_a_report_has(nin, make_run, tmp_path: Path) -> None:
    """Agreement and pictures are computed, by the run's own backend; nothing is left in the runs."""
    runs = [make_run("one"), make_run("two", "--seed", "1")]
    before = {path: path.read_bytes() for run in runs for path in run.rglob("*") if path.is_file()}
    found = nin("report", *runs, "--out", "mine.html", "--json")
    assert found.status == 0, found.err
    told = found.json
    assert (told["comparable"], told["differences"]) == (True, [])
    assert [run["label"] for run in told["runs"]] == ["numpy seed 0", "numpy seed 1"]
    assert told["verify"]["agree"]
    assert told["verify"]["backends"]["numpy"]["logits_rel_err"] == 0
    assert all(Path(path).stat().st_size for path in told["report"])
    page = (tmp_path / "mine.html").read_text()
    assert "numpy seed 1" in page
    assert "data:image/png;base64," in page
    assert {path: path.read_bytes() for run in runs for path in run.rglob("*") if path.is_file()} == before


def test_files_beside_the_page(nin, make_run, tmp_path: Path) -> None:
    run = make_run("one")
    found = nin("report", run, *QUICK)
    assert found.status == 0
    written = [Path(line) for line in found.out.splitlines()]
    assert {path.suffix for path in written} == {".html", ".md", ".csv"}
    assert all(path.name.startswith("report") for path in written)
    result = json.loads((run / "result.json").read_text())
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert len(rows) == 1
    assert any(value == str(result["test_acc"]) for value in rows[0].values())
    assert f"{result['test_acc']:.3f}" in (tmp_path / "report.md").read_text()


def test_no_report_is_lost_to_another(nin, make_run, tmp_path: Path) -> None:
    """Without a name; one that is named is written there."""
    run = make_run("one")
    (tmp_path / "report.html").write_text("mine")
    assert nin("report", run, *QUICK).out.splitlines()[0] == "report-2.html"
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_run_named_twice_is_one(nin, make_run) -> None:
    run = make_run("one")
    assert len(nin("report", run, f"./{run}/", *QUICK, "--json").json["runs"]) == 1


def test_runs_of_different_data_are_marked(nin, make_run, tmp_path: Path) -> None:
    runs = [make_run("one"), make_run("two", "--test-examples", "10")]
    found = nin("report", *runs, *QUICK, "--json")
    assert found.status == 0
    assert not found.json["comparable"]
    assert found.json["differences"][0].startswith("They saw different test images: ")
    assert "not comparable" in found.err
    assert "different test images" in (tmp_path / "report.html").read_text()


def test_a_run_that_is_still_going(nin, make_run) -> None:
    run = make_run("one")
    (run / "result.json").unlink()
    with FileLock(run / "lock"):
        found = nin("report", run, *QUICK, "--json")
    assert found.status == 0
    assert found.json["runs"][0]["status"] == "running"
    assert "still going" in found.err


def test_a_run_that_was_killed(nin, make_run) -> None:
    run = make_run("one")
    (run / "result.json").unlink()
    (run / "weights.safetensors").unlink()
    with (run / "events.jsonl").open("a") as file:
        file.write('{"event": "st')
    found = nin("report", run, *QUICK, "--json")
    assert (found.status, found.json["runs"][0]["status"]) == (0, "unfinished")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: shutil.rmtree(run), "not a run directory"),
        (lambda run: (run / "run.json").write_text("{"), "cannot be read as JSON"),
        (lambda run: (run / "events.jsonl").write_text("{}\n"), "damaged"),
        (lambda run: (run / "result.json").write_text("[]"), "damaged"),
    ],
)
def test_no_run_and_damaged_ones(nin, make_run, tmp_path: Path, spoil, words: str) -> None:
    whole, run = make_run("whole"), make_run("one")
    spoil(run)
    found = nin("report", whole, run, *QUICK)
    assert found.status == 2
    assert "one" in found.error
    assert words in found.error
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("out", "words"), [("x.txt", "expected the name"), ("no/x.html", "no folder"), ("d.html", "a directory")]
)
def test_a_place_that_is_none(nin, make_run, tmp_path: Path, out: str, words: str) -> None:
    run = make_run("one")
    (tmp_path / "d.html").mkdir()
    found = nin("report", run, *QUICK, "--out", out)
    assert found.status == 2
    assert words in found.error


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("numpy", "expected BACKEND=PATH"),
        ("torch=/bin/sh", "one of numpy"),
        ("numpy=/nowhere/python", "no such program"),
        ("numpy=/bin/false", "cannot be used there"),
    ],
)
def test_another_python_that_is_none(nin, make_run, word: str, words: str) -> None:
    found = nin("report", make_run("one"), *QUICK, "--python", word)
    assert found.status == 2
    assert words in found.error


def test_another_python(nin, make_run) -> None:
    found = nin("report", make_run("one"), "--no-pictures", "--python", f"numpy={sys.executable}", "--json")
    assert found.status == 0
    assert found.json["verify"]["agree"]
