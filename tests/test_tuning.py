"""Choosing how a net is computed: with a backend whose steps take as long as a test says, by a clock of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from strategies import refused

from nin_multi import machine, tuning, tuning_store
from nin_multi.backend import StepResult
from nin_multi.errors import UsageError
from nin_multi.knobs import Knob, micro_batch_knob
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Architecture
from nin_multi.tuning import Case, chosen, measure, worth_trying
from nin_multi.tuning_store import Found, entries, path_of, recall, remember

LAYERS = [{"type": "flatten"}, {"type": "dropout", "rate": 0.5}, {"type": "linear", "out_features": 3}]
NET = Architecture.model_validate({"name": "net", "input": (1, 4, 4), "layers": LAYERS})
KNOBS = (
    micro_batch_knob(),
    Knob("layout", ("rows", "columns")),
    Knob("threads", ("all", "one"), measured=False),
)


class Simulated(NumpyBackend):
    """Steps take `seconds(tuning, number of the step)`; nothing is computed."""

    name = "simulated"
    warm_up_steps = 3

    def __init__(self, seconds: Callable[[dict[str, str], int], float], knobs: tuple[Knob, ...] = KNOBS) -> None:
        self.now, self.seconds, self._knobs = 0.0, seconds, knobs
        self.built: list[dict[str, str]] = []
        self.rates: set[float] = set()

    def clock(self) -> float:
        return self.now

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        return self._knobs

    def build(self, architecture: Any, params: Any, *, tuning: Any = None, **_: Any) -> Any:
        self.built.append(dict(tuning))
        backend, steps = self, iter(range(10**9))

        class Network:
            def train_step(self, x: Any, y: Any, masks: Any, lr: float, momentum: float = 0.0) -> StepResult:
                assert x.shape[1:] == architecture.input
                assert masks.keys() == architecture.dropouts().keys()
                backend.rates.add(lr)
                backend.now += backend.seconds(dict(tuning), next(steps))
                return StepResult(0.0, 0, len(y))

        return Network()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning_store, "cache_folder", lambda: tmp_path / "cache" / "tuning")
    return tmp_path / "cache" / "tuning"


def case_of(backend: Any, batch_size: int = 128, **fixed: str) -> Case:
    return Case(backend, NET, "cpu", "fp64", batch_size, fixed)


def run(backend: Simulated, batch_size: int = 128, seconds: float = 1000.0, **fixed: str) -> Found:
    return measure(case_of(backend, batch_size, **fixed), seconds=seconds, report=lambda _: None, clock=backend.clock)


def by_values(**speeds: float) -> Callable[[dict[str, str], int], float]:
    """A second a step, divided by the factor of each value that the tuning has: `micro_batch_16=2.0`."""

    def seconds(tuning: dict[str, str], _: int) -> float:
        took = 1.0
        for name, value in tuning.items():
            took /= speeds.get(f"{name}_{value}", 1.0)
        return took

    return seconds


class TestMeasure:
    def test_the_fastest_value_of_every_knob(self) -> None:
        backend = Simulated(by_values(micro_batch_16=1.5, micro_batch_32=1.4, layout_columns=1.2, threads_one=9.0))
        found = run(backend)
        assert found.tuning == {"micro_batch": "16", "layout": "columns", "threads": "all"}
        assert found.gain == pytest.approx(1.8)
        assert found.complete
        assert found.seconds == pytest.approx(backend.now)
        assert backend.rates == {0.0}
        speeds = {(c.tuning["micro_batch"], c.tuning["layout"]): c.images_per_sec for c in found.candidates}
        assert speeds[("16", "rows")] == pytest.approx(1.5 * 128)
        assert speeds[("16", "columns")] == pytest.approx(1.8 * 128)
        assert all(tuning["threads"] == "all" for tuning in backend.built)

    def test_each_net_is_built_once(self) -> None:
        backend = Simulated(by_values(micro_batch_16=1.5))
        run(backend)
        assert len(backend.built) == len({tuple(tuning.items()) for tuning in backend.built}) == 6

    @pytest.mark.parametrize(("factor", "wins"), [(1.02, False), (0.5, False), (1.04, True)])
    def test_what_is_hardly_faster_is_noise(self, factor: float, wins: bool) -> None:
        found = run(Simulated(by_values(layout_columns=factor)))
        assert (found.tuning["layout"] == "columns") is wins
        assert found.gain == pytest.approx(factor if wins else 1.0)

    def test_first_steps_do_not_count(self) -> None:
        """The better way compiles for long."""
        fast = by_values(layout_columns=1.5)
        backend = Simulated(lambda tuning, n: fast(tuning, n) + (50.0 if n < 3 else 0.0))
        assert run(backend, seconds=10_000.0).tuning["layout"] == "columns"

    def test_a_machine_that_becomes_slower_misleads_nobody(self) -> None:
        """Every candidate is compared with the best in the same rounds, whatever the machine does meanwhile."""
        backend = Simulated(lambda tuning, _: 1.0)
        backend.seconds = lambda tuning, _: (1.0 + backend.now / 50) / (1.2 if tuning["layout"] == "columns" else 1.0)
        found = run(backend, seconds=1e6)
        assert found.tuning == {"micro_batch": "all", "layout": "columns", "threads": "all"}
        assert found.gain == pytest.approx(1.2, rel=0.05)

    def test_a_disturbed_round_misleads_nobody(self) -> None:
        fast = by_values(layout_columns=1.2)
        backend = Simulated(lambda tuning, n: fast(tuning, n) * (10 if n == 4 and tuning["layout"] == "columns" else 1))
        assert run(backend).tuning["layout"] == "columns"

    def test_one_lucky_streak_is_not_enough(self) -> None:
        """A machine on which every other pair of rounds is disturbed: faster in the median, but not in most rounds."""
        turns = iter(range(10**9))

        def seconds(tuning: dict[str, str], _: int) -> float:
            lucky = next(turns) % 7 < 4 and tuning["layout"] == "columns"
            return 0.8 if lucky else 1.0

        found = run(Simulated(seconds, (Knob("layout", ("rows", "columns")),)))
        assert found.tuning["layout"] == "rows"

    def test_time_that_is_up(self) -> None:
        backend = Simulated(by_values(micro_batch_8=1.5, layout_columns=2.0))
        found = run(backend, seconds=14.0)
        assert found.tuning == {"micro_batch": "8", "layout": "rows", "threads": "all"}
        assert not found.complete
        assert backend.now < 16.0  # a step that has begun ends

    def test_three_rounds_are_an_answer_when_time_is_up(self) -> None:
        """Two steps of warm-up each, three rounds, and a fourth that is cut short."""
        backend = Simulated(by_values(layout_columns=1.08), (Knob("layout", ("rows", "columns")),))
        backend.warm_up_steps = 2
        found = run(backend, seconds=10.0)
        assert found.tuning == {"layout": "columns"}
        assert len(found.candidates) == 1

    def test_when_time_is_up_nothing_more_is_built(self) -> None:
        backend = Simulated(by_values())
        run(backend, seconds=0.5)
        assert len(backend.built) == 1

    def test_no_time_at_all(self) -> None:
        found = run(Simulated(by_values()), seconds=0.0)
        assert (found.tuning["micro_batch"], found.gain, found.candidates, found.complete) == ("all", 1.0, [], False)

    def test_short_steps_take_turns_of_several(self) -> None:
        """A single step of a millisecond is all noise."""
        backend = Simulated(lambda tuning, n: 0.001 * (1 + (n % 2)) / (1.1 if tuning["layout"] == "columns" else 1))
        assert run(backend).tuning["layout"] == "columns"

    def test_what_is_set_by_hand_is_not_tried(self) -> None:
        backend = Simulated(by_values(micro_batch_16=1.5, layout_columns=1.2))
        found = run(backend, micro_batch="64")
        assert found.tuning == {"micro_batch": "64", "layout": "columns", "threads": "all"}
        assert {tuning["micro_batch"] for tuning in backend.built} == {"64"}

    def test_a_way_that_raises_is_left_out(self) -> None:
        def seconds(tuning: dict[str, str], _: int) -> float:
            if tuning["micro_batch"] == "8":
                raise RuntimeError("out of memory\nand more")
            return 0.5 if tuning["micro_batch"] == "16" else 1.0

        said: list[str] = []
        backend = Simulated(seconds)
        found = measure(case_of(backend), seconds=1000.0, report=said.append, clock=backend.clock)
        assert (found.tuning["micro_batch"], found.complete) == ("16", True)
        assert any("micro_batch=8" in line and "RuntimeError: out of memory" in line for line in said)

    def test_defaults_that_raise_are_the_runs_own_failure(self) -> None:
        def seconds(tuning: dict[str, str], _: int) -> float:
            raise RuntimeError("no such kernel")

        with pytest.raises(RuntimeError, match="no such kernel"):
            run(Simulated(seconds))

    def test_without_memory_for_a_second_net_nothing_is_risked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        free = iter([10_000, 4_000, *[4_000] * 20])  # the first net takes 6,000
        monkeypatch.setattr(machine, "available_memory_bytes", lambda: next(free))
        backend = Simulated(by_values(layout_columns=2.0))
        found = run(backend)
        assert (found.tuning["layout"], found.complete, len(backend.built)) == ("rows", False, 1)


@pytest.mark.parametrize(
    ("default", "best", "batch_size", "expected"),
    [
        ("all", "all", 128, ["8", "16", "32", "64"]),
        ("all", "all", 64, ["8", "16", "32"]),
        ("all", "all", 20, ["8", "16"]),
        ("all", "all", 8, []),
        ("16", "16", 128, ["all", "8", "32", "64"]),
        ("32", "32", 20, ["8", "16"]),  # 32 is the whole batch
        ("32", "16", 20, ["all", "8"]),
    ],
)
def test_micro_batches_that_are_the_whole_batch(default: str, best: str, batch_size: int, expected: list[str]) -> None:
    assert list(worth_trying(micro_batch_knob(default), best, batch_size)) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (299, 0), (300, 15), (600, 30), (1200, 60), (1e6, 60)])
def test_time_to_measure(seconds: float, expected: float) -> None:
    assert tuning.time_to_measure(seconds) == pytest.approx(expected)


class TestChosen:
    @pytest.fixture
    def simulated(self) -> Simulated:
        return Simulated(by_values())

    def _store(self, case: Case, **values: str) -> None:
        found = Found(
            tuning=case.complete(values), candidates=[], gain=1.5, complete=True, seconds=1.0, when="2026-01-31"
        )
        remember(case.key(), found, lambda _: None)

    def test_nothing_is_stored(self, simulated: Simulated) -> None:
        choice = chosen(case_of(simulated))
        assert choice.tuning == {"micro_batch": "all", "layout": "rows", "threads": "all"}
        assert set(choice.origins.values()) == {"default"}
        assert choice.show() == ""

    def test_by_hand_over_stored_over_default(self, simulated: Simulated) -> None:
        self._store(case_of(simulated), micro_batch="16", layout="columns")
        choice = chosen(case_of(simulated))
        assert choice.tuning == {"micro_batch": "16", "layout": "columns", "threads": "all"}
        assert choice.origins == {"micro_batch": "stored", "layout": "stored", "threads": "default"}
        choice = chosen(case_of(simulated, micro_batch="32"))
        assert choice.tuning == {"micro_batch": "32", "layout": "columns", "threads": "all"}
        assert choice.origins == {"micro_batch": "set", "layout": "stored", "threads": "default"}
        assert choice.show() == "micro_batch=32 (set by hand), layout=columns (stored)"
        self._store(case_of(simulated, micro_batch="32"), layout="rows")
        assert chosen(case_of(simulated, micro_batch="32")).tuning["layout"] == "rows"
        off = chosen(case_of(simulated, micro_batch="32"), "off")
        assert off.tuning == {"micro_batch": "32", "layout": "rows", "threads": "all"}

    def test_only_for_the_same_conditions(self, simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
        case = case_of(simulated)
        self._store(case, layout="columns")
        same = replace(case, architecture=NET.model_copy(update={"name": "same"}))
        assert chosen(same).tuning["layout"] == "columns"
        assert same.key() == case.key()
        for other in (
            replace(case, batch_size=64),
            replace(case, precision="bf16"),
            replace(case, device="cuda:0"),
            replace(case, architecture=NET.with_input((1, 5, 5))),
        ):
            assert chosen(other).tuning["layout"] == "rows"
        monkeypatch.setattr(machine, "cores", lambda: 77)
        assert chosen(case).tuning["layout"] == "rows"
        assert chosen(same).tuning["layout"] == "rows"

    def test_a_value_that_is_no_more(self, simulated: Simulated) -> None:
        self._store(case_of(simulated), layout="columns")
        simulated._knobs = (micro_batch_knob(),)
        assert chosen(case_of(simulated)).tuning == {"micro_batch": "all"}

    def test_a_knob_or_value_that_is_none(self, simulated: Simulated) -> None:
        with refused(UsageError, "'layuot'", "micro_batch, layout, threads"):
            chosen(case_of(simulated, layuot="rows"))
        with refused(UsageError, "layout: expected one of rows, columns", "'diagonal'"):
            chosen(case_of(simulated, layout="diagonal"))

    def test_a_backend_without_knobs_reads_nothing(self, folder: Path) -> None:
        assert chosen(case_of(NumpyBackend())) == tuning.Choice({}, {})
        assert not folder.exists()


def test_find_stores_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, said = Simulated(by_values(layout_columns=2.0)), []
    monkeypatch.setattr(tuning.measure, "__kwdefaults__", {"clock": backend.clock})
    choice = tuning.find(case_of(backend), 1000.0, said.append)
    assert choice.tuning["layout"] == "columns"
    assert choice.origins == {"micro_batch": "measured", "layout": "measured", "threads": "default"}
    (line,) = said
    assert "layout=columns" in line
    assert "2.00 times as fast as the defaults" in line
    assert chosen(case_of(backend)).tuning == choice.tuning


class TestStore:
    KEY: ClassVar[dict[str, Any]] = {"backend": "torch", "batch_size": 128, "instruction_sets": ["avx2"]}
    FOUND = Found(tuning={"a": "1"}, candidates=[], gain=1.25, complete=True, seconds=2.5, when="2026-01-31T00:00:00Z")

    def test_there_and_back(self, folder: Path) -> None:
        said: list[str] = []
        assert recall(self.KEY, said.append) is None
        remember(self.KEY, self.FOUND, said.append)
        assert recall(self.KEY, said.append) == self.FOUND
        assert recall({**self.KEY, "batch_size": 64}, said.append) is None
        (entry,) = entries()
        assert (entry.key, entry.found) == (self.KEY, self.FOUND)
        assert said == []
        assert [path.suffix for path in folder.iterdir()] == [".json"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"\x80\x04\xff",
            b'{"format": 1}',
            b'{"format": 2, "arch": "", "key": {}, "found": {}}',
            b"[" * 100_000,
            b'{"format": 1, "key": {"backend": "torch"}, "found": {"tuning": {"a": 1}}}',
        ],
    )
    def test_anything_else_counts_as_absent(self, content: bytes) -> None:
        said: list[str] = []
        path = path_of(self.KEY)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        assert recall(self.KEY, said.append) is None
        (line,) = said
        assert str(path) in line
        assert entries() == []
        remember(self.KEY, self.FOUND, said.append)
        assert recall(self.KEY, said.append) == self.FOUND

    def test_an_entry_of_another_key_in_its_place(self) -> None:
        remember(self.KEY, self.FOUND, print)
        path = path_of(self.KEY)
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "key": {"backend": "mxnet"}}))
        said: list[str] = []
        assert recall(self.KEY, said.append) is None
        assert len(said) == 1

    def test_a_folder_that_cannot_be_had(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True)
        folder.write_text("")
        said: list[str] = []
        remember(self.KEY, self.FOUND, said.append)
        assert len(said) == 1
        assert "not kept" in said[0]
        assert recall(self.KEY, said.append) is None
        assert entries() == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
    def test_a_folder_without_permission(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o500)
        said: list[str] = []
        remember(self.KEY, self.FOUND, said.append)
        assert len(said) == 1
