"""Signs of life: what a child writes and when, and for how long its parent takes it to be silent."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from nin_multi import heartbeat
from nin_multi.heartbeat import OVERSLEPT, VARIABLE, Pulse, Sign, beat


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(heartbeat.time, "monotonic", found)
    return found


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Path:
    """A process that is watched and has not said anything yet."""
    path = tmp_path / "heartbeat"
    path.touch()
    monkeypatch.setenv(VARIABLE, str(path))
    monkeypatch.setattr(heartbeat, "_heart", heartbeat._Heart())
    return path


class TestBeat:
    def test_nobody_watches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for value in ("", None):
            monkeypatch.setenv(VARIABLE, value) if value is not None else monkeypatch.delenv(VARIABLE)
            beat("training", 1, 2)
        assert list(tmp_path.iterdir()) == []

    def test_one_line_of_json(self, file: Path) -> None:
        beat("training", np.int64(120), 469, Path("runs") / "ä")
        (line,) = file.read_text().splitlines()
        assert json.loads(line) == {"phase": "training", "step": 120, "steps": 469, "run_dir": "runs/ä"}
        assert [path.name for path in file.parent.iterdir()] == ["heartbeat"]

    def test_what_is_not_said_is_as_before(self, file: Path, clock: Clock) -> None:
        beat("training", 1, 469, "runs/a")
        clock.now += 2
        beat("evaluating")
        assert json.loads(file.read_text()) == {"phase": "evaluating", "step": 1, "steps": 469, "run_dir": "runs/a"}

    def test_once_a_second(self, file: Path, clock: Clock) -> None:
        told = []
        for step in range(31):
            beat("training", step)
            told.append(json.loads(file.read_text())["step"])
            clock.now += 0.1
        assert len(set(told)) == pytest.approx(4, abs=1)
        clock.now += 1
        beat("training", 31)
        assert json.loads(file.read_text())["step"] == 31

    def test_what_is_new_is_said_at_once_and_only_the_first_time(self, file: Path) -> None:
        for phase, said in [("starting", 0), ("measuring", 1), ("training", 2), ("measuring", 2), ("training", 2)]:
            beat(phase)
            assert json.loads(file.read_text())["phase"] == ("starting", "measuring", "training")[said]
        beat("training", run_dir="runs/a")
        assert json.loads(file.read_text())["run_dir"] == "runs/a"

    @pytest.mark.parametrize("place", ["no/such/folder/file", ".", "x" * 300])
    def test_nothing_that_goes_wrong_is_raised(
        self, place: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, str(tmp_path / place))
        beat("training", 1)
        monkeypatch.setenv(VARIABLE, str(file))
        beat("odd", step=object())  # type: ignore[arg-type]
        beat("odd", run_dir=object())  # type: ignore[arg-type]

    def test_a_full_disk_is_no_silence(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.utime(file, (1, 1))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(heartbeat.os, "replace", full)
        beat("training", 1)
        assert file.stat().st_mtime > 1

    def test_it_is_cheap(self, file: Path) -> None:
        beat("training", 0)
        began = time.perf_counter()
        for step in range(10_000):
            beat("training", step, 10_000)
        assert time.perf_counter() - began < 1.0  # 3 us each where it was written


class TestPulse:
    @pytest.fixture
    def pulse(self, clock: Clock, monkeypatch: pytest.MonkeyPatch):
        found = Pulse()
        monkeypatch.setenv(VARIABLE, str(found.path))
        monkeypatch.setattr(heartbeat, "_heart", heartbeat._Heart())
        yield found
        found.close()
        assert not found.path.parent.exists()

    @staticmethod
    def _ask(pulse: Pulse, clock: Clock, seconds: int) -> float:
        """After so many seconds of asking once a second."""
        for _ in range(seconds):
            clock.now += 1
            pulse.silence()
        return pulse.silence()

    def test_silence_is_counted_from_the_last_sign(self, pulse: Pulse, clock: Clock) -> None:
        assert self._ask(pulse, clock, 300) == 300
        beat("training", 1)
        assert pulse.silence() == 0
        assert self._ask(pulse, clock, 20) == 20
        beat("training", 1)  # the same words are a sign as well
        assert pulse.silence() == 0

    def test_having_overslept_ourselves_is_no_silence(self, pulse: Pulse, clock: Clock) -> None:
        assert self._ask(pulse, clock, 100) == 100
        clock.now += OVERSLEPT + 50_000
        assert pulse.silence() == 0
        assert self._ask(pulse, clock, 5) == 5

    def test_a_wait_that_took_a_little_longer_counts(self, pulse: Pulse, clock: Clock) -> None:
        self._ask(pulse, clock, 100)
        clock.now += OVERSLEPT
        assert pulse.silence() == 100 + OVERSLEPT

    def test_without_the_file_nobody_is_judged(self, pulse: Pulse, clock: Clock) -> None:
        pulse.path.unlink()
        assert self._ask(pulse, clock, 1000) == 0

    def test_what_was_said_last(self, pulse: Pulse) -> None:
        assert pulse.last() is None
        beat("training", 120, 469, "runs/a")
        assert pulse.last() == Sign("training", 120, 469, "runs/a")

    @pytest.mark.parametrize("text", ["{", "[]", "{}", "7", '"phase"', "null", "\udcff", '{"phase": "a", "step": "b"}'])
    def test_what_makes_no_sense_was_not_said(self, pulse: Pulse, text: str) -> None:
        pulse.path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert pulse.last() is None


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (Sign("starting"), "while starting"),
        (Sign("measuring", run_dir="runs/a"), "while measuring"),
        (Sign("training", 1200, 4690), "at step 1,200 of 4,690"),
        (Sign("training", 0), "at step 0"),
        (Sign("evaluating", 469, 4690), "while evaluating at step 469 of 4,690"),
    ],
)
def test_in_words(sign: Sign, words: str) -> None:
    assert sign.show() == words
