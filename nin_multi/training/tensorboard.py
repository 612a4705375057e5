"""TensorBoard's event files of a run, made of the events it writes anyway; not what those say.

They lie in RUN/tensorboard and are written anew from events.jsonl whenever a run begins or goes on, so that no point
stands there twice. Whatever goes wrong with them, the training goes on without.
"""

from __future__ import annotations

import calendar
import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from nin_multi.errors import UsageError
from nin_multi.training.run_directory import RunDirectory

FOLDER = "tensorboard"
PREFIX = "events.out.tfevents."
PACKAGE = "tensorboardX"
FLUSH = 1.0  # seconds; each flush waits for the disk

Event = Mapping[str, Any]

# Tag -> the field of an event. The end of an epoch repeats what its last point says of training.
_OF_STEPS = {
    "train/loss": "loss",
    "train/acc": "train_acc",
    "images_per_sec": "examples_per_sec",
    "images_per_sec_compute": "compute_examples_per_sec",
}
_OF_EPOCHS = {"test/loss": "test_loss", "test/acc": "test_acc"}
_SHARES = (5, 20, 25, 25, 20, 5)  # per cent of a layer's values between the quantiles that an event has
_NEEDED = frozenset((PACKAGE, "numpy", "packaging", "google", "crc32c"))


def require() -> None:
    """Raises UsageError where the package that writes them is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        remedy = "pip install 'nin-multi[tensorboard]'"
        raise UsageError(f"--tensorboard: needs {PACKAGE}, which is not installed: {remedy}")


@contextmanager
def following(directory: RunDirectory, wanted: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """A block in which all events go there too: if that is wanted, or if the run has such files already."""
    folder = directory.path / FOLDER
    if not wanted and not folder.is_dir():
        yield
        return
    files = _EventFiles(directory, tell)
    directory.followers.append(files.append)
    try:
        yield
    finally:
        directory.followers.remove(files.append)
        files.close()


class _EventFiles:
    """What is open for writing, until something goes wrong with it."""

    def __init__(self, directory: RunDirectory, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = directory.path / FOLDER, tell
        self._writer: Any = None
        self._flushed = time.monotonic()
        with self._going_on_without():
            facts, before = directory.facts(), directory.events()
            self._make_room()
            self._clock, self._classes = _Clock(facts), _classes_of(facts)
            self._writer = self._open()
            self._write(_text("run", _facts_table(facts)), 0, self._clock.began)
            for event in before:
                self._add(event)
            self._writer.flush()

    def append(self, event: Event) -> None:
        if self._writer is None:
            return
        with self._going_on_without():
            self._add(event)
            if time.monotonic() - self._flushed > FLUSH:
                self._writer.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        if self._writer is not None:
            with self._going_on_without():
                self._writer.close()

    @contextmanager
    def _going_on_without(self) -> Iterator[None]:
        """Nothing that a watcher does may end a training of hours: it is told, once."""
        try:
            yield
        except Exception as error:
            writer, self._writer = self._writer, None
            with suppress(Exception):
                writer.close()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._tell(f"tensorboard: {self._folder} is not written any more; the training goes on ({reason})")

    def _make_room(self) -> None:
        """Only what was written by this kind of writer, and only in a folder of the run's own."""
        if self._folder.is_symlink():
            raise OSError("expected a folder of the run itself, got a link to another place")
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.glob(f"{PREFIX}*"):
            path.unlink()

    def _open(self) -> Any:
        """Not its writer with a thread: that one waits for ever once a full disk has ended the thread."""
        with _importing_no_more_than_needed():
            from tensorboardX.proto.event_pb2 import Event as Entry
            from tensorboardX.record_writer import RecordWriter
        writer = RecordWriter(str(self._folder / f"{PREFIX}{time.time():.0f}.nin_multi"))
        writer.write(Entry(wall_time=self._clock.began, file_version="brain.Event:2").SerializeToString())
        return writer

    def _add(self, event: Event) -> None:
        moment = self._clock.of(event)
        for summary in _summaries(event, self._classes):
            self._write(summary, event["step"], moment)

    def _write(self, summary: Any, step: int, moment: float) -> None:
        from tensorboardX.proto.event_pb2 import Event as Entry

        self._writer.write(Entry(wall_time=moment, step=step, summary=summary).SerializeToString())


