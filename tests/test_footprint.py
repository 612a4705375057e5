"""A load by hand, habits found again, and what was measured: predicted from the spec within 15 %."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from nin_multi.architecture_file import load_architecture
from nin_multi.footprint import Habits, Load, fit_habits, load_of
from nin_multi.spec import Architecture

STORE = Path(__file__).parents[1] / "docs" / "studies" / "memory.json"
STORED: dict[str, Any] = json.loads(STORE.read_text())


def test_a_load_by_hand() -> None:
    layers = [
        {"type": "conv2d", "out_channels": 3, "kernel_size": 2},
        {"type": "conv2d", "out_channels": 5, "kernel_size": 1},
        {"type": "global_avg_pool2d"},
        {"type": "flatten"},
    ]
    net = Architecture.model_validate({"name": "two", "input": (2, 4, 4), "layers": layers})
    load = load_of(net, 10, 25)
    assert load == Load(
        fixed=1e6,
        parameters=4 * (3 * 2 * 4 + 3 + 5 * 3 + 5),
        outputs=40 * (27 + 45 + 5 + 5),
        largest=40 * (27 + 45),
        gathered=40 * (2 * 4 * 9),
        batch=100 * 32,
    )


def test_habits_are_found_again() -> None:
    nets = [load_architecture(name) for name in ("nin", "nin-mnist", "nin-cifar10", "alexnet")]
    loads = [load_of(net, images, 64) for net in nets for images in (8, 32, 64)]
    for known in (Habits(100, 4, 0.9, 0, 0, 1), Habits(20, 6, 0, 6.5, 0, 2)):
        assert fit_habits(loads, [known.bytes(load) for load in loads]) == known


def test_too_few_to_fit() -> None:
    with pytest.raises(ValueError, match="at least 6"):
        fit_habits([Load(1, 1, 1, 1, 1, 1)] * 5, [1.0] * 5)


@pytest.mark.parametrize("row", [row for row in STORED["rows"] if row["precision"] == "fp32"], ids=str)
def test_what_was_measured_is_predicted(row: dict[str, Any]) -> None:
    """Of the nets that the habits were not fitted on too."""
    habits = Habits(**STORED["habits"][row["backend"]][row["what"]])
    size = row["tuning"]["micro_batch"]
    images = row["batch_size"] if size == "all" else min(int(size), row["batch_size"])
    load = load_of(load_architecture(row["arch"]), images, row["batch_size"])
    assert habits.bytes(load) == pytest.approx(row["growth_bytes"], rel=0.15)


def test_some_nets_were_kept_out_of_the_fit() -> None:
    measured = {row["arch"] for row in STORED["rows"]}
    assert len(measured - set(STORED["fitted_on"])) >= 2
    assert all(len(astuple(Habits(**one))) == 6 for kinds in STORED["habits"].values() for one in kinds.values())
