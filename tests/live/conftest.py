"""A live page on a free port, and a comparison of two runs to show there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_client import MakePage, render

from nin_multi.live import LivePage, streams


def comparison_of(*ids: str) -> dict[str, Any]:
    runs = [{"id": run_id, "label": run_id, "status": "waiting", "step": 0, "events": []} for run_id in ids]
    return {"format": 1, "title": "two runs", "over": False, "runs": runs}


@pytest.fixture
def comparison() -> dict[str, Any]:
    return comparison_of("torch-s0", "mxnet-s0")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are for the sake of training, and there is none here."""
    monkeypatch.setattr(streams, "PAUSE", 0.02)
    monkeypatch.setattr(streams, "NEWCOMER", 0.1)


@pytest.fixture
def make_page(comparison: dict[str, Any]) -> Iterator[MakePage]:
    made: list[LivePage] = []

    def make(
        *, show: Callable[..., str] = render, start: bool = True, port: int | None = 0, **options: Any
    ) -> LivePage:
        page = LivePage(show, comparison, port=port, **options)
        made.append(page)
        if start:
            page.start()
        return page

    yield make
    for page in made:
        page.close(0)


@pytest.fixture(scope="module")
def one_page() -> Iterator[LivePage]:
    """For tests that only ask."""
    page = LivePage(render, comparison_of("torch-s0"), port=0)
    page.start()
    yield page
    page.close(0)


@pytest.fixture
def page(make_page: MakePage) -> LivePage:
    return make_page()
