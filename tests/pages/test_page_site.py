from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from nin_multi.architecture_file import load_architecture

ROOT = Path(__file__).parents[2]
PHONE = {"width": 390, "height": 844}
FRAMEWORKS = ["PyTorch", "MindSpore", "MXNet", "NumPy"]
CHOSEN = "[...document.querySelectorAll('.sd-tab-set > input:checked + label')].map(e => e.textContent.trim())"
GROUND = "getComputedStyle(document.body).backgroundColor"


class Site:
    """The built site behind a server of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def pages(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.html") if _is_page(path))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def _is_page(path: Path) -> bool:
    return not {"_static", "_downloads"} & set(path.parts)


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site that NIN_MULTI_SITE names; else, where the page tests must run, one that is built for them."""
    named = os.environ.get("NIN_MULTI_SITE")
    if named is None and os.environ.get("NIN_MULTI_PAGES") != "1":
        pytest.skip("no built site: `make docs`, and NIN_MULTI_SITE=docs/_build/html")
    folder = Path(named) if named else tmp_path_factory.mktemp("site")
    if named is None:
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True)
    served = Site(folder)
    yield served
    served.close()


@pytest.fixture
def open_site(open_page: Callable[..., Any], site: Site) -> Callable[..., Any]:
    return lambda name, **settings: open_page(site.address + name, **settings)


def test_a_choice_of_framework_holds_for_all_tabs_and_pages(open_site: Any) -> None:
    page = open_site("chapter.html")
    before = page.evaluate(CHOSEN)
    assert before == ["PyTorch"] * len(before)
    assert len(before) >= 6
    page.locator(".sd-tab-set").nth(2).get_by_text("MindSpore", exact=True).click()
    assert page.evaluate(CHOSEN) == ["MindSpore"] * len(before)
    page.get_by_role("link", name="the whole programs").click()
    page.wait_for_url("**/programs.html")
    assert page.evaluate(CHOSEN) == ["MindSpore"]
    assert page.locator(".sd-tab-content:visible").inner_text().count("import mindspore") >= 1
    page.goto(page.url.replace("programs", "index"))
    assert page.evaluate(CHOSEN) == ["MindSpore"]


@pytest.mark.parametrize("name", ["chapter.html", "zh/chapter.html"])
def test_every_framework_printed_the_shapes_of_the_spec(open_site: Any, name: str) -> None:
    page = open_site(name)
    expected = [(traced.name, str(traced.output)) for traced in load_architecture("nin").trace()]
    tabs = page.locator(".sd-tab-set").nth(3)
    assert tabs.locator("label").all_inner_texts() == FRAMEWORKS
    for place in range(len(FRAMEWORKS)):
        printed = tabs.locator(".sd-tab-content").nth(place).locator(".printed pre").text_content()
        lines = [line.split(None, 1) for line in printed.splitlines() if line]
        assert [(name, shape.strip()) for name, shape in lines] == expected


def test_code_is_copied_as_it_stands(open_site: Any) -> None:
    page = open_site("chapter.html", permissions=["clipboard-read", "clipboard-write"])
    block = page.locator(".program:visible").nth(1)
    block.hover()
    block.locator("button.copybtn").click()
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == block.locator("pre").text_content().strip()
    assert copied.startswith("def make_net():")


def test_of_a_command_the_prompt_is_not_copied(open_site: Any) -> None:
    page = open_site("chapter.html", permissions=["clipboard-read", "clipboard-write"])
    block = page.locator(".command").nth(1)
    block.hover()
    block.locator("button.copybtn").click()
    page.wait_for_selector("button.copybtn.success")
    assert page.evaluate("navigator.clipboard.readText()") == "nin_multi summary --arch nin"


