"""The plan of a comparison: what each side's process is told, and what is said of all of them."""

from __future__ import annotations

import pytest

from nin_multi.architecture_file import load_architecture
from nin_multi.compare.plan import Plan, recipe_words
from nin_multi.compare.sides import sides_of
from nin_multi.data import CLASSES
from nin_multi.spec import Architecture
from nin_multi.training.recipe import Recipe


@pytest.fixture
def plan() -> Plan:
    sides = sides_of(["torch", "numpy"], ["nets/mine.yaml"], [None, "bf16"], [0, 7], {})
    return Plan(
        sides,
        {"nets/mine.yaml": load_architecture("nin-mnist")},
        Recipe(epochs=3, final_relu=False),
        flags={"--device": "cpu", "--data-dir": None},
        switches=["--allow-large"],
        tunings={"torch": {"micro_batch": "16"}},
        repeat="nin_multi compare",
    )


def after(command: list[str], flag: str) -> str:
    assert command.count(flag) == 1
    return command[command.index(flag) + 1]


def test_each_side_is_told_what_is_its_own_and_what_is_shared(plan: Plan) -> None:
    for side in plan.sides:
        command = plan.command(side)
        assert command[0] == "train"
        assert after(command, "--backend") == side.backend
        assert after(command, "--seed") == str(side.seed)
        assert ("--precision" in command) == (side.precision is not None)
        assert (after(command, "--arch"), after(command, "--device")) == ("nets/mine.yaml", "cpu")
        assert (after(command, "--epochs"), after(command, "--final-relu")) == ("3", "off")
        assert "--allow-large" in command
        assert "--data-dir" not in command
        assert ("--set" in command) == (side.backend == "torch")
    assert after(plan.command(plan.sides[0]), "--set") == "micro_batch=16"


def test_what_a_recipe_does_not_say_is_not_said() -> None:
    assert "--dropout-rate" not in recipe_words(Recipe())
    assert after(recipe_words(Recipe(dropout_rate=0.2)), "--dropout-rate") == "0.2"


def test_its_board_and_its_comparison(plan: Plan) -> None:
    board = plan.board()
    assert [run["label"] for run in board.runs.values()] == [side.label for side in plan.sides]
    assert {(run["arch"], run["epochs"], run["status"]) for run in board.runs.values()} == {("nin-mnist", 3, "waiting")}
    comparison = plan.comparison(board, over=False)
    assert (comparison["over"], comparison["repeat"]) == (False, ["nin_multi compare"])
    assert comparison["classes"] == list(CLASSES)
    assert [found["name"] for found in comparison["architectures"]] == ["nin-mnist"]


def test_classes_without_names() -> None:
    layers = [{"type": "flatten"}, {"type": "linear", "out_features": 3}]
    small = Architecture.model_validate({"name": "small", "input": (1, 2, 2), "layers": layers})
    plan = Plan(sides_of(["numpy"], ["small"], [None], [0], {}), {"small": small}, Recipe())
    comparison = plan.comparison(plan.board(), over=True)
    assert (comparison["classes"], comparison["repeat"]) == (["0", "1", "2"], [])