@contextmanager
def _importing_no_more_than_needed() -> Iterator[None]:
    """On import, tensorboardX takes whatever it finds of frameworks, trackers and cloud storage, and works without.

    Here it finds none: in a process is one framework, and a second one would cost seconds, memory and threads.
    """
    guard = _Guard()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


class _Guard:
    """Stands before all finders of modules, for this thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        known = sys.stdlib_module_names | _NEEDED
        is_needed = name.partition(".")[0] in known and not name.startswith("google.cloud")
        if not is_needed and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r} here", name=name)


class _Clock:
    """When an event was, as far as events say: the start of its session, and the training time since then."""

    def __init__(self, facts: Event) -> None:
        sessions = [{"step": -1, **facts}, *(facts.get("resumed") or [])]
        self._later = [(int(session["step"]), _moment(session["started"])) for session in sessions]
        _, self.began = self._later.pop(0)
        self._started, self._base, self._seconds = self.began, 0.0, 0.0

    def of(self, event: Event) -> float:
        while self._later and event["step"] > self._later[0][0]:
            _, self._started = self._later.pop(0)
            self._base = self._seconds
        self._seconds = event.get("seconds", self._seconds)
        return self._started + self._seconds - self._base


def _moment(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))


def _summaries(event: Event, classes: Sequence[str]) -> Iterator[Any]:
    """What one event says, as TensorBoard has it."""
    match event["event"]:
        case "step":
            yield from _scalars(event, _OF_STEPS)
        case "epoch":
            yield from _scalars(event, _OF_EPOCHS)
            if event.get("confusion"):
                yield _text("test/confusion", _confusion_table(event["confusion"], classes))
        case "layers":
            for name, found in event["layers"].items():
                yield from _scalars(found, {f"zeros/{name}": "zeros"})
                if None not in (*found["quantiles"], found["mean"], found["std"]):
                    yield _distribution(f"layers/{name}", found)


def _scalars(event: Event, fields: Mapping[str, str]) -> Iterator[Any]:
    from tensorboardX.proto.summary_pb2 import Summary

    for tag, field in fields.items():
        if event.get(field) is not None:
            yield Summary(value=[Summary.Value(tag=tag, simple_value=event[field])])


def _distribution(tag: str, found: Event) -> Any:
    """A histogram of 100 values, of which so many lie between two quantiles as do of the layer's."""
    from tensorboardX.summary import histogram_raw

    limits = _rising(found["quantiles"])
    mean, squares = found["mean"], found["std"] ** 2 + found["mean"] ** 2
    return histogram_raw(tag, limits[0], limits[-1], 100, 100 * mean, 100 * squares, limits[1:], _SHARES)


def _rising(quantiles: Sequence[float]) -> list[float]:
    """The same, each a little above the one before: TensorBoard draws nothing of a part without width.

    >>> _rising([0.0, 0.0, 1.0])
    [0.0, 1e-06, 1.0]
    """
    least = 1e-6 * ((quantiles[-1] - quantiles[0]) or abs(quantiles[0]) or 1.0)
    rising = [float(quantiles[0])]
    for value in quantiles[1:]:
        rising.append(max(float(value), rising[-1] + least))
    return rising


def _text(tag: str, markdown: str) -> Any:
    from tensorboardX.summary import text

    return text(tag, markdown)


def _facts_table(facts: Event) -> str:
    """What was trained, how and where, from run.json."""
    architecture, data = facts["architecture"]["name"], facts["dataset"]
    rows: dict[str, Any] = {key: facts[key] for key in ("backend", "device", "precision")}
    rows |= {"architecture": architecture, "data": data.get("title", data["name"])}
    rows |= {key: data[key] for key in ("train_examples", "test_examples") if key in data}
    rows |= {key: value for key, value in facts["recipe"].items() if value is not None} | (facts.get("tuning") or {})
    return _table(["", ""], [[key.replace("_", " "), value] for key, value in rows.items()])


def _confusion_table(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows are what was shown, columns are what it was taken for."""
    names = [classes[index] if index < len(classes) else str(index) for index in range(len(counts))]
    return _table(["true \\ taken for", *names], [[name, *row] for name, row in zip(names, counts, strict=True)])


def _table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _classes_of(facts: Event) -> Sequence[str]:
    from nin_multi.data import CLASSES

    return CLASSES if facts["dataset"]["name"] in ("fashion-mnist", "synthetic") else ()
