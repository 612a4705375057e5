from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from sample_comparison import empty_comparison, make_comparison

from nin_multi.report import render_html

PHONE = {"width": 390, "height": 844}
PAPER = {"width": 794, "height": 1123}  # A4 at 96 dots per inch
PANELS = ["overview", "curves", "architecture", "agreement", "speed", "classes", "inside", "code", "repeat"]
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"><b>bold</b>"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def show(page: Any, name: str) -> None:
    page.click(f"#tab-{name}")
    page.wait_for_selector(f"#{name}", state="visible")


def visible(page: Any) -> list[str]:
    return [panel.get_attribute("id") for panel in page.query_selector_all(".panel") if panel.is_visible()]


def undrawn(page: Any, inside: str = "") -> list[str]:
    return [
        chart.get_attribute("data-chart") for chart in page.query_selector_all(f"{inside} .chart:not(:has(.main-svg))")
    ]


def lines(page: Any, chart: str) -> list[dict[str, Any]]:
    """The traces of a chart as Plotly holds them."""
    return page.evaluate(
        "name => document.querySelector(`[data-chart='${name}']`).data.map(({name, x, y}) => ({name, x, y}))", chart
    )


def test_a_report_asks_for_nothing_and_has_nothing_to_complain_of(open_page: Any, report: str) -> None:
    page = open_page(report)
    for name in PANELS:
        show(page, name)
    assert page.watch.complaints == []
    assert [address for address in page.watch.requests if not address.startswith("data:")] == [report]


def test_charts_are_drawn_when_they_are_seen_and_not_before(open_page: Any, report: str) -> None:
    page = open_page(report)
    assert len(undrawn(page)) == page.locator(".chart").count() > 15
    for name in PANELS:
        show(page, name)
        assert undrawn(page, f"#{name}") == []
    assert page.locator(".chart").count() == page.locator(".chart:has(.main-svg)").count()


def test_every_chart_says_in_words_what_it_shows(open_page: Any, report: str) -> None:
    page = open_page(report)
    show(page, "curves")
    words = page.get_attribute("[data-chart=loss]", "aria-label")
    assert words.startswith("Training loss over epochs: torch from 2.0")
    assert page.get_attribute("[data-chart=loss]", "role") == "img"


def test_a_click_shows_one_panel(open_page: Any, report: str) -> None:
    page = open_page(report)
    assert visible(page) == ["overview"]
    for name in PANELS:
        show(page, name)
        assert visible(page) == [name]
        assert page.get_attribute(f"#tab-{name}", "aria-selected") == "true"
        assert page.locator("[role=tab][aria-selected=true]").count() == 1


def test_keys_move_through_the_tabs(open_page: Any, report: str) -> None:
    page = open_page(report)
    page.focus("#tab-overview")
    seen = []
    for _ in PANELS:
        page.keyboard.press("ArrowRight")
        seen += visible(page)
    assert seen == [*PANELS[1:], "overview"]
    for key, panel in (("ArrowLeft", "repeat"), ("Home", "overview"), ("End", "repeat")):
        page.keyboard.press(key)
        assert visible(page) == [panel]
        assert page.evaluate("document.activeElement.id") == f"tab-{panel}"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "repeat"


