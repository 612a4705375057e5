"""`bench` on the command line, with real workers of the backend `numpy`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nin_multi.bench import history, session

Nin = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "SIZE_CPU", 32)


@pytest.fixture
def bench(tiny: str) -> list[str]:
    """As short as can be."""
    few = ["--batch-size", "8", "--steps", "1", "--rounds", "2", "--warm-up", "0"]
    return ["bench", "--backend", "numpy", "--arch", tiny, "--dataset", "synthetic", *few]


FIELDS = {"backend", "framework_version", "precision", "arch", "batch_size", "what", "examples_per_sec", "peak_share"}
FIELDS |= {"spread", "rounds", "tuning", "peak_memory_bytes"}


def test_a_session_in_json_with_history_and_picture(nin: Nin, bench: list[str], tmp_path: Path) -> None:
    more = ["--history", "h.jsonl", "--picture", "p.svg", "--what", "harness,step,bare,data", "--per-layer", "--json"]
    found = nin(*bench, *more).json
    rows = found["rows"]
    assert [(row["backend"], row["precision"], row["what"]) for row in rows] == [
        ("numpy", "fp64", "harness"),
        ("numpy", "fp64", "step"),
        ("numpy", "fp64", "bare"),
        ("numpy", "fp32", "data"),
    ]
    for row in rows:
        assert set(row) >= FIELDS
        assert len(row["rounds"]) == 2
        assert min(row["rounds"]) <= row["examples_per_sec"] <= max(row["rounds"])
    peaks = found["machine"]["matmul_gflops"]
    assert set(peaks) == {"fp32", "fp64"}
    assert found["machine"]["threads"] >= 1
    share = rows[0]["examples_per_sec"] * found["training_flop_per_image"] / 1e9 / peaks["fp64"]
    assert rows[0]["peak_share"] == pytest.approx(share)
    assert [layer["layer"] for layer in found["layers"]][:2] == ["block1.conv", "block1.relu"]
    assert history.read(tmp_path / "h.jsonl") == [found]
    assert (tmp_path / "p.svg").read_bytes().startswith(b"<?xml")


def test_a_table_for_people_fits_a_terminal(nin: Nin, bench: list[str], tmp_path: Path) -> None:
    outcome = nin(*bench, "--what", "step", "--per-layer")
    assert outcome.status == 0
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80
    for word in (
        "images/s",
        "of peak",
        "numpy",
        "step",
        "block1.conv",
        "all layers",
        "a whole step",
        "GFLOP per image",
    ):
        assert word in outcome.out, word
    assert "round 0 of 2" in outcome.err
    kept = tmp_path / "data" / "nin-multi" / "bench" / "history.jsonl"
    assert len(kept.read_text().splitlines()) == 1


def test_no_history(nin: Nin, bench: list[str], tmp_path: Path) -> None:
    assert nin(*bench, "--what", "data", "--no-history").status == 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (["--what", "harness,stpe"], 2, ["--what", "stpe"]),
        (["--what", ","], 2, ["--what"]),
        (["--vs", "book"], 2, ["--vs", "d2l"]),
        (["--tune", "now"], 2, ["--tune", "auto or off"]),
        (["--precision", "fp32"], 3, ["numpy", "'fp32'", "fp64"]),
        (["--precision", "fp64,fp8"], 3, ["numpy", "'fp8'"]),
        (["--backend", "nmpy"], 2, ["'nmpy'", "'numpy'"]),
        (["--backend", "numpy,missing"], 3, ["missing", "a_framework_that_is_nowhere"]),
        (["--backend", "numpy,crashing"], 3, ["crashing: its process was ended by SIGABRT"]),
        (["--device", "tpu"], 3, ["tpu"]),
        (["--set", "speed=11"], 2, ["'speed'"]),
        (["--set", "speed"], 2, ["KNOB=VALUE"]),
        (["--vs", "d2l"], 3, ["numpy: the book has no code"]),
        (["--vs", "d2l", "--batch-size", "20000"], 2, ["--batch-size", "5 steps"]),
        (["--batch-size", "0"], 2, ["--batch-size"]),
        (["--picture", "p.png"], 2, ["--picture", ".svg"]),
        (["--picture", "nowhere/p.svg"], 2, ["--picture", "nowhere"]),
        (["--history", "h.jsonl", "--no-history"], 2, ["--no-history"]),
        (["--history", "tiny.yaml/h.jsonl"], 2, ["tiny.yaml/h.jsonl"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_errors(nin: Nin, bench: list[str], others: Path, more: list[str], status: int, words: list[str]) -> None:
    outcome = nin(*bench, "--json", *more)
    assert outcome.status == status, outcome.err
    assert outcome.json["error"]["exit_status"] == status
    for word in words:
        assert word in outcome.error, outcome.error


def test_a_precision_that_one_of_two_offers_is_left_out_with_a_word(nin: Nin, monkeypatch: pytest.MonkeyPatch) -> None:
    from nin_multi.cli import bench

    cases, left_out = bench._cases(["torch", "numpy", "mxnet"], ["fp32", "fp64", "bf16"])
    assert dict(cases)["numpy"] == ["fp64"]
    assert "fp64" not in dict(cases)["torch"]
    assert {"backend": "numpy", "precision": "bf16"}.items() <= next(
        each.items() for each in left_out if each["precision"] == "bf16" and each["backend"] == "numpy"
    )


def test_a_bare_loop_with_an_environment_of_its_own_has_its_own_process(tiny: str, tmp_path: Path) -> None:
    from nin_multi.architecture_file import load_architecture
    from nin_multi.cli import bench

    common: dict[str, Any] = {"architecture": load_architecture(str(tmp_path / tiny)), "batch_size": 8}
    common |= {"files": tmp_path, "counts": (8, 8), "device": None}
    tunings = {"mindspore": {"micro_batch": "8"}, "torch": {}}
    jobs = bench._jobs(
        [("mindspore", ["fp32"]), ("torch", ["fp32", "bf16"])], ["step", "bare", "data"], True, tunings, "auto", common
    )
    assert [(job.backend, job.precision, job.whats, dict(job.tuning)) for job in jobs] == [
        ("mindspore", "fp32", ("step",), {"micro_batch": "8"}),
        ("mindspore", "fp32", ("bare",), {"micro_batch": "8", "convolution": "conv2d"}),
        ("mindspore", "fp32", ("book",), {}),
        ("torch", "fp32", ("step", "bare"), {}),
        ("torch", "bf16", ("step", "bare"), {}),
        ("torch", "fp32", ("book",), {}),
        ("numpy", "fp32", ("data",), {}),
    ]


def test_a_history_with_a_torn_end_goes_on(nin: Nin, bench: list[str], tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text('{"time": "2026-01-01T00:00:00Z", "rows": [{"ar')
    found: Any = nin(*bench, "--what", "step", "--history", "h.jsonl", "--json").json
    again: Any = nin(*bench, "--what", "step", "--history", "h.jsonl", "--picture", "p.svg", "--json").json
    assert history.read(tmp_path / "h.jsonl") == [found, again]
    assert b"sessions on this machine" in (tmp_path / "p.svg").read_bytes()
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == 3
    json.loads((tmp_path / "h.jsonl").read_text().splitlines()[-1])
