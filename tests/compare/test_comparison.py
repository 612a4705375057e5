"""Runs side by side: whether they may be compared, and what is said where not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from nin_multi.architecture_file import load_architecture
from nin_multi.compare.board import Board
from nin_multi.compare.comparison import describe, differences_of, make_comparison, title_of
from nin_multi.compare.sides import sides_of
from nin_multi.compare.stored import BLANK, blank_run, stored_run
from nin_multi.errors import RunError
from nin_multi.registry import load
from nin_multi.training import job, run_directory
from nin_multi.training.display import Silent
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import train


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of two epochs."""
    from nin_multi.architecture_file import parse_architecture
    from nin_multi.data import synthetic_dataset

    layers = "  - {type: flatten}\n  - {type: linear, out_features: 10}\n"
    architecture = parse_architecture(f"name: tiny\ninput: [1, 8, 8]\nlayers:\n{layers}")
    path = tmp_path_factory.mktemp("runs") / "one"
    data = synthetic_dataset(64, 20)
    work = job.Job(load("numpy"), "cpu", "fp64", architecture, data, Recipe(epochs=2, batch_size=10, seed=3))
    train(work, run_directory.RunDirectory.create(path), Silent())
    return path


@pytest.fixture
def runs(run_path: Path) -> list[dict[str, Any]]:
    one, _ = stored_run(run_path)
    return [{**copy.deepcopy(one), "label": label, "id": label} for label in ("a", "b")]


def test_a_stored_run_is_what_its_files_say(run_path: Path) -> None:
    run, story = stored_run(run_path)
    assert run.keys() == BLANK.keys()
    result = json.loads((run_path / "result.json").read_text())
    assert (run["backend"], run["status"], run["arch"], run["seed"]) == ("numpy", "done", "tiny", 3)
    assert (run["step"], run["steps"], run["epoch"], run["epochs"]) == (14, 14, 2, 2)
    assert run["result"] == result
    assert run["confusion"] == result["confusion"]
    assert sum(map(sum, run["confusion"])) == 20
    assert run["events"] == run_directory.RunDirectory.open(run_path).events()
    assert run["framework_version"] == result["framework_version"]
    assert story.architecture.name == "tiny"
    json.dumps(run, allow_nan=False)


def test_equal_runs_do_not_differ(runs: list[dict[str, Any]]) -> None:
    assert list(differences_of(runs)) == []
    made = make_comparison(runs, [load_architecture("nin-mnist")], ["one"], ["again"])
    assert made["comparable"]
    assert made["title"] == "tiny on Synthetic garments: numpy" or made["title"].startswith("tiny on ")


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_images_are_not_comparable(runs: list[dict[str, Any]], split: str) -> None:
    runs[1]["dataset"]["sha256"][f"{split}_images"] = "0" * 64
    runs[1]["dataset"][f"{split}_examples"] = 1234
    (difference,) = differences_of(runs)
    assert difference["decides"]
    assert f"different {'training' if split == 'train' else split} images" in difference["what"]
    assert "b: 1,234 of" in difference["what"]
    assert not make_comparison(runs, [], [], [])["comparable"]


def test_another_recipe_is_said_and_may_be_what_is_compared(runs: list[dict[str, Any]]) -> None:
    runs[1]["recipe"] |= {"lr": 0.5, "dropout": "native", "seed": 8}
    runs[1]["machine"]["processor"] = "another"
    told = {difference["what"]: difference["decides"] for difference in differences_of(runs)}
    assert not any(told.values())
    assert any(what.startswith("lr: 0.1 in a; 0.5 in b") for what in told)
    assert any("b drew its dropout by itself" in what for what in told)
    assert any("speeds do not compare" in what for what in told)
    assert not any("seed" in what for what in told)


def test_a_run_that_has_not_begun_differs_in_nothing(runs: list[dict[str, Any]]) -> None:
    assert list(differences_of([*runs, blank_run(label="c", backend="numpy")])) == []