@pytest.mark.parametrize("name", ["chapter.html", "zh/chapter.html"])
def test_formulas_and_pictures_show(open_site: Any, name: str) -> None:
    page = open_site(name)
    formulas = page.evaluate(
        "[...document.querySelectorAll('article math')].map(e => e.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(formulas) >= 15
    assert all(width > 2 and height > 5 for width, height in formulas)
    assert page.locator("article mfrac").count() >= 4
    pictures = page.evaluate(
        "[...document.querySelectorAll('article img')].map(e => [e.complete, e.naturalWidth, e.naturalHeight, e.alt])"
    )
    assert len(pictures) >= 6
    for complete, width, height, said in pictures:
        assert complete
        assert min(width, height) > 50
        assert len(said) > 8


def test_every_page_keeps_to_itself_and_complains_of_nothing(open_site: Any, site: Site) -> None:
    for name in site.pages():
        page = open_site(name)
        page.wait_for_load_state("networkidle")
        assert page.watch.complaints == [], name
        outside = [url for url in page.watch.requests if not url.startswith((site.address, "data:"))]
        assert outside == [], name
        assert "\x1b" not in page.content(), name
        page.context.close()


def test_no_link_within_the_site_is_broken(site: Site) -> None:
    read = {name: _Links((site.folder / name).read_text(encoding="utf-8")) for name in site.pages()}
    assert {"index.html", "chapter.html", "zh/chapter.html", "commands.html", "api.html"} <= set(read)
    broken = [
        f"{name}: {link}" for name, page in read.items() for link in page.links if _is_broken(site, name, link, read)
    ]
    assert broken == []


class _Links(HTMLParser):
    """What a page links to, and what in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("href", "src") and value is not None and tag in ("a", "img", "link", "script", "iframe"):
                self.links.append(value)
            elif key in ("id", "name") and value is not None:
                self.anchors.add(value)


def _is_broken(site: Site, name: str, link: str, read: dict[str, _Links]) -> bool:
    """An address elsewhere is not asked; `make docs-links` does that."""
    if urlsplit(link).scheme:
        return False
    path, anchor = urldefrag(link)
    target = os.path.normpath(Path(name).parent / unquote(urlsplit(path).path)) if path else name
    if not (site.folder / target).is_file():
        return True
    return target in read and unquote(anchor) not in read[target].anchors


@pytest.mark.parametrize(("words", "found"), [("mlpconv", "chapter.html"), ("全局平均汇聚", "zh/chapter.html")])
def test_search_finds(open_site: Any, words: str, found: str) -> None:
    page = open_site(f"search.html?q={words}")
    page.wait_for_selector("#search-results li a")
    links = page.evaluate("[...document.querySelectorAll('#search-results li a')].map(e => e.getAttribute('href'))")
    assert any(urlsplit(link).path.endswith(found) for link in links), links


def test_no_page_is_wider_than_a_phone(open_site: Any, site: Site) -> None:
    for name in site.pages():
        page = open_site(name, viewport=PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        page.context.close()


def test_light_and_dark_can_be_chosen_and_are_kept(open_site: Any) -> None:
    theme = "document.documentElement.dataset.theme"
    page = open_site("chapter.html", color_scheme="light")
    light = page.evaluate(GROUND)
    assert page.evaluate(theme) == "light"
    page.click("button.theme-switch-button")
    page.click("button.theme-change-button[data-mode=dark]")
    page.goto(page.url.replace("chapter", "results"))
    assert page.evaluate(theme) == "dark"
    assert page.evaluate(GROUND) != light


def test_the_chinese_chapter_says_so_and_has_the_same_cells(open_site: Any) -> None:
    page = open_site("zh/chapter.html")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    programs = "[...document.querySelectorAll('.program pre, .printed pre')].map(e => e.textContent)"
    chinese = page.evaluate(programs)
    page.get_by_role("link", name="in English").click()
    page.wait_for_url("**/chapter.html")
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate(programs) == chinese


@pytest.mark.parametrize(("scheme", "size"), [("light", {"width": 1280, "height": 800}), ("dark", PHONE)])
@pytest.mark.parametrize("name", ["chapter.html", "zh/chapter.html"])
def test_axe_finds_nothing_serious(open_site: Any, name: str, scheme: str, size: dict[str, int]) -> None:
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page = open_site(name, color_scheme=scheme, viewport=size)
    # Tabs fade into the colours of the dark scheme, and in between they have no contrast.
    page.add_style_tag(content="* { transition: none !important }")
    page.evaluate(axe)
    ran = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [item for item in ran["violations"] if item["impact"] in ("serious", "critical")]
    assert [(item["id"], [node["html"] for node in item["nodes"]][:3]) for item in serious] == []
