"""Training FLOP by hand, shares, spreads, layers: from seconds to figures."""

from __future__ import annotations

import pytest

from nin_multi.architecture_file import load_architecture, parse_architecture
from nin_multi.bench import figures
from nin_multi.spec import Architecture


def test_training_flop_of_the_chapters_net() -> None:
    nin = load_architecture("nin")
    first = 54 * 54 * 96 * 11 * 11  # multiply-adds of the first convolution, whose input needs no gradient
    assert figures.training_flop(nin) == 6 * nin.multiply_adds - 2 * first
    assert figures.training_flop(nin) / 1e9 == pytest.approx(4.506, abs=5e-4)


def test_training_flop_by_hand(tiny: Architecture) -> None:
    # 36 positions x 10 channels x 9 taps, then twice 36 x 10 x 10: the first has 4 FLOP each, the others 6.
    assert figures.training_flop(tiny) == 4 * 3240 + 6 * 7200
    assert figures.layer_flop(tiny) == {
        "block1.conv": (2 * 3240, 2 * 3240),
        "block1.mlp1": (2 * 3600, 4 * 3600),
        "block1.mlp2": (2 * 3600, 4 * 3600),
    }


def test_a_first_layer_that_does_not_multiply_saves_nothing_itself() -> None:
    net = parse_architecture("""
name: pooled
input: [1, 4, 4]
layers:
  - {type: avg_pool2d, kernel_size: 2, stride: 2}
  - {type: flatten}
  - {type: linear, out_features: 3}
  - {type: linear, out_features: 2}
""")
    assert figures.training_flop(net) == 4 * 12 + 6 * 6


def test_gflops_are_of_the_median() -> None:
    assert figures.gflops(1000, [1.0, 2.0, 100.0]) == pytest.approx(1.0)


def test_spread() -> None:
    assert figures.spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert figures.spread([7.0]) == 0.0


def row(backend: str, precision: str, what: str, speed: float) -> dict[str, object]:
    return {"backend": backend, "precision": precision, "what": what, "examples_per_sec": speed}


def test_shares_are_of_the_rows_own_precision_and_book() -> None:
    rows = [
        row("torch", "fp32", "step", 50.0),
        row("torch", "bf16", "step", 100.0),
        row("torch", "fp32", "book", 20.0),
        row("mxnet", "fp32", "step", 10.0),
        row("numpy", "fp32", "data", 900.0),
        row("odd", "fp8", "step", 1.0),
    ]
    figures.add_shares(rows, {"fp32": 200.0, "bf16": 1000.0}, flop=2_000_000_000)
    assert [r["peak_share"] for r in rows] == [0.5, 0.2, 0.2, 0.1, None, None]
    assert [r["times_the_book"] for r in rows] == [2.5, 5.0, 1.0, None, None, None]


def test_layer_rows(tiny: Architecture) -> None:
    times = [("block1.conv", 0.001, 0.003), ("block1.relu", 0.5, 0.25)]
    conv, relu = figures.layer_rows(tiny, 8, times, peak=1.0)
    assert (conv["layer"], conv["type"], conv["forward_ms"], conv["backward_ms"]) == ("block1.conv", "conv2d", 1.0, 3.0)
    assert conv["gflops"] == pytest.approx(8 * 4 * 3240 / 0.004 / 1e9)
    assert conv["peak_share"] == conv["gflops"]
    assert (relu["type"], relu["gflops"], relu["peak_share"]) == ("relu", None, None)
