from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_server import LiveServer
from sample_comparison import make_comparison

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture
def serve() -> Iterator[Callable[..., LiveServer]]:
    servers: list[LiveServer] = []

    def start(comparison: dict[str, Any], **settings: Any) -> LiveServer:
        servers.append(LiveServer(comparison, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def going(serve: Callable[..., LiveServer]) -> LiveServer:
    """Six runs, of which the first trains."""
    return serve(make_comparison(over=False))


def points(count: int, start: int = 1) -> list[tuple[str, dict[str, Any]]]:
    return [
        (
            "torch-s0",
            {
                "event": "step",
                "step": step,
                "progress": step / 100,
                "loss": 2.0 / step,
                "train_acc": 0.5,
                "seconds": step * 0.1,
                "examples_per_sec": 1234.4,
                "compute_examples_per_sec": 1300.0,
                "dead_classes": [],
                "never_predicted": [],
            },
        )
        for step in range(start, start + count)
    ]


def wait_for_points(page: Any, count: int) -> None:
    page.wait_for_function(
        "count => { const [first] = document.querySelector('[data-chart=loss]').data || []; "
        "return first && first.x.length === count; }",
        arg=count,
    )


def wait_for_words(page: Any, selector: str, words: str) -> None:
    page.wait_for_function(
        "([selector, words]) => document.querySelector(selector).textContent.includes(words)", arg=[selector, words]
    )


def card(name: str, inside: str = "") -> str:
    return f".card[data-run={name}] {inside}".strip()


def test_points_come_into_cards_tables_and_charts(open_page: Any, going: LiveServer) -> None:
    page = open_page(f"{going.address}#curves")
    wait_for_words(page, "#connection", "connected")
    going.point(*points(3))
    wait_for_points(page, 3)
    going.point(*points(2, start=4))
    wait_for_points(page, 5)
    page.click("#tab-overview")
    assert page.text_content(card("torch-s0", "[data-field=loss]")) == "0.400"
    assert page.text_content("tr[data-run=torch-s0] [data-field=examples_per_sec]") == "1,234"
    assert page.text_content(card("mxnet-s0", "[data-field=loss]")) == "–"
    going.change("torch-s0", status="evaluating", step=5, steps=10, epoch=0, epochs=1, seconds_left=300.0)
    wait_for_words(page, card("torch-s0", ".state"), "evaluating")
    assert page.text_content(card("torch-s0", ".small")) == "epoch 0 of 1, step 5 of 10, 5 min left"
    assert page.evaluate("document.querySelector('.card progress').value") == 0.5
    assert page.text_content("#verdict") == "0 of 6 runs are done; torch: evaluating."
    page.click("#tab-curves")
    page.click("#values summary")
    page.wait_for_selector("#values tbody tr:nth-child(5)")
    assert page.locator("#values tbody tr").count() == 5
    assert page.watch.complaints == []


def test_figures_of_this_second(open_page: Any, going: LiveServer) -> None:
    """They count while a run goes on, also after a reload; at its end the result does."""
    page = open_page(going.address)
    wait_for_words(page, "#connection", "connected")
    going.point(*points(2))
    going.change("torch-s0", status="training", now={"loss": 0.123, "train_acc": 0.75, "examples_per_sec": 321.0})
    wait_for_words(page, card("torch-s0", "[data-field=loss]"), "0.123")
    assert page.text_content(card("torch-s0", "[data-field=examples_per_sec]")) == "321"
    page.reload()
    wait_for_words(page, card("torch-s0", "[data-field=loss]"), "0.123")
    going.change("torch-s0", status="done", result={"loss": 0.111})
    wait_for_words(page, card("torch-s0", "[data-field=loss]"), "0.111")


def test_who_comes_later_has_the_whole_past(open_page: Any, going: LiveServer) -> None:
    going.point(*points(7))
    wait_for_points(open_page(f"{going.address}#curves"), 7)


def test_a_run_that_fails_says_why_and_how_to_go_on(open_page: Any, going: LiveServer) -> None:
    page = open_page(going.address)
    assert not page.is_visible(card("torch-s0", ".reason"))
    going.change("torch-s0", status="failed", reason=HOSTILE, to_go_on="nin_multi train --resume runs/x")
    page.wait_for_selector(card("torch-s0", ".reason"), state="visible")
    assert page.text_content(card("torch-s0", ".reason")) == HOSTILE
    assert page.text_content(card("torch-s0", ".go-on code")) == "nin_multi train --resume runs/x"
    assert "failed" in page.get_attribute(card("torch-s0"), "class")
    assert page.title() != "taken"
    assert page.locator("img[src=x]").count() == 0


def test_a_stream_that_breaks_is_taken_up_and_no_point_is_there_twice(open_page: Any, going: LiveServer) -> None:
    page = open_page(f"{going.address}#curves")
    going.point(*points(4))
    wait_for_points(page, 4)
    going.hang_up()
    going.point(*points(2, start=5))  # nobody listens
    wait_for_points(page, 6)
    assert going.streams == 2
    wait_for_words(page, "#connection", "connected")
    going.point(*points(3, start=5))  # two of them again
    wait_for_points(page, 7)
    steps = page.evaluate("document.querySelector('[data-chart=loss]').data[0].x")
    assert steps == sorted(set(steps))


def test_a_server_that_is_gone_leaves_the_page_as_it_was(open_page: Any, going: LiveServer) -> None:
    page = open_page(f"{going.address}#curves")
    going.point(*points(4))
    wait_for_points(page, 4)
    going.close()
    wait_for_words(page, "#connection", "no answer from the program; the page stays as it was")
    wait_for_points(page, 4)
    assert page.get_attribute("#connection", "data-state") == "gone"


def test_many_points_at_once_are_drawn_seldom(open_page: Any, going: LiveServer) -> None:
    page = open_page(f"{going.address}#curves")
    page.evaluate(
        "() => { window.draws = 0; const react = Plotly.react; "
        "Plotly.react = (element, ...rest) => "
        "{ draws += element.dataset.chart === 'loss'; return react(element, ...rest); }; }"
    )
    going.point(*points(400))
    wait_for_points(page, 400)
    assert 1 <= page.evaluate("draws") < 20


def test_what_is_over_loads_the_whole_report_once(open_page: Any, going: LiveServer) -> None:
    page = open_page(f"{going.address}#curves")
    going.point(*points(4))
    wait_for_points(page, 4)
    with page.expect_event("load"):
        going.finish(make_comparison())
    assert page.is_visible("#curves")
    assert not page.is_visible("#connection")
    assert page.text_content("#verdict").startswith("4 of 6 runs are done (")
    assert page.locator("[role=tab]").count() == 9
    assert (going.pages, going.streams) == (2, 1)
    assert page.watch.complaints == []


def test_a_page_that_finds_itself_unchanged_does_not_load_for_ever(
    open_page: Any, serve: Callable[..., LiveServer]
) -> None:
    server = serve(make_comparison(over=False), is_stuck=True)
    page = open_page(server.address)
    wait_for_words(page, "#connection", "connected")
    with page.expect_event("load"):
        server.finish(make_comparison())
    wait_for_words(page, "#connection", "connected")
    server.finish(make_comparison())
    wait_for_words(page, "#connection", "load the page again for the whole report")
    assert server.pages == 2


def test_motion_is_left_out_where_nobody_wants_it(open_page: Any, going: LiveServer) -> None:
    names = []
    for wish in ("reduce", "no-preference"):
        page = open_page(going.address, reduced_motion=wish)
        names.append(
            page.evaluate(
                "() => { const element = document.querySelector('#connection'); "
                "element.dataset.state = 'reconnecting'; return getComputedStyle(element, '::before').animationName; }"
            )
        )
    assert names == ["none", "breathe"]


def test_a_phone_follows_too(open_page: Any, going: LiveServer) -> None:
    page = open_page(going.address, viewport={"width": 390, "height": 844})
    going.change("torch-s0", status="failed", reason="a reason " * 20, to_go_on="nin_multi train --resume " + "x" * 200)
    page.wait_for_selector(card("torch-s0", ".reason"), state="visible")
    for tab in page.query_selector_all("[role=tab]"):
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_programs_own_server_and_the_page_understand_each_other(open_page: Any) -> None:
    pytest.importorskip("uvicorn", reason="the live page needs the extra 'live'")
    from nin_multi.live import LivePage
    from nin_multi.report import render_html

    live = LivePage(render_html, make_comparison(over=False), port=0)
    live.start()
    try:
        page = open_page(f"{live.address}#curves")
        wait_for_words(page, "#connection", "connected")
        for name, event in points(3):
            live.point(name, event)
        wait_for_points(page, 3)
        live.change("torch-s0", {"status": "failed", "reason": HOSTILE})
        wait_for_words(page, card("torch-s0", ".reason"), HOSTILE)
        with page.expect_event("load"):
            live.finish(make_comparison())
        assert page.text_content("#verdict").startswith("4 of 6 runs are done (")
        assert not page.is_visible("#connection")
        assert page.watch.complaints == []
    finally:
        live.close(grace=0.0)
