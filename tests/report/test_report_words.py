from __future__ import annotations

from typing import Any

import pytest
from sample_comparison import empty_comparison, make_comparison

from nin_multi.report import numbers
from nin_multi.report.agreement import agreement_view
from nin_multi.report.classes import confusions_view, lost_view, samples_view
from nin_multi.report.facts import facts_view
from nin_multi.report.figures import end_table, figures_of
from nin_multi.report.layers import architectures_view
from nin_multi.report.status import share_done
from nin_multi.report.styles import style_of_each
from nin_multi.report.verdict import verdict_of


@pytest.mark.parametrize(
    ("show", "value", "words"),
    [
        ("score", 0.8714, "0.871"),
        ("score", None, "–"),
        ("score", float("nan"), "–"),
        ("score", True, "–"),
        ("rate", 1410.4, "1,410"),
        ("rate", 38.21, "38.2"),
        ("seconds", 0.111, "0.11 s"),
        ("seconds", 14.21, "14.2 s"),
        ("seconds", 99.97, "1 min 40 s"),
        ("seconds", 7805, "2 h 10 min"),
        ("left", 0.2, "1 s"),
        ("left", 241, "4 min"),
        ("left", 7800, "2 h 10 min"),
        ("memory", 4.3e8, "0.43 GB"),
        ("error", 1.34e-7, "1.3e-07"),
        ("count", 349674, "349,674"),
        ("percent", 0.873, "87 %"),
        ("percent", 0.0001, "<1 %"),
        ("percent", 0, "0 %"),
        ("shape", [1, 48, 28, 28], "1 × 48 × 28 × 28"),
        ("setting", [5, 5], "5"),
        ("setting", [64, 48], "64/48"),
        ("setting", ["avx2", "amx"], "avx2, amx"),
        ("setting", False, "off"),
        ("setting", 0.05, "0.05"),
        ("setting", None, "–"),
        ("moment", "2026-11-23T06:10:00Z", "2026-11-23 06:10 UTC"),
        ("moment", "yesterday", "yesterday"),
    ],
)
def test_numbers_are_words(show: str, value: Any, words: str) -> None:
    assert getattr(numbers, f"show_{show}")(value) == words


def test_the_verdict_says_what_came_of_it() -> None:
    words = verdict_of(make_comparison())
    assert words.startswith("4 of 6 runs are done (mindspore s1 failed, mxnet s1 diverged)")
    assert "torch trains fastest, 1,410 images/s, 2.4 times mxnet" in words
    assert "torch, mindspore and mxnet agree with the float64 oracle, logits to 8.4e-08" in words


def test_the_verdict_names_who_disagrees() -> None:
    comparison = make_comparison()
    comparison["verify"]["backends"]["mxnet"]["agree"] = False
    assert "values of mxnet disagree with the float64 oracle" in verdict_of(comparison)


def test_the_verdict_of_runs_that_go_on_is_where_they_are() -> None:
    assert verdict_of(make_comparison(over=False)) == "0 of 6 runs are done; torch: training."
    assert verdict_of(empty_comparison()) == "There is no run yet."


def test_a_result_counts_before_events_and_events_before_nothing() -> None:
    run = make_comparison()["runs"][0]
    assert figures_of(run)["loss"] == run["result"]["loss"]
    last = [event for event in run["events"] if event["event"] == "epoch"][-1]
    found = figures_of({**run, "result": {}})
    assert (found["loss"], found["test_acc"]) == (last["loss"], last["test_acc"])
    assert found["peak_memory_bytes"] is None


def test_only_runs_that_are_done_can_be_the_best() -> None:
    comparison = make_comparison()
    comparison["runs"][4]["result"] = {"test_acc": 0.99}
    rows = end_table(comparison["runs"], comparison["verify"], mark_best=True)
    best = [row["run"]["id"] for row in rows for cell in row["cells"] if cell["field"] == "test_acc" and cell["best"]]
    values = {run["id"]: run["result"].get("test_acc") for run in comparison["runs"][:4]}
    assert best == [name for name, value in values.items() if value == max(values.values())]


def test_frameworks_keep_their_colour_and_runs_differ_by_dash() -> None:
    runs = make_comparison()["runs"]
    styles = style_of_each(runs)
    assert [style["color"] for style in styles] == [0, 1, 2, 0, 1, 2]
    assert len({style["dash"] for style in styles}) == 6
    assert [style["color"] for style in style_of_each([runs[0], runs[3]])] == [0, 1]


