"""The book's picture of a run: its words, and gaps where a figure is missing; its lines are in test_training_run."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from nin_multi.drawing.curve import draw_curve

STEP = {"event": "step", "step": 1, "progress": 0.5, "loss": 2.0, "train_acc": 0.1}
EPOCH = {"event": "epoch", "step": 2, "epoch": 1, "test_acc": 0.3}


def test_words_can_be_read(words) -> None:
    said = words(draw_curve([STEP, EPOCH], 1, "tiny on $many$ things, torch"))
    assert {"tiny on $many$ things, torch", "epoch", "train loss", "train acc", "test acc"} <= set(said)


def test_it_has_a_title_for_those_who_do_not_see_it() -> None:
    root = ET.fromstring(draw_curve([STEP, EPOCH], 1, "<tiny> & so on"))
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "<tiny> & so on"


def test_events_of_another_kind_and_figures_that_are_missing() -> None:
    events = [{"event": "layers", "step": 0, "layers": {}}, {**STEP, "loss": None}, {"event": "step", "step": 3}, EPOCH]
    ET.fromstring(draw_curve(events, 2, "title"))
    ET.fromstring(draw_curve([], 2, "title"))


def test_equal_events_give_equal_bytes() -> None:
    assert draw_curve([STEP, EPOCH], 1, "title") == draw_curve([STEP, EPOCH], 1, "title")
