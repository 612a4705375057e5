"""The recipe: the chapter's values by default, and no value that cannot be trained with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from strategies import refused

from nin_multi import load
from nin_multi.errors import RunError, UsageError
from nin_multi.training.recipe import RECIPES, Recipe


def test_the_defaults_are_the_chapters() -> None:
    assert Recipe().as_dict() == {
        "epochs": 10,
        "batch_size": 128,
        "lr": 0.1,
        "seed": 0,
        "train_examples": None,
        "test_examples": None,
        "momentum": 0.0,
        "init": "xavier",
        "dropout": "shared",
        "warm_up": 0,
        "decay": "none",
        "final_relu": True,
        "dropout_rate": None,
    }


def test_a_recipe_comes_back_from_its_plain_values() -> None:
    recipe = Recipe(3, 32, 0.05, 2**63 - 1, 100, 1, 0.9, "he", "native", 7, "cosine", False, 0.25)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"speed": 1}, "'speed'"),
        ({"epochs": 0}, "--epochs: expected at least 1, got 0"),
        ({"epochs": "many"}, "str"),
        ({"lr": None}, "NoneType"),
        ({"dropout": "none"}, "--dropout: expected shared or native, got 'none'"),
    ],
)
def test_a_recipe_from_a_damaged_file(values: dict[str, Any], fragment: str) -> None:
    with refused(RunError, "damaged recipe", fragment):
        Recipe.from_dict({**Recipe().as_dict(), **values})


@pytest.mark.parametrize(
    ("field", "value", "flag", "expected"),
    [
        ("epochs", 0, "--epochs", "at least 1"),
        ("epochs", -3, "--epochs", "at least 1"),
        ("batch_size", 0, "--batch-size", "at least 1"),
        ("train_examples", 0, "--train-examples", "at least 1"),
        ("test_examples", 0, "--test-examples", "at least 1"),
        ("lr", 0.0, "--lr", "positive"),
        ("lr", -1.0, "--lr", "positive"),
        ("lr", float("nan"), "--lr", "positive"),
        ("lr", float("inf"), "--lr", "positive"),
        ("seed", -1, "--seed", "0 to 2^63 - 1"),
        ("seed", 2**63, "--seed", "0 to 2^63 - 1"),
        ("momentum", -0.1, "--momentum", "at least 0 and less than 1"),
        ("momentum", 1.0, "--momentum", "at least 0 and less than 1"),
        ("momentum", float("nan"), "--momentum", "at least 0 and less than 1"),
        ("warm_up", -1, "--warm-up", "at least 0"),
        ("dropout_rate", -0.1, "--dropout-rate", "at least 0 and less than 1"),
        ("dropout_rate", 1.0, "--dropout-rate", "at least 0 and less than 1"),
    ],
)
def test_values_out_of_range(field: str, value: float, flag: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(**{field: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{flag}: expected ")
    assert expected in line
    assert line.endswith(f"got {value}")


@pytest.mark.parametrize(
    ("field", "value", "choices"),
    [
        ("init", "xaver", "xavier or he"),
        ("dropout", "", "shared or native"),
        ("dropout", "Shared", "shared or native"),
        ("decay", "linear", "none or cosine"),
    ],
)
def test_words_that_are_no_choice(field: str, value: str, choices: str) -> None:
    with refused(UsageError, f"--{field}: expected {choices}, got {value!r}"):
        Recipe(**{field: value})  # type: ignore[arg-type]


def test_recipes_by_name() -> None:
    assert Recipe.named("book") == Recipe()
    dependable = Recipe.named("dependable", seed=3, lr=0.5, epochs=None)
    assert (dependable.seed, dependable.lr, dependable.epochs) == (3, 0.5, RECIPES["dependable"]["epochs"])
    assert (dependable.final_relu, dependable.init) == (False, "he")
    with refused(UsageError, "--recipe: expected book or dependable, got 'chapter'"):
        Recipe.named("chapter")


def test_what_a_recipe_changes_of_a_net() -> None:
    nin = load("nin-mnist")
    assert Recipe().applied_to(nin) == nin
    changed = Recipe.named("dependable").applied_to(nin)
    assert {rate for rate, _ in changed.dropouts().values()} == {0.2}
    assert changed == nin.without_last_relu().with_dropout_rate(0.2)
    assert changed.parameter_shapes() == nin.parameter_shapes()
    assert Recipe.named("dependable").applied_to(changed) == changed


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    steps = range(100)
    assert [Recipe(lr=0.1).rate(step, 100) for step in steps] == [0.1] * 100
    risen = [Recipe(lr=0.1, warm_up=10).rate(step, 100) for step in steps]
    assert risen[:10] == pytest.approx([0.01 * step for step in range(1, 11)])
    assert risen[10:] == [0.1] * 90
    fallen = [Recipe(lr=0.1, decay="cosine").rate(step, 100) for step in steps]
    assert (fallen[0], fallen[50]) == pytest.approx((0.1, 0.05))
    assert sorted(fallen, reverse=True) == fallen
    assert 0 < fallen[99] < 1e-4
    both = [Recipe(lr=0.1, warm_up=10, decay="cosine").rate(step, 100) for step in steps]
    assert both == pytest.approx([a * b / 0.1 for a, b in zip(risen, fallen, strict=True)])


def test_older_runs_had_neither_warm_up_nor_decay() -> None:
    values = Recipe().as_dict()
    for name in ("warm_up", "decay", "final_relu", "dropout_rate"):
        del values[name]
    assert Recipe.from_dict(values) == Recipe()
