"""What the layers gave: a panel for each that changes something, whatever is missing in the events."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nin_multi.drawing.activations import draw_activations, traces_of


def _layer(scale: float, zeros: float | None = 0.25) -> dict[str, Any]:
    quantiles = [0.0, 0.0, 0.1, 0.2, 0.5, 1.0, 7.0]
    return {"quantiles": [scale * value for value in quantiles], "zeros": zeros, "mean": scale, "std": scale}


def _events(*layers: str, epochs: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "event": "layers",
            "step": 10 * epoch,
            "progress": float(epoch),
            "layers": {name: _layer(1.0 + number + epoch) for number, name in enumerate(layers)},
        }
        for epoch in range(epochs)
    ]


def test_a_panel_for_each_layer(words) -> None:
    svg = draw_activations(_events("conv1", "relu1", "pool1"), "a title")
    assert svg is not None
    said = words(svg)
    assert [word for word in said if word in ("conv1", "relu1", "pool1")] == ["conv1", "relu1", "pool1"]
    assert {"a title", "0", "1", "2", "100 %"} <= set(said)
    assert not any("." in word and word[0].isdigit() and float(word) % 1 and float(word) > 50 for word in said)


def test_layers_that_change_nothing_are_told_with_the_one_before() -> None:
    events = _events("pool1", "dropout1", "linear1")
    for event in events:
        event["layers"]["dropout1"] = dict(event["layers"]["pool1"])
    traces = traces_of(events)
    assert [trace.names for trace in traces] == [["pool1", "dropout1"], ["linear1"]]
    assert traces[0].progress == [0.0, 1.0, 2.0]
    assert traces[0].zeros == [0.25] * 3
    assert traces[1].quantiles[2][-1] == 7.0 * (1 + 2 + 2)
    events[-1]["layers"]["dropout1"]["zeros"] = 0.5
    assert [trace.names for trace in traces_of(events)] == [["pool1"], ["dropout1"], ["linear1"]]


@pytest.mark.parametrize("events", [[], [{"event": "step", "step": 1}], [{"event": "layers", "step": 0}]])
def test_nothing_to_draw(events: list[dict[str, Any]]) -> None:
    assert draw_activations(events, "title") is None


@pytest.mark.parametrize("count", [1, 2, 4, 5, 41, 90])
def test_any_number_of_layers(count: int, words) -> None:
    svg = draw_activations(_events(*(f"layer{number}" for number in range(count)), epochs=2), "title")
    assert svg is not None
    panels = [word for word in words(svg) if word.startswith("layer")]
    assert len(panels) == min(count, 40)
    assert (panels[0], panels[-1]) == ("layer0", f"layer{count - 1}")


def test_before_the_first_epoch_has_ended(words) -> None:
    svg = draw_activations(_events("conv1", epochs=1), "title")
    assert svg is not None
    assert "conv1" in words(svg)


def test_figures_that_are_none_are_gaps() -> None:
    events = _events("conv1", "conv2")
    events[1]["layers"]["conv1"] = {"quantiles": [None] * 7, "zeros": None, "mean": None, "std": None}
    events[2]["layers"]["conv2"] = "no object"
    first, second = traces_of(events)
    assert [math.isnan(value) for value in first.zeros] == [False, True, False]
    assert len(second.progress) == 2
    assert draw_activations(events, "title") is not None


def test_equal_numbers_give_equal_bytes() -> None:
    assert draw_activations(_events("conv1"), "title") == draw_activations(_events("conv1"), "title")
