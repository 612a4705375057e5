"""When a notebook's picture of runs is drawn anew, without a notebook."""

from __future__ import annotations

from typing import Any

import pytest

from nin_multi.compare.sides import Side
from nin_multi.compare.stored import blank_run
from nin_multi.notebook.screens import Live

POINT = {"event": "step", "step": 1, "progress": 1.0, "loss": 2.0, "train_acc": 0.1}


@pytest.mark.parametrize(
    ("news", "again"),
    [({"dataset": {"title": "garments"}}, True), ({"events": [POINT, POINT]}, True), ({"step": 2}, False)],
    ids=["its data becomes known", "a point", "nothing to be seen in it"],
)
def test_a_picture_is_drawn_anew_where_it_would_be_another(
    news: dict[str, Any], again: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    side = Side("run", "numpy", "numpy", "tiny", None, 0)
    run = blank_run(id="run", label="numpy", backend="numpy", arch="tiny", seed=0, epochs=1, events=[POINT])
    drawn: list[dict[str, Any]] = []

    def picture(runs: Any) -> str:
        drawn.append(dict(runs["run"]))
        return ""

    live = Live({"run": run}, picture)
    for fields in ({}, {}, news):
        run |= fields
        live.change(side, {"status": "training", **fields})
    assert len(drawn) == 1 + again
    assert (drawn[-1]["dataset"], len(drawn[-1]["events"])) == (run["dataset"], len(run["events"]))
    assert "numpy" in capsys.readouterr().out