def test_share_done_is_between_nothing_and_all() -> None:
    assert share_done({"status": "training", "step": 5, "steps": 20}) == 0.25
    assert share_done({"status": "training", "step": 50, "steps": 20}) == 1.0
    assert share_done({"status": "waiting", "step": 0, "steps": 0}) == 0.0
    assert share_done({"status": "done", "step": 0, "steps": 0}) == 1.0


def test_shapes_are_held_against_the_specification() -> None:
    comparison = make_comparison()
    assert [found["agree"] for found in architectures_view(comparison)] == [True]
    comparison["shapes"]["mxnet"]["pool1"] = [1, 48, 13, 13]
    (found,) = architectures_view(comparison)
    assert not found["agree"]
    (row,) = [row for row in found["rows"] if row["name"] == "pool1"]
    assert [cell["fits"] for cell in row["shapes"]] == [True, True, False]


def test_a_block_comes_before_its_layers() -> None:
    names = [row["name"] for row in architectures_view(make_comparison())[0]["rows"]]
    assert names.index("block1") < names.index("block1.conv") < names.index("block1.relu2") < names.index("pool1")


def test_an_error_beyond_its_bound_does_not_fit() -> None:
    verify = make_comparison()["verify"]
    report = verify["backends"]["mxnet"]
    report["layers"]["pool1"], report["layers"]["pool2"] = 1.0, None
    del report["layers"]["flatten1"]
    found = agreement_view(verify)
    assert found is not None
    cells = {row["name"]: row["cells"][2] for row in found["layers"]}
    assert cells["pool1"] == {"text": "1.0e+00", "fits": False}
    assert cells["pool2"] == {"text": "∞", "fits": False}
    assert cells["flatten1"] == {"text": "–", "fits": None}
    assert cells["block1"]["fits"] is True


def test_nothing_verified_is_no_agreement() -> None:
    assert agreement_view(None) is None
    assert agreement_view({"backends": {}}) is None


def test_lost_classes_have_names() -> None:
    comparison = make_comparison()
    found = {row["run"]["id"]: row for row in lost_view(comparison["runs"], comparison["classes"])}
    assert found["torch-s0"]["dead"] == []
    assert found["mxnet-s1"]["dead"] == ["T-shirt/top", "Trouser", "Pullover", "Shirt"]


def test_the_test_images_decide_what_is_lost_where_there_is_no_result() -> None:
    run = make_comparison()["runs"][0]
    run["result"] = {}
    [event for event in run["events"] if event["event"] == "epoch"][-1]["test_dead_classes"] = [9, 12]
    (row,) = lost_view([run], make_comparison()["classes"])
    assert row["dead"] == ["Ankle boot", "class 12"]


def test_a_confusion_has_shares_of_its_rows() -> None:
    run = {**make_comparison()["runs"][0], "confusion": [[3, 1], [0, 0]]}
    (found,) = confusions_view([run], ["a", "b"])
    assert [cell["share"] for cell in found["rows"][0]["cells"]] == [0.75, 0.25]
    assert [row["recall"] for row in found["rows"]] == [0.75, None]
    assert confusions_view([{**run, "confusion": [[1] * 31] * 31, "events": []}], []) == []


def test_images_on_which_runs_differ_come_first() -> None:
    comparison = make_comparison()
    found = samples_view(comparison["runs"], comparison["classes"])
    kinds = [len({answer["predicted"] for answer in sample["answers"]}) for sample in found]
    assert kinds == sorted(kinds, reverse=True)
    assert {len(sample["answers"]) for sample in found} == {4}


def test_facts_that_are_the_same_are_told_once() -> None:
    tables = {table["title"]: table["rows"] for table in facts_view(make_comparison()["runs"])}
    recipe = {row["name"]: row for row in tables["Recipe"]}
    assert recipe["batch size"]["same"]
    assert not recipe["seed"]["same"]
    data = {row["name"]: row["cells"][0] for row in tables["Data"]}
    assert data["sha256 train images"] == "58e4771950337033…"
    runs = {row["name"]: row["cells"] for row in tables["Runs"]}
    assert runs["directory"][0] == "2026-11-23-nin-mnist-torch-s0"
    assert tables["Environment"][0]["name"] == "OMP_NUM_THREADS"
    assert {row["name"]: row["cells"][0] for row in tables["Machine"]}["memory"] == "16.70 GB"
