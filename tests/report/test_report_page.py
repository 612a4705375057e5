from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from sample_comparison import empty_comparison, make_comparison

from nin_multi.report import render_html
from nin_multi.report.embedding import picture_address, script_hash, script_json

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


class Reader(HTMLParser):
    """Every start tag with its attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def data(self) -> dict[str, Any]:
        found = next(script for script in self.scripts if script.startswith("{"))
        return dict(json.loads(found))


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return make_comparison()


@pytest.fixture(scope="module")
def reader(comparison: dict[str, Any]) -> Reader:
    return Reader(render_html(comparison))


def sections(reader: Reader) -> list[str | None]:
    return [attributes["id"] for attributes in reader.all("section")]


def test_every_section_has_its_tab(reader: Reader) -> None:
    tabs = [attributes["aria-controls"] for attributes in reader.all("a") if attributes.get("role") == "tab"]
    names = ["overview", "curves", "architecture", "agreement", "speed", "classes", "inside", "code", "repeat"]
    assert sections(reader) == tabs == names


def test_what_is_not_known_has_no_section() -> None:
    assert sections(Reader(render_html(empty_comparison()))) == ["overview"]


@pytest.mark.parametrize(
    ("unknown", "gone"),
    [
        ({"verify": None}, "agreement"),
        ({"code": {}}, "code"),
        ({"architectures": [], "diagram": ""}, "architecture"),
        ({"repeat": [], "runs": []}, "repeat"),
    ],
)
def test_a_part_without_data_is_left_out(comparison: dict[str, Any], unknown: dict[str, Any], gone: str) -> None:
    found = sections(Reader(render_html({**comparison, **unknown})))
    assert gone not in found
    assert "overview" in found


def test_a_diagram_without_layers_is_shown(comparison: dict[str, Any]) -> None:
    assert "architecture" in sections(Reader(render_html({**comparison, "architectures": []})))


def test_nothing_is_loaded_from_anywhere(reader: Reader) -> None:
    for tag, attributes in reader.tags:
        for name in ("src", "href", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:")), (tag, address)
        assert not [name for name in attributes if name.startswith("on")], tag


def test_only_the_pages_own_scripts_may_run(reader: Reader) -> None:
    policy = next(tag["content"] for tag in reader.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    allowed = next(part for part in policy.split("; ") if part.startswith("script-src")).split()[1:]
    run = [text for text, tag in zip(reader.scripts, reader.all("script"), strict=True) if "type" not in tag]
    assert allowed == [script_hash(text) for text in run]
    assert len(run) == 3


def test_a_live_page_may_ask_its_own_server_and_no_other() -> None:
    page = render_html(make_comparison(over=False), events="events?token=a")
    assert "connect-src &#39;self&#39;" in page or "connect-src 'self'" in page
    assert Reader(page).data()["events"] == "events?token=a"
    assert {"curves", "speed", "classes", "inside"} <= set(sections(Reader(page)))


def test_a_report_that_is_over_listens_to_nothing() -> None:
    page = render_html(make_comparison(), events="events")
    assert Reader(page).data()["events"] is None
    assert "connect-src &#39;self&#39;" not in page
    assert "connect-src 'self'" not in page


def test_foreign_text_stays_text(comparison: dict[str, Any]) -> None:
    hostile = copy.deepcopy(comparison)
    for run in hostile["runs"]:
        run.update(label=HOSTILE, reason=HOSTILE, to_go_on=HOSTILE, run_dir=HOSTILE, status=HOSTILE)
        run["versions"][HOSTILE] = HOSTILE
        run["backend"] = HOSTILE
    hostile.update(title=HOSTILE, classes=[HOSTILE] * 10, repeat=[HOSTILE], differences=[HOSTILE], comparable=False)
    hostile["code"] = {HOSTILE: f"x = '''{HOSTILE}'''"}
    hostile["verify"]["backends"] = {HOSTILE: hostile["verify"]["backends"]["torch"]}
    hostile["architectures"][0]["layers"][0]["name"] = HOSTILE
    reader = Reader(render_html(hostile))
    assert not [tag for tag in reader.all("img") if not (tag["src"] or "").startswith("data:")]
    assert not [tag for tag, attributes in reader.tags if any(name.startswith("on") for name in attributes)]
    assert len(reader.scripts) == 4
    assert reader.data()["runs"][0]["label"] == HOSTILE
    assert any(HOSTILE in words for words in reader.words)


def test_pictures_that_are_no_png_of_ours_are_not_shown(comparison: dict[str, Any]) -> None:
    hostile = copy.deepcopy(comparison)
    for run in hostile["runs"]:
        for sample in run["samples"]:
            sample["image"] = "https://example.org/tracker.png"
    assert "example.org" not in render_html(hostile)


def test_script_json_cannot_end_a_script() -> None:
    text = script_json({"a": "</script><!-- \u2028 & é", "b": [float("nan"), 1.5], "c": float("inf")})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": "</script><!-- \u2028 & é", "b": [None, 1.5], "c": None}


def test_pictures_are_images_of_their_own() -> None:
    assert picture_address("") == ""
    assert picture_address("<svg/>") == "data:image/svg+xml;base64,PHN2Zy8+"
    assert ' id="shade"' not in render_html(make_comparison())


def test_failures_are_plain_to_see(comparison: dict[str, Any], reader: Reader) -> None:
    words = " ".join(reader.words)
    for run in comparison["runs"]:
        assert run["reason"] in words
        assert run["to_go_on"] in words
    cards = [tag["class"] for tag in reader.all("li") if (tag.get("class") or "").startswith("card")]
    assert cards == ["card done"] * 4 + ["card failed"] * 2


@pytest.mark.parametrize("comparable", [True, False])
def test_runs_that_cannot_be_compared_are_not_ranked(comparison: dict[str, Any], comparable: bool) -> None:
    found = {**comparison, "comparable": comparable, "differences": ["They saw different images."]}
    page = render_html(found)
    assert ("cannot be compared" in page) == (not comparable)
    assert ("trains fastest" in page) == comparable
    assert ("(best)" in page) == comparable
    assert "They saw different images." in page


def test_synthetic_images_are_told(comparison: dict[str, Any]) -> None:
    synthetic = copy.deepcopy(comparison)
    synthetic["runs"][0]["dataset"]["synthetic"] = True
    assert "The images are synthetic" in render_html(synthetic)
    assert "The images are synthetic" not in render_html(comparison)


def test_losses_keep_every_digit_in_the_data(comparison: dict[str, Any], reader: Reader) -> None:
    """Frameworks differ in the eighth digit, and the page draws that."""
    told = [event["loss"] for event in reader.data()["runs"][0]["events"] if event["event"] == "step"]
    assert told == [event["loss"] for event in comparison["runs"][0]["events"] if event["event"] == "step"]


def test_confusions_are_in_tables_only(comparison: dict[str, Any]) -> None:
    found = copy.deepcopy(comparison)
    run = found["runs"][0]
    run["confusion"], wanted = None, run["confusion"]
    next(event for event in run["events"] if event["event"] == "epoch")["confusion"] = wanted
    reader = Reader(render_html(found))
    assert all("confusion" not in event for told in reader.data()["runs"] for event in told["events"])
    assert len([tag for tag in reader.all("table") if tag.get("class") == "confusion"]) == 4


def test_the_page_is_not_large(comparison: dict[str, Any]) -> None:
    page = re.sub(r'data:image/[^"]*', "", render_html(comparison))
    assert len(page.encode()) < 1_600_000


def test_headings_are_in_order(reader: Reader) -> None:
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_there_once(reader: Reader) -> None:
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_of_runs_that_wait_has_every_run() -> None:
    comparison = make_comparison(over=False)
    reader = Reader(render_html(comparison, events="events"))
    assert {tag["data-run"] for tag in reader.all("li") if "data-run" in tag} == {
        run["id"] for run in comparison["runs"]
    }


def test_rendering_leaves_its_comparison_as_it_was() -> None:
    comparison, before = make_comparison(), make_comparison()
    render_html(comparison)
    assert comparison == before
