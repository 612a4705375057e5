"""How a net is computed here: the ways a backend offers are tried against each other by real steps, and one chosen.

Whatever is chosen, it is the same net: only roundings and speed differ. What was measured is kept by `tuning_store`.
"""

from __future__ import annotations

import gc
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nin_multi import heartbeat, machine, randomness, tuning_store
from nin_multi.backend import Backend
from nin_multi.data.batches import Batch
from nin_multi.errors import NinMultiError
from nin_multi.knobs import Knob, Tuning, complete_tuning
from nin_multi.spec import Architecture
from nin_multi.tuning_store import Candidate, Found

MODES = ("auto", "off", "now")
BETTER = 1.03  # how many times faster than the best so far a way has to be: less is the machine's noise
PATIENCE = 0.125  # of the time there is: of slow steps so many are warm-up enough, two at least
TURN = 0.3  # seconds at least that one way computes before it is the other's turn
ROUNDS, FEWEST = 7, 3
WORTH = 300.0  # seconds that a run takes before anything is measured for it
SHARE, MOST = 0.05, 60.0  # of its duration, and seconds, that measuring may take then
AT_LEISURE = 300.0  # seconds, where somebody asks for it

Report = Callable[[str], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """What a choice is made for. `fixed` are knobs that somebody has set by hand: they are not tried."""

    backend: Backend
    architecture: Architecture
    device: str
    precision: str
    batch_size: int
    fixed: Tuning = field(default_factory=dict)

    def knobs(self) -> tuple[Knob, ...]:
        return self.backend.knobs(self.architecture, device=self.device, precision=self.precision)

    def complete(self, tuning: Tuning | None = None) -> dict[str, str]:
        """The value of every knob. Raises UsageError where a knob is set that there is not."""
        return complete_tuning(self.knobs(), {**(tuning or {}), **self.fixed})

    def key(self, fixed: Tuning | None = None) -> dict[str, Any]:
        """Everything that may make another choice the better one."""
        here = machine.describe()
        return {
            "backend": self.backend.name,
            "framework_version": self.backend.version(),
            "nin_multi": machine.own_version(),
            "device": self.device,
            "device_name": self.backend.facts().get(self.device, ""),
            "precision": self.precision,
            "arch_sha256": checksum(self.architecture),
            "batch_size": self.batch_size,
            "fixed": dict(self.fixed if fixed is None else fixed),
            # A user's own number of threads, say, is another machine to the framework.
            "environment": machine.chosen_environment(self.backend.environment(self.precision, self.fixed)),
            **{name: here[name] for name in ("processor", "instruction_sets", "cores")},
        }


def checksum(architecture: Architecture) -> str:
    """The same for nets that are alike in all but their name."""
    form = architecture.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Choice:
    """The value of every knob, and where each came from: "default", "set", "stored", "measured" or "run"."""

    tuning: dict[str, str]
    origins: dict[str, str]

    def show(self) -> str:
        """For a header: every knob that somebody or something has chosen, and who; empty where none is."""
        told = {"set": "set by hand", "run": "as the run began"}
        named = [(name, told.get(origin, origin)) for name, origin in self.origins.items() if origin != "default"]
        return ", ".join(f"{name}={self.tuning[name]} ({origin})" for name, origin in named)


def chosen(case: Case, mode: str = "auto", report: Report = lambda _: None) -> Choice:
    """What a run uses that measures nothing: what is set by hand, else stored for this machine, else the defaults."""
    found = recalled(case, report) if mode == "auto" else None
    return choice_of(case, _tried(case, found) if found else {}, "stored")


def _tried(case: Case, found: Found) -> dict[str, str]:
    """Of what was found the knobs that were tried; the others only stood there as they were."""
    return {knob.name: found.tuning[knob.name] for knob in case.knobs() if knob.measured}


def choice_of(case: Case, tuning: Tuning, origin: str) -> Choice:
    """A choice out of these values, which are of one origin, under what is set by hand."""
    whole = case.complete(tuning)
    origins = {name: "set" if name in case.fixed else origin if name in tuning else "default" for name in whole}
    return Choice(whole, origins)


def recalled(case: Case, report: Report) -> Found | None:
    """What is stored for this case; with knobs set by hand also what was found without them."""
    if not is_there_a_choice(case):
        return None
    for fixed in (case.fixed, {}) if case.fixed else ({},):
        found = tuning_store.recall(case.key(fixed), report)
        if found is not None and offered(case, found.tuning) == found.tuning:
            return found
    return None


def offered(case: Case, tuning: Tuning) -> dict[str, str]:
    """Without the knobs and values that the backend does not have, or no longer."""
    values = {knob.name: knob.values for knob in case.knobs()}
    return {name: value for name, value in tuning.items() if value in values.get(name, ())}


def is_there_a_choice(case: Case) -> bool:
    """Whether there is a knob that can be measured, and is free."""
    return any(knob.measured and knob.name not in case.fixed for knob in case.knobs())


def time_to_measure(seconds: float) -> float:
    """How long measuring may take for a run of that many seconds; 0 where it would not pay."""
    return min(SHARE * seconds, MOST) if seconds >= WORTH else 0.0


def find(case: Case, seconds: float, report: Report, told: Report = lambda _: None) -> Choice:
    """Measure, store, and say so; `told` also hears of every way that was tried."""
    found = measure(case, seconds=seconds, report=told)
    tuning_store.remember(case.key(), found, report, arch=case.architecture.name)
    if found.candidates and found.gain > 1.0:
        outcome = f"{_show(found.tuning)}, {found.gain:.2f} times as fast as the defaults"
    else:
        outcome = "nothing tried is clearly faster than the defaults"
    rest = "" if found.complete else "; time ran out before all was tried, --tune now tries more"
    report(f"tuning: {outcome}; kept for this machine after {found.seconds:.0f} s{rest}")
    return choice_of(case, _tried(case, found), "measured")


def measure(case: Case, *, seconds: float, report: Report, clock: Clock = time.perf_counter) -> Found:
    """Try the values of every measured knob against the best so far, one knob at a time, from the defaults on.

    Two nets at a time stand in memory and take turns; a value wins where the median of its ratios within the same
    rounds is at least BETTER, and it was the faster in all rounds but one. When the time is up the best so far stays.
    A way that raises is left out.
    """
    began = clock()
    race = _Race(case, seconds, clock)
    complete = True
    for knob in case.knobs():
        if knob.measured and knob.name not in case.fixed:
            for value in worth_trying(knob, race.best[knob.name], case.batch_size):
                complete = race.challenge({**race.best, knob.name: value}, report) and complete
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    spent = clock() - began
    return Found(
        tuning=race.best, candidates=race.candidates, gain=race.gain, complete=complete, seconds=spent, when=when
    )


def worth_trying(knob: Knob, best: str, batch_size: int) -> Iterator[str]:
    """The other values; of micro-batches that hold the whole batch one is enough."""

    def effect(value: str) -> str:
        whole = knob.name == "micro_batch" and value.isdecimal() and int(value) >= batch_size
        return "all" if whole else value

    seen = {effect(best)}
    for value in knob.values:
        if effect(value) == value and value not in seen:
            seen.add(value)
            yield value


class _TimeIsUp(Exception):
    """No step begins after the deadline."""


class _Net:
    """One way of computing the net, warm, with its batch."""

    def __init__(
        self, case: Case, tuning: Tuning, batch: Batch, clock: Clock, deadline: float, patience: float
    ) -> None:
        params = randomness.initial_parameters(case.architecture, 0)
        self._network = case.backend.build(
            case.architecture, params, device=case.device, precision=case.precision, tuning=tuning
        )
        self._batch, self._clock, self._deadline = batch, clock, deadline
        spent = [self._step(), self._step()]
        while len(spent) < case.backend.warm_up_steps and sum(spent) < patience:
            spent.append(self._step())

    def _step(self) -> float:
        heartbeat.beat(heartbeat.MEASURING)
        began = self._clock()
        if began > self._deadline:
            raise _TimeIsUp
        # A learning rate of 0: the same work, and the weights stay where gradients are ordinary.
        self._network.train_step(self._batch.x, self._batch.y, self._batch.masks, 0.0)
        return self._clock() - began

    def turn(self) -> float:
        """Images per second of a few steps."""
        spent, steps = 0.0, 0
        while spent < TURN:
            spent += self._step()
            steps += 1
        return steps * len(self._batch.y) / max(spent, 1e-9)


class _Race:
    """The best way so far against its challengers."""

    def __init__(self, case: Case, seconds: float, clock: Clock) -> None:
        self.best, self.gain = case.complete(), 1.0
        self.candidates: list[Candidate] = []
        self._case, self._clock, self._deadline, self._patience = case, clock, clock() + seconds, PATIENCE * seconds
        self._batch = _batch(case)
        self._net: _Net | None = None
        self._needed = 0

    def challenge(self, tuning: dict[str, str], report: Report) -> bool:
        """Let another way try to be the best; False where there was no time, or no memory, for an answer."""
        if self._clock() > self._deadline:  # building takes its time too
            return False
        gc.collect()  # a net that lost, before another one is built
        try:
            champion = self._champion()
            if self._needed > machine.available_memory_bytes():
                report(f"tuning: {_show(tuning)}: not tried, too little memory is free for a second net")
                return False
            speeds, ratios = self._rounds(champion, tuning)
        except _TimeIsUp:
            return False
        except NinMultiError:
            raise
        except Exception as error:  # frameworks raise anything, and it may be out of memory
            if self._net is None:  # the defaults themselves: the run would end like that
                raise
            report(f"tuning: {_show(tuning)}: left out, {type(error).__name__}: {_first_line(error)}")
            return True
        self._judge(tuning, statistics.median(speeds), ratios, report)
        return True

    def _champion(self) -> _Net:
        if self._net is None:
            before = machine.available_memory_bytes()
            self._net = self._build(self.best)
            self._needed = max(before - machine.available_memory_bytes(), 0)
        return self._net

    def _build(self, tuning: Tuning) -> _Net:
        return _Net(self._case, tuning, self._batch, self._clock, self._deadline, self._patience)

    def _rounds(self, champion: _Net, tuning: Tuning) -> tuple[list[float], list[float]]:
        """The challenger's speeds, and how many times the champion's of the same round each one is."""
        challenger = self._build(tuning)
        speeds: list[float] = []
        ratios: list[float] = []
        while len(ratios) < ROUNDS and not _is_clear(ratios):
            first, second = (champion, challenger) if len(ratios) % 2 else (challenger, champion)
            try:
                found = {id(net): net.turn() for net in (first, second)}
            except _TimeIsUp:
                if len(ratios) < FEWEST:
                    raise
                break
            speeds.append(found[id(challenger)])
            ratios.append(found[id(challenger)] / found[id(champion)])
        if _wins(ratios):
            self._net = challenger
        return speeds, ratios

    def _judge(self, tuning: dict[str, str], speed: float, ratios: list[float], report: Report) -> None:
        ratio = statistics.median(ratios)
        self.candidates.append(Candidate(tuning=tuning, images_per_sec=speed, ratio=ratio))
        report(f"tuning: {_show(tuning)}: {speed:.1f} images/s, {ratio:.2f} times the best so far")
        if _wins(ratios):
            self.best, self.gain = tuning, self.gain * ratio


def _wins(ratios: list[float]) -> bool:
    """Faster in the median by more than noise, and in all rounds but one."""
    return statistics.median(ratios) >= BETTER and sum(ratio <= 1.0 for ratio in ratios) <= 1


def _is_clear(ratios: list[float]) -> bool:
    """Whether fewer rounds do: always far slower, or always far faster."""
    return len(ratios) >= 2 and (max(ratios) < 0.9 or (len(ratios) >= FEWEST and min(ratios) > 1.1))


def _batch(case: Case) -> Batch:
    """Noise for pixels, and the masks of a step: how long a step takes does not hang on what is in the picture."""
    random, size = np.random.default_rng(0), case.batch_size
    x = random.random((size, *case.architecture.input), np.float32)
    y = random.integers(0, case.architecture.classes, size).astype(np.int32)
    return Batch(x, y, randomness.dropout_masks(case.architecture, size, seed=0, step=0))


def _show(tuning: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in tuning.items())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
