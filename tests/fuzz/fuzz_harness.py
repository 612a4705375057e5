"""What the fuzzers share: a parser and what it may raise; one input with its time and its memory; mutated inputs."""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hypothesis import strategies as st

from nin_multi.errors import NinMultiError
from nin_multi.machine import peak_memory_bytes

SECONDS = 10.0  # of processor time, for one input
MEMORY = 10**9  # bytes more than before the first
Inputs = st.SearchStrategy[bytes]


@dataclass(frozen=True)
class Parser:
    """One reader of outside input.

    `parse` returns a word for how it ended, or raises one of `refusals`; anything else is a fault. `seeds` are valid
    inputs, `inputs` draws damaged ones. An engine that knows bytes alone gets its own through `frame`.
    """

    name: str
    parse: Callable[[bytes], str]
    refusals: tuple[type[NinMultiError], ...]
    seeds: Sequence[bytes]
    inputs: Inputs
    tokens: Sequence[bytes] = ()
    frame: Callable[[bytes], bytes] = bytes


@dataclass
class Tally:
    """What became of the inputs so far."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    most: int = 0  # bytes that one input took

    def examine(self, parser: Parser, data: bytes) -> None:
        """Let it read one input. Raises AssertionError for a hang, too much memory, or an error without good words."""
        before, began = fresh_peak(), time.process_time()
        self.inputs += 1
        try:
            with time_limit(SECONDS):
                outcome = parser.parse(data)
        except parser.refusals as error:
            if type(error) not in parser.refusals:
                raise
            outcome = type(error).__name__
            check_words(str(error))
        except Hang:
            raise AssertionError(f"{parser.name}: an input of {len(data):,} bytes takes over {SECONDS} s") from None
        self.slowest = max(self.slowest, time.process_time() - began)
        self.outcomes[outcome] += 1
        taken = peak_memory_bytes() - before
        self.most = max(self.most, taken)
        assert taken <= MEMORY, f"{parser.name}: an input takes {taken / 1e6:,.0f} MB"

    def line(self, parser: Parser) -> str:
        outcomes = ", ".join(f"{word} {count:,}" for word, count in sorted(self.outcomes.items()))
        return (
            f"{parser.name:<16} {self.inputs:>8,} inputs: {outcomes}; slowest {self.slowest * 1e3:,.0f} ms, "
            f"most memory {self.most / 1e6:,.0f} MB"
        )


def fresh_peak() -> int:
    """The process's peak begins anew where the system can do that; then it is what is held now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory_bytes()


class Hang(BaseException):
    """No Exception: whoever catches everything must not catch this."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Of processor time, so that a busy machine is no hang; of waiting, six times as much."""

    def stop(_: int, frame: FrameType | None) -> NoReturn:
        raise Hang

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, 6 * seconds),
    )
    before = [signal.signal(number, stop) for number, _, _ in timers]
    try:
        for _, timer, limit in timers:
            signal.setitimer(timer, limit, 0.1)  # again and again: callbacks of the interpreter swallow it
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def check_words(message: str, most: int = 2_000) -> None:
    """One or two lines of a length that can be read, which any terminal can be sent."""
    assert 1 <= len(message.splitlines()) <= 2, repr(message)
    assert 0 < len(message) <= most, f"{len(message):,} characters: {message[:300]!r}"
    message.encode()


def working_folder() -> Path:
    """A folder of this process's own, in memory where there is one; gone when the process ends."""
    memory = Path("/dev/shm")
    holder = tempfile.TemporaryDirectory(prefix="nin_multi-fuzz-", dir=memory if memory.is_dir() else None)
    _HOLDERS.append(holder)
    return Path(holder.name)


_HOLDERS: list[tempfile.TemporaryDirectory[str]] = []


# --- inputs ----------------------------------------------------------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000
FRAGMENTS = [  # of JSON, most of YAML too
    *(b"-1", b"0", b"1", b"2", b"1.5", b"1e999", b"1e308", b"NaN", b"-Infinity", b"true", b"null", b"1e3", b"-0.0"),
    *(str(2**power).encode() for power in (31, 32, 53, 63, 64)),
    *(b"1" + b"0" * power for power in (6, 9, 12, 18, 400, 4000, 5000)),
    *(b'""', b'"a"', b'"\\ud800"', b'"a\\nb\\u2028c"', b'"\\u0000"', b'"nin"', b'"' + b"x" * 50_000 + b'"'),
    *(b"[]", b"{}", b"[1]", b"[1, 1]", b"[[1, 2]]", b'{"a": 1}', DEEP, b"[" * 60 + b"]" * 60, b"[" * 900 + b"]" * 900),
    *(b"[" + b"1," * 20_000 + b"1]", b'[{"type": "relu"}' + b', {"type": "relu"}' * 20_000 + b"]"),
]
NUMBERS = [b"\0", b"\xff", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"\0" * 64]
EDITS = ("flip", "cut", "drop", "insert", "repeat", "overwrite", "splice")
Edit = tuple[str, int, int, bytes]


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """A valid input with up to six edits: flipped bytes, cuts, tokens put in, runs repeated, pieces of another one."""
    content = draw(st.sampled_from(seeds))
    pieces = st.sampled_from([*tokens, *NUMBERS]) | st.binary(max_size=8)
    edit = st.tuples(st.sampled_from(EDITS), st.integers(0, 2**16), st.integers(0, 2**12), pieces)
    for each in draw(st.lists(edit, max_size=6)):
        content = _edited(content, each, seeds)
    return content[: 1 << 20]


def _edited(content: bytes, edit: Edit, seeds: Sequence[bytes]) -> bytes:
    kind, place, count, piece = edit
    at = place * (len(content) + 1) >> 16
    before, after = content[:at], content[at:]
    match kind:
        case "flip":
            return before + bytes([after[0] ^ (1 << count % 8)]) + after[1:] if after else before
        case "cut":
            return before
        case "drop":
            return before + after[count % 64 :]
        case "insert":
            return before + piece + after
        case "repeat":
            return before + after[: 1 + count % 64] * (1 + count) + after
        case "overwrite":
            return before + piece + after[len(piece) :]
        case _:
            return before + seeds[count % len(seeds)][at:]


@st.composite
def damaged_json(draw: st.DrawFn, values: Sequence[Any]) -> bytes:
    """The text of a valid value, some of whose parts are replaced by others, deep, long, of another kind, or gone."""
    value = json.loads(json.dumps(draw(st.sampled_from(values))))
    fragments: list[bytes] = []
    for place, what, fragment in draw(
        st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 9), st.sampled_from(FRAGMENTS)), max_size=3)
    ):
        holders = list(_holders(value))
        holder, key = holders[place % len(holders)]
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "a\nb", "\u2028", "x" * 5_000, "name", "type"]))] = holder.pop(key)
        else:
            holder[key] = f"@{len(fragments)}@"
            fragments.append(fragment)
        if not value:
            break
    text = json.dumps(value).encode()
    for number, fragment in enumerate(fragments):
        text = text.replace(f'"@{number}@"'.encode(), fragment)
    return text


def _holders(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (list or dictionary, index or key) in a value."""
    if not isinstance(value, (dict, list)):
        return
    for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        yield from _holders(inside)
