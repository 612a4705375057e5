from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sample_comparison import empty_comparison, make_comparison
from strategies import refused

from nin_multi.errors import RunError
from nin_multi.report import render_csv, render_curves, render_html, render_markdown, write_report


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_per_run_with_the_figures_as_measured() -> None:
    comparison = make_comparison()
    rows = rows_of(render_csv(comparison))
    assert [row["id"] for row in rows] == [run["id"] for run in comparison["runs"]]
    assert float(rows[0]["loss"]) == comparison["runs"][0]["result"]["loss"]
    assert float(rows[0]["logits_rel_err"]) == 8.4e-8
    assert rows[4]["peak_memory_bytes"] == ""
    assert rows[4]["reason"] == comparison["runs"][4]["reason"]


def test_curves_have_a_row_per_point() -> None:
    comparison = make_comparison()
    rows = rows_of(render_curves(comparison))
    events = [event for run in comparison["runs"] for event in run["events"] if event["event"] != "layers"]
    assert len(rows) == len(events)
    assert [row["loss"] for row in rows] == ["" if event["loss"] is None else repr(event["loss"]) for event in events]
    assert rows[0]["never_predicted"] == "0 4 6"


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    comparison = make_comparison()
    comparison["runs"][0]["label"] = text
    assert rows_of(render_csv(comparison))[0]["label"] == f"'{text}"


def test_numbers_below_zero_stay_numbers() -> None:
    comparison = make_comparison()
    comparison["runs"][0]["result"]["loss"] = -0.5
    assert rows_of(render_csv(comparison))[0]["loss"] == "-0.5"


def test_markdown_has_verdict_table_reasons_and_commands() -> None:
    comparison = make_comparison()
    text = render_markdown(comparison)
    assert text.startswith("# nin-mnist on Fashion-MNIST: torch, mindspore, mxnet\n\n4 of 6 runs are done")
    assert "| torch | done | 0.3" in text
    assert "**mxnet s1 diverged:** the loss is no number at step 469" in text
    assert f"To go on: `{comparison['runs'][4]['to_go_on']}`" in text
    assert "```\n" + "\n".join(comparison["repeat"]) + "\n```" in text


def test_markdown_tables_hold_their_columns_whatever_a_label_is() -> None:
    comparison = make_comparison()
    comparison["runs"][0].update(label="a|b\n<script>*_`", reason="# no [link](x)")
    comparison.update(comparable=False, differences=["one | two"])
    text = render_markdown(comparison)
    assert "a\\|b &lt;script&gt;\\*\\_\\`" in text
    assert "<script>" not in text
    assert "> - one \\| two" in text
    widths = {
        line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("| ") and " done " in line
    }
    assert len(widths) == 1


def test_commands_with_backticks_stay_in_their_block() -> None:
    comparison = {**make_comparison(), "repeat": ["echo ```x```"]}
    assert "````\necho ```x```\n````" in render_markdown(comparison)


def test_a_report_is_four_files_that_say_the_same(tmp_path: Path) -> None:
    comparison = make_comparison()
    written = write_report(comparison, tmp_path / "new" / "report-0.1")
    names = ["report-0.1.html", "report-0.1.md", "report-0.1.csv", "report-0.1-curves.csv"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    renders = (render_html, render_markdown, render_csv, render_curves)
    for path, render in zip(written, renders, strict=True):
        assert path.read_text(encoding="utf-8") == render(comparison)


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv"])
def test_a_suffix_is_not_doubled(tmp_path: Path, suffix: str) -> None:
    assert write_report(empty_comparison(), tmp_path / f"x{suffix}")[0] == tmp_path / "x.html"


def test_a_report_is_the_same_each_time(tmp_path: Path) -> None:
    contents: list[list[bytes]] = []
    for _ in range(2):
        contents.append([path.read_bytes() for path in write_report(make_comparison(), tmp_path / "r")])
    assert contents[0] == contents[1]


def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused(RunError, "file"):
        write_report(empty_comparison(), tmp_path / "file" / "report")


def test_an_empty_comparison_is_a_report_too() -> None:
    found: dict[str, Any] = empty_comparison()
    assert "There is no run yet." in render_markdown(found)
    assert rows_of(render_csv(found)) == []
    assert rows_of(render_curves(found)) == []
