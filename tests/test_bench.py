"""The figures of `bench`: by one definition, from steps that were really taken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nin_multi import registry
from nin_multi.architecture_file import parse_architecture
from nin_multi.bench import bench, matmul_gflops
from nin_multi.cli import main
from nin_multi.data import synthetic_dataset
from nin_multi.launcher import MARK

TINY = """
name: tiny
input: [1, 8, 8]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""


def test_rows_of_one_backend() -> None:
    said: list[str] = []
    found = bench(
        registry.load("numpy"),
        parse_architecture(TINY),
        synthetic_dataset(64, 16),
        device="cpu",
        precision="fp64",
        batch_size=16,
        steps=2,
        rounds=3,
        report=said.append,
    )
    assert len(said) == 4  # three rounds, and one that does not count
    assert [row["what"] for row in found["rows"]] == ["harness", "bare"]
    peak = found["machine"]["matmul_gflops"]["fp32"]
    # 36 positions x 10 channels x 9 taps, and twice 36 x 10 x 10, are 10,440 multiply-adds; training has six FLOP each.
    for row in found["rows"]:
        assert row["examples_per_sec"] > 0
        assert row["peak_share"] == pytest.approx(row["examples_per_sec"] * 6 * 10_440 / 1e9 / peak)
        assert row["spread"] >= 0


def test_the_peak_is_plausible() -> None:
    assert 1 < matmul_gflops() < 100_000


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setenv(MARK, "numpy")
    arguments = ["bench", "--backend", "numpy", "--arch", str(tmp_path / "tiny.yaml"), "--dataset", "synthetic"]
    arguments += ["--batch-size", "8", "--steps", "1", "--rounds", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["nin_multi", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert {"backend", "precision", "arch", "batch_size", "what", "examples_per_sec", "peak_share", "spread"} <= set(
        answer["rows"][0]
    )
    assert "harness" in err
