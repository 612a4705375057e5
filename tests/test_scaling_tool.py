"""tools/scaling.py: the model's arithmetic, and how measured rounds become ratios; nothing is timed here."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
VOLUME = 1_992_166 * 4


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("scaling_model")


@pytest.fixture
def tool(model: Any) -> Any:
    return importlib.import_module("scaling")


def test_the_volume_is_the_chapters_net_in_float32(model: Any) -> None:
    assert model.gradient_bytes("nin") == VOLUME


def test_a_ring_sends_the_volume_twice_but_for_one_share(model: Any) -> None:
    wire = model.flat(model.Link(125e6, 0.0))
    assert model.ring(1, VOLUME, wire) == 0
    assert model.ring(2, VOLUME, wire) == pytest.approx(VOLUME / 125e6)
    assert model.ring(8, VOLUME, wire) == pytest.approx(2 * 7 / 8 * VOLUME / 125e6)


def test_a_ring_waits_once_for_every_hop(model: Any) -> None:
    assert model.ring(512, 0, model.flat(model.Link(1.0, 1e-6))) == pytest.approx(2 * 511e-6)


def test_hops_within_a_node_are_the_shorter_ones(model: Any) -> None:
    cluster = model.Cluster(model.Link(450e9, 1e-6), model.Link(50e9, 10e-6), 8)
    assert model.ring(8, 0, cluster) == pytest.approx(14e-6)
    assert model.ring(64, 0, cluster) == pytest.approx(112e-6 + 14 * 10e-6)  # 126 hops, 14 of them between 8 nodes
    within, across = (model.ring(count, VOLUME, cluster) - model.ring(count, 0, cluster) for count in (8, 16))
    assert within == pytest.approx(2 * 7 / 8 * VOLUME / 450e9)
    assert across == pytest.approx(2 * 15 / 16 * VOLUME / 50e9)


def test_a_tree_waits_for_its_height(model: Any) -> None:
    cluster = model.Cluster(model.Link(450e9, 1e-6), model.Link(50e9, 10e-6), 8)
    assert model.tree(512, 0, cluster) == pytest.approx(2 * (7e-6 + 6 * 10e-6))
    assert model.tree(1, VOLUME, cluster) == 0


def test_the_servers_traffic_grows_with_the_square_from_three_workers_on(model: Any) -> None:
    assert [model.server_bytes(count, 10) for count in (1, 2, 3, 8)] == [0, 20, 90, 640]
    assert model.server(8, 10, model.flat(model.Link(2.0, 0.0))) == 640


def test_what_travels_beside_the_gradients(model: Any) -> None:
    assert model.sum_bytes(128, 10) == 129 * 10 * 8
    assert model.decision_bytes(8) == 8 * 16
    wire = model.flat(model.Link(1.0, 0.0))
    each = 129 * 10 * 8 + 8 * 16
    assert model.beside("torch", 8, 128, 10, wire) == pytest.approx(2 * 7 / 8 * each)
    assert model.beside("mindspore", 8, 128, 10, wire) == pytest.approx(7 * each)
    assert model.beside("mxnet", 8, 128, 10, wire) == pytest.approx(2 * 64 * 2 * each)
    assert {model.beside(name, 1, 128, 10, wire) for name in ("torch", "mindspore", "mxnet")} == {0.0}


def test_the_sizes_are_those_that_the_workers_send(model: Any) -> None:
    import numpy as np

    from nin_multi.training.together import decide
    from nin_multi.workers.group import part, whole

    class Listening:
        rank, size = 1, 8

        def __init__(self) -> None:
            self.sent: list[int] = []

        def sum(self, values: Any) -> Any:
            self.sent.append(values.nbytes)
            return values

        def close(self) -> None:
            pass

    group = Listening()
    mine = part(group, 128)
    whole(group, 0.0, [np.zeros((mine.stop - mine.start, 10), np.float32)], 128, 10)
    decide(group, 0, False)
    assert group.sent == [model.sum_bytes(128, 10), model.decision_bytes(8)]


def test_the_worker_with_the_most_images_is_waited_for(model: Any) -> None:
    work = model.Work(100.0)
    assert work.seconds(128, 3) == pytest.approx(0.43)
    assert work.seconds(128, 512) == pytest.approx(0.01)  # one image, where three of four workers have none
    assert model.Work(100.0, 0.02).seconds(128, 512) == 0.02


def test_overlap_hides_no_more_than_the_backward_pass(model: Any) -> None:
    assert model.Step(3.0, 1.0).overlapped == 3.0
    assert model.Step(3.0, 2.5).overlapped == pytest.approx(3.5)
    assert model.Step(3.0, 2.5).alone == 5.5


def test_efficiency_is_the_share_of_so_many_workers_speed(model: Any) -> None:
    work = model.Work(64.0)
    assert model.efficiency(work, 128, 1, work.seconds(128, 1)) == 1
    assert model.efficiency(work, 128, 2, 2.0) == 0.5
    assert model.global_batch("strong", 128, 512) == 128
    assert model.global_batch("weak", 128, 512) == 65_536


def test_a_step_waits_for_its_batch_where_that_takes_longer(model: Any) -> None:
    assert model.as_built(1.0, 0.5, 100, 1000.0) == 1.5
    assert model.as_built(1.0, 0.5, 100, 50.0) == 2.0


def test_ratios_are_taken_within_a_round(tool: Any) -> None:
    assert tool.ratios({0: 2.0, 1: 9.0, 2: 4.0}, {0: 1.0, 2: 4.0}) == [2.0, 1.0]
    assert tool.predicted_speed_up(2.0, 0.25) == pytest.approx(1.6)


def test_measured_rounds_as_a_table(tool: Any) -> None:
    speeds = {"one core": (10.0, 20.0), "two cores": (15.0, 30.0), "two workers": (18.0, 38.0)}
    runs = [
        {"round": number, "backend": "torch", "way": way, **dict.fromkeys(tool.SPEEDS, speed)}
        for way, both in speeds.items()
        for number, speed in enumerate(both)
    ]
    exchanges = [{"round": 0, "arch": "nin", "bytes": VOLUME, "seconds": 0.5}]
    about = {"arch": "nin", "batch_size": 15, "steps": 3, "measured": "2000-01-01", "gradient_bytes": {"nin": VOLUME}}
    machine = {"processor": "P", "cores": 2}
    _, end_to_end, _, exchanged = tool.tables({**about, "machine": machine, "runs": runs, "exchanges": exchanges})
    assert end_to_end.splitlines()[-1] == (
        "| torch | 15.0 | 22.5 | 28.0 | 1.85 (1.80 to 1.90) | 1.50 (1.50 to 1.50) | 1.23 (1.20 to 1.27) |"
    )
    assert exchanged.splitlines()[-1].startswith("By it two workers of torch should be 1.00 times")


def test_the_command_prints_what_it_is_told_to_assume() -> None:
    words = ["model", "--images-per-sec", "128000", "--floor-ms", "0", "--cpu-images-per-sec", "mxnet=32"]
    command = [sys.executable, str(ROOT / "tools" / "scaling.py"), *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "1,992,166 x 4 = 7,968,664 bytes" in said
    assert "| 8 | 1,024 | 59 | 1.00 | 0.058 | 95 % | 100 % |" in said
    assert "mxnet on machines of 32 images/s:" in said
    assert "torch on machines" not in said
