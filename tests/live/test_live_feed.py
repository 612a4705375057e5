"""What a stream is told: neither more nor less than there is, whenever it begins and however slowly it reads."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_client import Message, Mirror

from nin_multi.live.feed import Feed


def messages_in(text: bytes) -> list[Message]:
    found = []
    for part in text.decode().split("\n\n")[:-1]:
        lines = part.split("\n")
        fields = dict(line.partition(": ")[::2] for line in lines)
        if "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            found.append(Message(fields["event"], json.loads(fields["data"]), number, lines))
    return found


class Reader:
    """A stream without its socket."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.position = -1
        self.mirror = Mirror()

    def read(self) -> None:
        news = self.feed.since(self.position)
        if news is None:
            news, self.position = self.feed.snapshot()
        else:
            self.position = max(self.position, self.feed.released)
        for message in messages_in(news):
            self.mirror.take(message)


@pytest.fixture
def feed(comparison: dict[str, Any]) -> Feed:
    return Feed(comparison)


def two_runs() -> dict[str, Any]:
    runs = [{"id": name, "status": "waiting", "events": []} for name in ("a", "b")]
    return {"runs": runs, "over": False}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("point"), st.sampled_from("ab"), st.integers(0, 99)),
        st.tuples(st.just("change"), st.sampled_from("ab"), st.integers(0, 99)),
        st.tuples(st.just("events"), st.sampled_from("ab"), st.integers(0, 99)),
        st.tuples(st.just("read"), st.integers(0, 3), st.just(0)),
        st.tuples(st.sampled_from(["take in", "release", "comment"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([0, 150, 400, 1 << 20]))
def test_every_reader_ends_with_the_whole_truth(steps: list[tuple[str, Any, int]], kept: int) -> None:
    feed, truth = Feed(two_runs(), kept=kept), {run["id"]: run for run in two_runs()["runs"]}
    readers = [Reader(feed) for _ in range(4)]
    for what, which, value in steps:
        if what == "point":
            feed.point(which, {"step": value})
            truth[which]["events"].append({"step": value})
        elif what == "change":
            feed.change(which, {"status": value})
            truth[which]["status"] = value
        elif what == "events":  # a run that was taken up again
            feed.change(which, {"events": [value]})
            truth[which]["events"] = [value]
        elif what == "read":
            readers[which].read()
        else:
            {"take in": feed.take_in, "release": feed.release, "comment": feed.comment}[what]()
    feed.take_in()
    feed.release()
    assert feed.comparison["runs"] == list(truth.values())
    for reader in readers:
        reader.read()
        reader.read()
        assert reader.mirror.comparison == feed.comparison
        assert reader.mirror.numbers == sorted(set(reader.mirror.numbers))
        assert sum(map(len, feed._messages)) <= kept


def test_what_was_told_is_a_copy(feed: Feed, comparison: dict[str, Any]) -> None:
    event = {"step": 1, "dead_classes": [1]}
    feed.point("torch-s0", event)
    event["dead_classes"].append(2)  # type: ignore[attr-defined]
    comparison["runs"].clear()
    feed.take_in()
    assert feed.comparison["runs"][0]["events"] == [{"step": 1, "dead_classes": [1]}]


def test_changes_of_a_second_are_one_message(feed: Feed) -> None:
    reader = Reader(feed)
    reader.read()
    for step in range(100):
        feed.change("torch-s0", {"step": step})
        feed.change("mxnet-s0", {"status": "training"})
    feed.take_in()
    feed.release()
    reader.read()
    assert reader.mirror.seen == ["snapshot", "run", "run"]
    assert reader.mirror.comparison["runs"][0]["step"] == 99


def test_changes_and_points_keep_their_order(feed: Feed) -> None:
    reader = Reader(feed)
    reader.read()
    feed.change("torch-s0", {"step": 1})
    feed.point("torch-s0", {"step": 1})
    feed.change("torch-s0", {"step": 2})
    feed.take_in()
    feed.release()
    reader.read()
    assert reader.mirror.seen == ["snapshot", "run", "point", "run"]


def test_a_snapshot_is_of_now(feed: Feed) -> None:
    early, late = Reader(feed), Reader(feed)
    early.read()
    feed.point("torch-s0", {"step": 1})
    late.read()  # before the next writing
    assert late.mirror.events() == [{"step": 1}]
    feed.release()
    for reader in (early, late):
        reader.read()
        assert reader.mirror.events() == [{"step": 1}]


def test_messages_and_snapshots_are_made_once(feed: Feed) -> None:
    feed.point("torch-s0", {"step": 1})
    assert feed.snapshot()[0] is feed.snapshot()[0]
    first, position = feed.snapshot()
    feed.point("torch-s0", {"step": 2})
    feed.take_in()
    feed.release()
    assert feed.since(position) is feed.since(position)
    assert feed.snapshot()[0] is not first


def test_the_bell_rings_once_until_the_news_is_taken_in(feed: Feed) -> None:
    rung = []
    feed.point("torch-s0", {"step": 0})
    feed.ring(lambda: rung.append(1))
    assert len(rung) == 1
    for _ in range(10):
        feed.point("torch-s0", {"step": 1})
    assert len(rung) == 1
    feed.take_in()
    feed.point("torch-s0", {"step": 2})
    feed.change("torch-s0", {"step": 3})
    assert len(rung) == 2


@pytest.mark.parametrize("run_id", ["", "torch", "mxnet-s0\n"])
def test_a_run_that_is_not_there(feed: Feed, run_id: str) -> None:
    with pytest.raises(KeyError, match="no run"):
        feed.point(run_id, {})
    with pytest.raises(KeyError, match="no run"):
        feed.change(run_id, {})


def test_a_change_cannot_make_one_run_another(feed: Feed) -> None:
    feed.change("torch-s0", {"id": "mxnet-s0", "step": 7})
    feed.take_in()
    assert [(run["id"], run["step"]) for run in feed.comparison["runs"]] == [("torch-s0", 7), ("mxnet-s0", 0)]


def test_nothing_comes_after_the_end(feed: Feed, comparison: dict[str, Any]) -> None:
    last = {**copy.deepcopy(comparison), "title": "complete"}
    feed.point("torch-s0", {"step": 1})
    feed.finish(last)
    feed.finish({**last, "title": "twice"})
    feed.point("torch-s0", {"step": 2})
    feed.take_in()
    assert feed.over
    assert feed.comparison == {**last, "over": True}
    late = Reader(feed)
    late.read()
    assert late.mirror.seen == ["snapshot", "over"]
    assert feed.is_told(late.position)