def test_titles() -> None:
    runs = [blank_run(arch="nin", backend="torch", dataset={"title": "X"}), blank_run(arch="nin", backend="mxnet")]
    assert title_of(runs) == "nin on X: torch, mxnet"


def test_an_architecture_by_its_layers() -> None:
    architecture = load_architecture("nin")
    told = describe(architecture)
    assert (told["name"], told["input"]) == ("nin", [1, 224, 224])
    assert sum(row["parameters"] for row in told["layers"]) == told["parameters"] == 1_992_166
    assert sum(row["multiply_adds"] for row in told["layers"]) == told["multiply_adds"]
    first = told["layers"][0]
    assert (first["name"], first["type"], first["output"]) == ("block1", "nin_block", [1, 96, 54, 54])
    assert first["settings"]["kernel_size"] in (11, [11, 11])
    json.dumps(told)


def test_blank_runs_share_nothing() -> None:
    one, two = blank_run(), blank_run()
    one["events"].append(1)
    one["result"]["x"] = 1
    assert (two["events"], two["result"]) == ([], {})


def test_no_run_and_a_damaged_one(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        stored_run(tmp_path)
    (tmp_path / "run.json").write_text((run_path / "run.json").read_text()[:100])
    with pytest.raises(RunError, match="cannot be read as JSON"):
        stored_run(tmp_path)


class TestBoard:
    def test_what_it_hears_is_what_it_has(self, run_path: Path) -> None:
        (side,) = sides_of(["numpy"], ["file.yaml"], [None], [3], {})
        board = Board([side], {"file.yaml": "tiny"}, 2)
        (run,) = board.runs.values()
        assert (run["status"], run["arch"], run["seed"], run["epochs"]) == ("waiting", "tiny", 3, 2)
        heard: list[dict[str, Any]] = []

        class Hears:
            def note(self, side: Any, text: str) -> None: ...

            def change(self, side: Any, fields: Any) -> None:
                heard.append(dict(fields))

            def point(self, side: Any, event: Any) -> None: ...

        board.audience.append(Hears())
        board.change(side, {"status": "training", "run_dir": str(run_path), "step": 1})
        stored, _ = stored_run(run_path)
        assert run["recipe"] == stored["recipe"] == heard[-1]["recipe"]
        for event in stored["events"]:
            board.point(side, event)
        board.change(side, {"status": "done", "result": stored["result"], "run_dir": str(run_path)})
        for key in ("events", "result", "confusion", "dataset", "versions", "tuning", "framework_version"):
            assert run[key] == stored[key]

    @pytest.mark.parametrize("status", ["measuring", "training", "evaluating", "finishing"])
    def test_what_is_left_is_what_has_begun_whatever_was_heard_of_it(
        self, run_path: Path, tmp_path: Path, status: str
    ) -> None:
        begun, early, waiting = sides_of(["numpy"], ["tiny"], [None], [3, 4, 5], {})
        board = Board([begun, early, waiting], {"tiny": "tiny"}, 2)
        assert board.what_is_left() == ""
        board.change(early, {"status": status, "run_dir": str(tmp_path / "without")})
        assert board.what_is_left() == ""
        board.change(begun, {"status": status, "run_dir": str(run_path)})
        assert board.what_is_left().endswith(f"nin_multi report {run_path}")

    def test_a_run_whose_files_are_gone(self, tmp_path: Path) -> None:
        (side,) = sides_of(["numpy"], ["tiny"], [None], [3], {})
        board = Board([side], {"tiny": "tiny"}, 2)
        board.change(side, {"status": "training", "run_dir": str(tmp_path / "gone")})
        board.change(side, {"status": "failed", "reason": "gone", "run_dir": str(tmp_path / "gone")})
        (run,) = board.runs.values()
        assert (run["status"], run["reason"]) == ("failed", "gone")
