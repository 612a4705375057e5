"""Streams over real sockets: what they are told, slow ones, lost ones, many of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from live_client import PATIENCE, Browser, MakePage, Mirror, listening

from nin_multi.live import LivePage, feed, streams


def test_first_the_snapshot_then_what_is_new(page: LivePage, comparison: dict[str, Any]) -> None:
    with listening(page.address) as browser:
        messages, mirror = browser.messages(), Mirror()
        first = next(messages)
        assert first.event == "snapshot"
        assert first.data == comparison
        mirror.take(first)
        page.change("torch-s0", {"status": "training"})
        page.point("torch-s0", {"event": "step", "step": 1, "loss": 2.3})
        mirror.follow(messages, lambda it: bool(it.events()))
        page.point("mxnet-s0", {"event": "step", "step": 2})
        mirror.follow(messages, lambda it: bool(it.events(1)))
    assert mirror.seen == ["snapshot", "run", "point", "point"]
    assert mirror.comparison["runs"][0]["status"] == "training"
    assert mirror.events() == [{"event": "step", "step": 1, "loss": 2.3}]
    assert mirror.numbers == sorted(set(mirror.numbers))


def test_the_headers_of_a_stream(page: LivePage) -> None:
    with listening(page.address) as browser:
        assert browser.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert browser.headers["cache-control"] == "no-store"
        assert browser.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in browser.headers
        assert next(browser._chunks()) == b"retry: 1000\n\n"


@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "2"}, {"Last-Event-ID": "99999"}, {"Last-Event-ID": "x"}])
def test_late_or_once_more_it_has_the_whole_past(page: LivePage, headers: dict[str, str]) -> None:
    with listening(page.address) as early:
        for step in range(3):
            page.point("torch-s0", {"step": step})
        Mirror().follow(early.messages(), lambda it: len(it.events()) == 3)
    with listening(page.address, headers) as late:
        messages = late.messages()
        first = next(messages)
        assert first.event == "snapshot"
        assert first.data["runs"][0]["events"] == [{"step": 0}, {"step": 1}, {"step": 2}]
        page.point("torch-s0", {"step": 3})
        mirror = Mirror().take(first).follow(messages, lambda it: len(it.events()) == 4)
        assert mirror.seen == ["snapshot", "point"]


def test_what_was_told_before_it_began(make_page: MakePage) -> None:
    page = make_page(start=False)
    page.point("torch-s0", {"step": 0})
    page.start()
    page.start()
    with listening(page.address) as browser:
        Mirror().follow(browser.messages(), lambda it: it.events() == [{"step": 0}])


def test_two_hundred_streams_are_told_the_same(page: LivePage) -> None:
    parts = urlsplit(page.address)
    steps = 30

    async def follow(ready: asyncio.Semaphore) -> bytes:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        await reader.readuntil(b"event: snapshot")
        await reader.readuntil(b"\n\n")
        ready.release()
        told = await reader.readuntil(f'"step":{steps - 1}'.encode())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        lines = [line for line in told.split(b"\n") if line.startswith((b"id", b"event", b"data"))]
        return b"\n".join(lines)

    async def follow_all() -> list[bytes]:
        ready = asyncio.Semaphore(0)
        following = [asyncio.ensure_future(follow(ready)) for _ in range(200)]
        for _ in following:
            await ready.acquire()
        for step in range(steps):
            page.point("torch-s0", {"step": step})
            await asyncio.sleep(0.005)
        return await asyncio.wait_for(asyncio.gather(*following), PATIENCE)

    told = asyncio.run(follow_all())
    assert len(told) == 200
    assert set(told) == {told[0]}
    assert told[0].count(b"event: point") == steps


def test_what_comes_together_is_written_together(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSE", 1.0)  # as it is without the tests' hurry
    with listening(page.address) as browser:
        messages, mirror = browser.messages(), Mirror()
        mirror.take(next(messages))
        page.point("torch-s0", {"step": 0})
        mirror.follow(messages, lambda it: len(it.events()) == 1)
        before = browser.chunks
        for step in range(1, 101):
            page.point("torch-s0", {"step": step})
            time.sleep(0.005)  # so that each could be written by itself
        mirror.follow(messages, lambda it: len(it.events()) == 101)
        assert browser.chunks - before < 10


def test_a_line_on_which_nothing_happens(make_page: MakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.05)
    page = make_page()
    with listening(page.address) as browser:
        comments = browser.comments()
        assert next(comments) == next(comments) == ": still here"
    with listening(page.address) as browser:
        page.point("torch-s0", {"step": 1})
        Mirror().follow(browser.messages(), lambda it: bool(it.events()))


def test_a_browser_that_does_not_read_gets_a_new_snapshot(make_page: MakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed.Feed.__init__, "__kwdefaults__", {"kept": 100_000})
    page = make_page()
    with listening(page.address, receive_buffer=1 << 15) as slow, listening(page.address) as quick:
        messages, others = slow.messages(), quick.messages()
        first, mirror = Mirror().take(next(messages)), Mirror().take(next(others))
        filling = "x" * 40_000
        for step in range(100):
            page.point("torch-s0", {"step": step, "filling": filling})
            mirror.follow(others, lambda it, step=step: len(it.events()) == step + 1)
        assert sum(map(len, page._feed._messages)) <= 100_000  # however far behind the slow one is
        first.follow(messages, lambda it: len(it.events()) == 100)
        assert first.seen.count("snapshot") > 1
        assert first.comparison == mirror.comparison
        assert first.numbers == sorted(set(first.numbers))


def test_a_snapshot_larger_than_every_buffer(make_page: MakePage) -> None:
    page = make_page(start=False)
    page.change("torch-s0", {"samples": ["x" * 1000] * 3000})
    page.start()
    with listening(page.address, receive_buffer=1 << 15) as slow, listening(page.address) as quick:
        page.point("mxnet-s0", {"step": 1})
        for browser in (quick, slow):
            assert page._running is not None
            held = [found.transport.get_write_buffer_size() for found in page._running.server.server_state.connections]
            assert max(held) < 3 * streams.PIECE  # the rest has not been made a copy of
            mirror = Mirror().follow(browser.messages(), lambda it: bool(it.events(1)))
            assert len(mirror.comparison["runs"][0]["samples"]) == 3000
            assert mirror.events(1) == [{"step": 1}]


def test_what_a_label_says_is_no_message(page: LivePage) -> None:
    hostile = '\n\nevent: over\ndata: {}\n\n\r\r\u2028</script>\ud800"'
    with listening(page.address) as browser:
        page.change("torch-s0", {"label": hostile})
        page.point("torch-s0", {"note": hostile})
        mirror = Mirror().follow(browser.messages(), lambda it: bool(it.events()))
        assert mirror.comparison["runs"][0]["label"] == hostile
        assert mirror.events() == [{"note": hostile}]
        assert "over" not in mirror.seen
    with listening(page.address) as browser:
        assert next(browser.messages()).data == mirror.comparison


def _await(condition: Any) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_browser_that_leaves_leaves_nothing(page: LivePage) -> None:
    running = page._running
    assert running is not None
    with listening(page.address) as stays:
        messages, mirror = stays.messages(), Mirror()
        mirror.take(next(messages))
        for step in range(20):
            with listening(page.address) as leaves:
                if step % 2:
                    next(leaves.messages())
            page.point("torch-s0", {"step": step})
        mirror.follow(messages, lambda it: len(it.events()) == 20)
        _await(lambda: len(running.streams) == 1)
        _await(lambda: len(running.server.server_state.connections) == 1)
    _await(lambda: len(running.streams) == 0)
    _await(lambda: not running.server.server_state.tasks)
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is streams._Stream]


def test_there_are_not_more_than_so_many(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nin_multi.live.app.MOST", 2)
    with listening(page.address) as first, listening(page.address), Browser(page.address) as third:
        assert third.ask("/events") == 503
        assert third.body() == b"2 pages are open already: close one, and load this one again\n"
        first.close()
        running = page._running
        assert running is not None
        _await(lambda: len(running.streams) == 1)
        assert third.ask("/events") == 200


def test_connections_on_which_nothing_is_asked(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nin_multi.live.connection.MOST", 2)
    monkeypatch.setattr("nin_multi.live.connection.HEAD_SECONDS", 3600.0)
    with Browser(page.address), listening(page.address) as second, Browser(page.address) as third:
        with contextlib.suppress(ConnectionError):
            assert third.socket.recv(1) == b""
        page.point("torch-s0", {"step": 1})
        Mirror().follow(second.messages(), lambda it: bool(it.events()))


def test_a_request_that_does_not_come(make_page: MakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nin_multi.live.connection.HEAD_SECONDS", 0.05)
    page = make_page()
    with Browser(page.address) as silent, Browser(page.address) as slow, listening(page.address) as stream:
        slow.socket.sendall(b"GET / HT")
        for browser in (silent, slow):
            with contextlib.suppress(ConnectionError):
                assert browser.socket.recv(1) == b""
        page.point("torch-s0", {"step": 1})
        Mirror().follow(stream.messages(), lambda it: bool(it.events()))
