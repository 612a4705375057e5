"""A real browser for the page. Where there is none, tests are skipped; with NIN_MULTI_PAGES=1 they fail instead."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from sample_comparison import make_comparison

from nin_multi.report import render_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")


def _missing(what: str) -> None:
    if os.environ.get("NIN_MULTI_PAGES") == "1":
        pytest.fail(f"NIN_MULTI_PAGES=1 demands the page tests, but {what}")
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, for one file of tests: Playwright's event loop runs in this thread until it stops.

    With `scope="session"` every `asyncio.run` of another file in the same process would fail.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        _missing(f"there is no browser: expected one of {', '.join(NAMES)} in PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        _missing(str(error))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


class Watch:
    """What a page has asked for, and what it had to complain of."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open an address in a context of its own; what is given goes to the context. `page.watch` has what it did."""
    contexts = []

    def visit(address: str, **settings: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.watch = Watch(page)  # type: ignore[attr-defined]
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report in a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(make_comparison()), encoding="utf-8")
    return path.as_uri()
