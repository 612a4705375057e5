"""`nin_multi.compare`, in real processes: one that fails takes no other with it, and the report is the report."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from notebook_stop import stopped_after

import nin_multi
from nin_multi.architecture_file import format_architecture
from nin_multi.errors import DataError
from nin_multi.notebook.comparing import ComparedRuns
from nin_multi.notebook.predictions import Predictions
from nin_multi.report import render_html
from nin_multi.spec import Architecture

BARE = {"verify": False, "pictures": False}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny: Architecture) -> ComparedRuns:
    """Two that run, and one whose precision there is not."""
    folder = tmp_path_factory.mktemp("compared")
    few = {"dataset": "synthetic", "train_examples": 40, "test_examples": 20, "batch_size": 10, "epochs": 1}
    more = {"runs_dir": folder / "runs", "precision": ["fp64", "bf16"], "seed": [0, 1], **BARE}
    return nin_multi.compare("numpy", tiny, **few, **more)


class TestCompared:
    def test_each_side_has_its_run(self, compared: ComparedRuns) -> None:
        rows = {row["label"]: row for row in compared.table}
        assert {label: row["status"] for label, row in rows.items()} == {
            **dict.fromkeys(("numpy fp64 seed 0", "numpy fp64 seed 1"), "done"),
            **dict.fromkeys(("numpy bf16 seed 0", "numpy bf16 seed 1"), "failed"),
        }
        assert [run.path for run in compared.runs] == [Path(row["run_dir"]) for row in rows.values() if row["run_dir"]]
        for run, seed in zip(compared.runs, (0, 1), strict=True):
            assert run.recipe.seed == seed
            row = rows[f"numpy fp64 seed {seed}"]
            assert (row["test_acc"], row["loss"]) == (run.result["test_acc"], run.result["loss"])
        assert rows["numpy bf16 seed 0"]["test_acc"] is None
        assert "bf16" in compared.comparison["runs"][2]["reason"]

    def test_its_architecture_and_its_command(self, compared: ComparedRuns, tiny: Architecture) -> None:
        (described,) = compared.comparison["architectures"]
        assert (described["name"], described["parameters"]) == ("tiny", tiny.parameters)
        (command,) = compared.comparison["repeat"]
        assert command.startswith(
            "nin_multi compare --backend=numpy --arch=tiny.yaml --seed=0,1 --precision=fp64,bf16 "
        )
        assert "--train-examples=40" in command
        assert "runs" not in command

    def test_in_a_notebook_it_is_the_report_in_a_frame(self, compared: ComparedRuns) -> None:
        """Its scripts run, and reach nothing of the notebook: no word of allow-same-origin."""
        shown = compared._repr_html_()
        found = re.fullmatch(
            r'<iframe title="[^"]*" sandbox="allow-scripts" style="[^"]*" srcdoc="([^"]*)"></iframe>', shown
        )
        assert found is not None
        assert html.unescape(found[1]) == render_html(compared.comparison)

    def test_in_a_line(self, compared: ComparedRuns) -> None:
        acc = f"{compared.runs[0].result['test_acc']:.3f}"
        assert re.search(rf"numpy fp64 seed 0: done, loss .*, test acc {acc}, ", repr(compared))
        assert "numpy bf16 seed 1: failed" in repr(compared)

    def test_it_is_saved_as_the_command_saves_it(self, compared: ComparedRuns, tmp_path: Path) -> None:
        written = compared.save(tmp_path / "lesson.html")
        assert {path.name for path in written} == {"lesson.html", "lesson.md", "lesson.csv", "lesson-curves.csv"}
        assert (tmp_path / "lesson.html").read_text() == render_html(compared.comparison)

    def test_without_pictures_there_are_no_predictions(self, compared: ComparedRuns) -> None:
        assert list(compared.predictions) == []
        assert "pictures=True" in compared.predictions._repr_html_()


def test_where_all_fail_the_reason_is_raised(here: Path, tiny: Architecture) -> None:
    with pytest.raises(DataError, match="no-such-folder"):
        nin_multi.compare("numpy", tiny, dataset="fashion-mnist", data_dir="no-such-folder", **BARE)


def test_in_a_notebook_all_grow_in_one_picture(cell, tiny: Architecture, few: dict[str, Any], read_html) -> None:
    code = "import nin_multi\ncompared = nin_multi.compare('numpy', tiny, seed=[0, 1], **few)"
    result, outputs = cell(code, tiny=tiny, few={**few, **BARE})
    assert result.success
    assert len({output["transient"]["display_id"] for output in outputs}) == 1
    assert outputs[0]["data"]["text/plain"] == "numpy seed 0: waiting\nnumpy seed 1: waiting"
    halfway = next(output for output in outputs if "seed 0: done" in output["data"]["text/plain"])
    assert re.search("numpy seed 1: (?!done)", halfway["data"]["text/plain"])
    read = read_html(outputs[-1]["data"]["text/html"])
    assert [row[:2] for row in read.rows[1:]] == [["numpy seed 0", "done"], ["numpy seed 1", "done"]]
    assert "img" in read.names


def test_pictures_are_asked_for(here: Path, tiny: Architecture, few: dict[str, Any]) -> None:
    compared = nin_multi.compare("numpy", tiny, **few)
    assert "<svg" in compared.comparison["diagram"]
    assert len(compared.predictions) > 0
    shown = compared.predictions._repr_html_()
    assert shown.count("data:image/png;base64,") == len(compared.predictions)


def test_predictions_side_by_side(read_html) -> None:
    """The same image once, with what each net took it for; mistakes are marked."""
    picture = "data:image/png;base64,AAAA"
    sample = {"index": 4, "label": 1, "image": picture}
    runs = [
        {"label": "a", "samples": [{**sample, "predicted": 1, "probabilities": [0.25, 0.75]}]},
        {"label": "b", "samples": [{**sample, "predicted": 0, "probabilities": [0.6, 0.4]}]},
        {"label": "c", "samples": []},
    ]
    found = Predictions({"classes": ["Bag", "Coat<"], "runs": runs})
    assert list(found) == [
        {"index": 4, "label": "Coat<", "image": picture, "predicted": {"a": ("Coat<", 0.75), "b": ("Bag", 0.6)}}
    ]
    assert read_html(found._repr_html_()).rows == [["", "is", "a", "b"], ["", "Coat<", "Coat< 75%", "✗ Bag 60%"]]


PROGRAM = """
import nin_multi
try:
    nin_multi.compare(["numpy"], "tiny.yaml", seed=[0, 1], together=True, dataset="synthetic", train_examples=64,
                      test_examples=20, batch_size=16, epochs=10**6)
except KeyboardInterrupt as stop:
    print(stop)
"""


def test_who_stops_it_keeps_the_runs(here: Path, tiny: Architecture) -> None:
    (here / "tiny.yaml").write_text(format_architecture(tiny))
    out, _ = stopped_after(PROGRAM, here, ["numpy seed 0  step ", "numpy seed 1  step "])
    paths = sorted(here.glob("runs/*"))
    assert [nin_multi.open_run(path).status for path in paths] == ["interrupted"] * 2
    assert out.startswith("stopped; what there is, side by side: nin_multi report runs/")
    assert all(str(path.relative_to(here)) in out for path in paths)