def test_the_first_key_leads_past_the_navigation(open_page: Any, report: str) -> None:
    page = open_page(report)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_an_address_leads_to_its_panel(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#speed")
    assert visible(page) == ["speed"]
    show(page, "code")
    assert page.evaluate("location.hash") == "#code"


def test_the_theme_changes_and_is_remembered(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#curves", color_scheme="light")
    light = page.evaluate(BACKGROUND)
    ink = "document.querySelector('[data-chart=loss] .xtick text').style.fill"
    before = page.evaluate(ink)
    page.click("#theme")
    assert page.evaluate(BACKGROUND) != light
    assert page.evaluate(ink) != before
    page.reload()
    assert page.evaluate(BACKGROUND) != light
    page.click("#theme")
    assert page.evaluate(BACKGROUND) == light


def test_the_systems_theme_is_taken(open_page: Any, report: str) -> None:
    light, dark = (open_page(report, color_scheme=scheme).evaluate(BACKGROUND) for scheme in ("light", "dark"))
    assert light != dark


def test_on_paper_everything_is_there_and_light(open_page: Any, report: str) -> None:
    page = open_page(report, color_scheme="dark", viewport=PAPER)
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_selector("[data-chart=std] .main-svg")
    assert visible(page) == PANELS
    assert undrawn(page) == []
    assert page.evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    assert not page.is_visible(".tabs")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER["width"]
    page.emulate_media(media="screen", color_scheme="dark")
    assert visible(page) == ["overview"]


@pytest.mark.parametrize("size", [PHONE, {"width": 768, "height": 1024}, {"width": 1920, "height": 1080}])
def test_no_page_is_wider_than_its_screen(open_page: Any, report: str, size: dict[str, int]) -> None:
    page = open_page(report, viewport=size)
    for name in PANELS:
        show(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name


def test_what_is_too_wide_scrolls_by_keyboard(open_page: Any, report: str) -> None:
    page = open_page(report, viewport=PHONE)
    for name in PANELS:
        show(page, name)
        found = page.evaluate(
            "[...document.querySelectorAll('.panel.shown *')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
            "['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.tabIndex < 0).map(e => e.outerHTML)"
        )
        assert found == [], name


@pytest.fixture(scope="module")
def short_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One run that is done, one that failed and one that diverged, with few points: axe looks at every cell."""
    comparison = make_comparison()
    comparison["runs"] = [comparison["runs"][index] for index in (0, 4, 5)]
    for run in comparison["runs"]:
        run["events"] = run["events"][:12]
    path = tmp_path_factory.mktemp("page") / "short.html"
    path.write_text(render_html(comparison), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("scheme", "size"), [("light", {"width": 1280, "height": 800}), ("dark", PHONE)])
def test_axe_finds_nothing_serious(open_page: Any, short_report: str, scheme: str, size: dict[str, int]) -> None:
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page = open_page(short_report, color_scheme=scheme, viewport=size, bypass_csp=True)
    page.evaluate(axe)
    for name in PANELS:
        show(page, name)
        page.evaluate("document.querySelectorAll('.panel.shown details').forEach(e => { e.open = true; })")
        ran = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [item for item in ran["violations"] if item["impact"] in ("serious", "critical")]
        assert [(item["id"], [node["html"][:200] for node in item["nodes"]][:3]) for item in serious] == [], name
        assert len(ran["passes"]) > 10


def test_axe_would_find_what_is_wrong(open_page: Any, short_report: str) -> None:
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page = open_page(short_report, bypass_csp=True)
    page.evaluate(axe)
    page.evaluate("document.querySelector('#verdict').style.color = '#ccc'; document.querySelector('html').lang = ''")
    found = {item["id"] for item in page.evaluate("axe.run()")["violations"]}
    assert {"color-contrast", "html-has-lang"} <= found


def test_foreign_text_does_nothing(open_page: Any, tmp_path: Path) -> None:
    comparison = make_comparison()
    for index, run in enumerate(comparison["runs"]):
        run.update(label=f"{HOSTILE}{index}", reason=HOSTILE, to_go_on=HOSTILE, run_dir=HOSTILE)
    comparison.update(title=HOSTILE, classes=[HOSTILE] * 10, repeat=[HOSTILE], comparable=False, differences=[HOSTILE])
    comparison["diagram"] = "<svg xmlns='http://www.w3.org/2000/svg'><script>top.document.title='taken'</script></svg>"
    path = tmp_path / "hostile.html"
    path.write_text(render_html(comparison), encoding="utf-8")
    page = open_page(path.as_uri())
    for name in [name for name in PANELS if page.locator(f"#tab-{name}").count()]:
        show(page, name)
    assert page.title() == HOSTILE
    assert page.locator("img[src=x], main b").count() == 0
    assert HOSTILE in page.text_content(".card .reason")
    show(page, "speed")
    assert f"{HOSTILE}0" in page.text_content("[data-chart=speed] .yaxislayer-above")
    assert page.watch.complaints == []
    assert [address for address in page.watch.requests if not address.startswith("data:")] == [path.as_uri()]


def test_a_script_that_is_not_the_pages_own_does_not_run(open_page: Any, tmp_path: Path) -> None:
    path = tmp_path / "planted.html"
    text = render_html(empty_comparison())
    planted = text.replace(
        "</main>", "</main><script>document.title = 'taken'</script><b onclick=\"document.title = 'taken'\">x</b>"
    )
    path.write_text(planted, encoding="utf-8")
    page = open_page(path.as_uri())
    page.click("b")
    assert page.title() == "nothing"
    assert len(page.watch.complaints) == 2


def test_curves_go_over_epochs_steps_and_time(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#curves")
    events = [event for event in make_comparison()["runs"][0]["events"] if event["event"] == "step"]
    for over in ("progress", "step", "seconds"):
        page.check(f"[name=over][value={over}]")
        assert lines(page, "loss")[0]["x"] == pytest.approx([event[over] for event in events], rel=1e-4)
    assert lines(page, "loss")[0]["y"] == [event["loss"] for event in events]


def test_a_run_can_be_left_out_of_all_curves(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#curves")
    assert [line["name"] for line in lines(page, "loss")][:2] == ["torch", "mindspore"]
    page.click("#curves [data-toggle=torch-s0]")
    for chart in ("loss", "train_acc", "test_acc", "test_loss"):
        assert "torch" not in [line["name"] for line in lines(page, chart)]
    assert page.get_attribute("#curves [data-toggle=torch-s0]", "aria-pressed") == "false"
    page.click("#curves [data-toggle=torch-s0]")
    assert lines(page, "loss")[0]["name"] == "torch"


def test_differences_are_taken_at_equal_steps(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#curves")
    page.uncheck("#log")
    first, second = ([e for e in run["events"] if e["event"] == "step"] for run in make_comparison()["runs"][:2])
    wanted = [b["loss"] - a["loss"] for a, b in zip(first, second, strict=True)]
    assert lines(page, "difference")[0] == {
        "name": "mindspore",
        "x": pytest.approx([event["progress"] for event in first], rel=1e-4),
        "y": pytest.approx(wanted, rel=1e-12, abs=1e-18),
    }
    page.check("#log")
    assert lines(page, "difference")[0]["y"] == pytest.approx([abs(value) for value in wanted], rel=1e-12, abs=1e-18)
    page.select_option("#reference", "mindspore-s0")
    page.select_option("#measure", "test_acc")
    assert lines(page, "difference")[0]["name"] == "torch"
    assert len(lines(page, "difference")[0]["x"]) == 8


def test_a_loss_that_diverges_does_not_press_the_others_flat(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#curves")
    reach = "document.querySelector('[data-chart=loss]').layout.yaxis.range[1]"
    worst = max(event["loss"] for event in make_comparison()["runs"][5]["events"] if event.get("loss"))
    assert 2.0 < page.evaluate(reach) < worst / 1.5


def test_layers_can_be_chosen(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#inside")
    before = lines(page, "std")[0]["y"]
    page.select_option("#layer", "block3.conv")
    events = [event for event in make_comparison()["runs"][0]["events"] if event["event"] == "layers"]
    assert lines(page, "std")[0]["y"] == pytest.approx([e["layers"]["block3.conv"]["std"] for e in events], rel=1e-4)
    assert lines(page, "std")[0]["y"] != before
    assert lines(page, "bands")[-1]["y"] == pytest.approx(
        [e["layers"]["block3.conv"]["quantiles"][3] for e in events], rel=1e-4
    )


def test_code_stands_side_by_side_or_is_chosen(open_page: Any, report: str) -> None:
    wide = open_page(f"{report}#code", viewport={"width": 1920, "height": 1080})
    boxes = [source.bounding_box() for source in wide.query_selector_all(".source")]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert len({round(box["x"]) for box in boxes}) == 3
    narrow = open_page(f"{report}#code", viewport=PHONE)
    narrow.click(".choose button >> nth=2")
    assert [source.is_visible() for source in narrow.query_selector_all(".source")] == [False, False, True]


def test_code_can_be_copied(open_page: Any, report: str) -> None:
    page = open_page(f"{report}#code", permissions=["clipboard-read", "clipboard-write"])
    page.click("[data-copy=code-2]")
    page.wait_for_selector("#told:has-text('Copied.')", state="attached")
    code = make_comparison()["code"]["mindspore"]
    assert page.evaluate("navigator.clipboard.readText()").strip() == code.strip()


def test_without_scripts_everything_can_be_read(open_page: Any, report: str) -> None:
    page = open_page(report, java_script_enabled=False)
    assert page.locator(".panel:visible").count() == len(PANELS)
    assert page.locator(".chart:visible, .controls:visible").count() == 0


def test_a_page_of_nothing_opens_too(open_page: Any, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    path.write_text(render_html(empty_comparison()), encoding="utf-8")
    page = open_page(path.as_uri())
    assert page.text_content("#verdict") == "There is no run yet."
    assert page.watch.complaints == []


def test_values_that_are_missing_break_no_chart(open_page: Any, tmp_path: Path) -> None:
    comparison = copy.deepcopy(make_comparison())
    for run in comparison["runs"]:
        run["result"] = {}
        for event in run["events"]:
            for key in ("loss", "train_acc", "seconds", "examples_per_sec", "dead_classes"):
                event[key] = None
            for told in event.get("layers", {}).values():
                told.update(quantiles=[None] * 7, std=None)
    path = tmp_path / "gaps.html"
    path.write_text(render_html(comparison), encoding="utf-8")
    page = open_page(path.as_uri())
    for name in PANELS:
        show(page, name)
        assert undrawn(page, f"#{name}") == []
    assert page.watch.complaints == []
    assert "No points yet" in page.get_attribute("[data-chart=loss]", "aria-label")
