"""The picture of a session: the same bytes each time, every row in it, history where there is one."""

from __future__ import annotations

from typing import Any

import pytest

from nin_multi.bench import picture


def session(time: str, speed: float) -> dict[str, Any]:
    rows = [
        {
            "backend": backend,
            "precision": precision,
            "what": what,
            "arch": "nin",
            "batch_size": 128,
            "examples_per_sec": speed,
            "rounds": [speed, speed * 1.1],
            "peak_share": None if what == "data" else 0.25,
        }
        for backend, precision, what in (
            ("torch", "fp32", "harness"),
            ("torch", "bf16", "harness"),
            ("torch", "fp32", "book"),
            ("numpy", "fp32", "data"),
        )
    ]
    peaks = {"fp32": 250.0, "bf16": 2000.0}
    return {
        "time": time,
        "machine": {"matmul_gflops": peaks},
        "training_flop_per_image": 4_506_000_000,
        "rows": rows,
    }


NOW, BEFORE = session("2026-01-31T12:00:00Z", 40.0), [session("2026-01-30T12:00:00Z", 30.0)]


def texts(figure: Any) -> list[str]:
    import matplotlib.text

    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


@pytest.mark.parametrize("before", [[], BEFORE])
def test_the_same_session_gives_the_same_bytes(before: list[dict[str, Any]]) -> None:
    first = picture.draw(NOW, before)
    assert first.startswith(b"<?xml")
    assert b"<svg" in first
    assert picture.draw(NOW, before) == first
    assert picture.draw(session("2026-01-31T12:00:00Z", 41.0), before) != first


def test_bars_and_peaks_by_precision() -> None:
    figure = picture.figure_of(NOW, [])
    assert len(figure.axes) == 2
    bars = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert bars == [["torch harness"], ["torch harness", "torch book"]]  # and no data: that trains nothing
    shown = texts(figure)
    assert "40.0 (25%)" in shown
    assert any("fp32" in text and "55 images/s" in text for text in shown)
    assert any("bf16" in text and "444 images/s" in text for text in shown)


def test_history_is_drawn_where_there_is_one() -> None:
    figure = picture.figure_of(NOW, BEFORE)
    assert len(figure.axes) == 3
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[-1].lines}
    assert lines == {name: [30.0, 40.0] for name in ("torch fp32 harness", "torch bf16 harness", "torch fp32 book")}
    assert {"2026-01-30", "2026-01-31"} <= set(texts(figure))


def test_a_session_of_data_alone() -> None:
    alone = {**NOW, "rows": NOW["rows"][-1:]}
    assert "numpy data" in texts(picture.figure_of(alone, []))
    assert picture.draw(alone)
