"""Keywords are the command line's options: the same names, checked before anything starts, the same words."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nin_multi
from nin_multi.cli import compare as cli_compare
from nin_multi.cli import train as cli_train
from nin_multi.errors import BackendNotFound, SpecError, UsageError
from nin_multi.notebook import settings
from nin_multi.spec import Architecture


def names(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_train_has_the_options_of_the_command() -> None:
    """`python` and `patience` are about the process, which the command is itself."""
    assert names(nin_multi.train) - {"unknown", "python", "patience"} == names(cli_train.train) - {"context", "json"}
    assert names(nin_multi.train) - {"unknown", "python", "patience", "backend", "arch"} == set(settings.KINDS)


def test_compare_has_the_options_of_the_command() -> None:
    """A notebook needs no page of its own, and no file of a report."""
    of_the_command = {"context", "json", "backend", "report", "live", "host", "port"}
    assert names(cli_compare.compare) - of_the_command <= names(nin_multi.compare)
    assert names(nin_multi.compare) - names(cli_compare.compare) <= {"backends", "unknown", "tensorboard"}


@pytest.mark.parametrize(("function", "name", "near"), [("train", "epoch", "epochs"), ("compare", "seeds", "seed")])
def test_an_unknown_name(function: str, name: str, near: str) -> None:
    with pytest.raises(TypeError, match=rf"{function}\(\) got an unexpected keyword argument '{name}'.*{near!r}"):
        getattr(nin_multi, function)("numpy", **{name: 1})


def test_an_unknown_name_that_is_like_nothing() -> None:
    with pytest.raises(TypeError, match=r"'xyzzy'. There are: backend, arch, "):
        nin_multi.train("numpy", xyzzy=1)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "2", "a whole number"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("lr", "0.1", "a number"),
        ("lr", None, None),
        ("final_relu", "off", "True or False"),
        ("run_dir", 3, "a path"),
        ("set", "micro_batch=16", "a dict"),
        ("recipe", 0.5, "a word"),
        ("batch_size", 0, "at least 1"),
        ("dropout_rate", 1.0, "at least 0 and less than 1"),
        ("recipe", "magic", "book or dependable"),
        ("patience", 1, "5 seconds or more"),
    ],
)
def test_wrong_values_are_found_before_anything_starts(
    here: Path, tiny: Architecture, name: str, value: Any, expected: str | None
) -> None:
    if expected is None:
        assert settings.checked({name: value, "unknown": {}}, "train") == {}
        return
    with pytest.raises(UsageError) as caught:
        nin_multi.train("numpy", tiny, **{name: value})
    assert str(caught.value).startswith(f"{name}: expected {expected}")
    assert str(value) in str(caught.value)
    assert not (here / "runs").exists()


def test_wrong_names(here: Path) -> None:
    with pytest.raises(BackendNotFound, match="Did you mean 'numpy'"):
        nin_multi.train("numpi")
    with pytest.raises(SpecError, match="Did you mean 'nin-mnist'"):
        nin_multi.train("numpy", "nin-mnits")
    with pytest.raises(UsageError, match=r"backend: expected a name, one of .*numpy"):
        nin_multi.train()
    with pytest.raises(UsageError, match="arch: a resumed run keeps what it began with"):
        nin_multi.train(arch="nin", resume="runs/nowhere")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("backends", [], "backends: expected one or more names"),
        ("arch", 3, "arch: expected one or more names, files or architectures, got 3"),
        ("seed", "0,1", "seed: expected one or more whole numbers, got '0,1'"),
        ("seed", [0, -1], "seed: expected 0 to"),
        ("precision", 32, "precision: expected one or more names, got 32"),
        ("python", {"torch": "/usr/bin/python3"}, "python: expected some of numpy, got 'torch'"),
        ("python", {"numpy": "/no/such/python"}, "python numpy=/no/such/python: no such program"),
    ],
)
def test_wrong_values_of_a_comparison(here: Path, name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        nin_multi.compare(**{"backends": "numpy", "arch": "nin-mnist", name: value})
    assert str(caught.value).startswith(said)
    assert not (here / "runs").exists()


def test_words_are_those_of_the_command() -> None:
    given = {
        "epochs": np.int64(3),
        "lr": np.float32(0.5),
        "final_relu": False,
        "allow_large": True,
        "tensorboard": False,
        "input": (1, 8, 8),
        "set": {"compile": True, "micro_batch": 16},
        "checkpoint_every": 200,
        "data_dir": Path("-data"),
        "seed": None,
    }
    options = settings.checked({**given, "unknown": {}}, "train")
    assert settings.words_of(options) == [
        *("--epochs=3", "--lr=0.5", "--final-relu=off", "--allow-large", "--input=1x8x8"),
        *("--set=compile=on", "--set=micro_batch=16", "--checkpoint-every=200", "--data-dir=-data"),
    ]


def test_an_architecture_gets_a_file_where_it_has_no_name(tiny: Architecture) -> None:
    with settings.named(tiny) as (word, same):
        assert same is tiny
        assert nin_multi.load(word) == tiny
        assert settings.shown(word) == "tiny.yaml"
    assert not Path(word).exists()


def test_an_architecture_of_the_zoo_keeps_its_name() -> None:
    nin = nin_multi.load("nin")
    with settings.named(nin) as (word, _):
        assert (word, settings.shown(word)) == ("nin", "nin")
    changed = nin.with_dropout_rate(0.1)
    with settings.named(changed) as (word, _):
        assert word != "nin"
        assert nin_multi.load(word) == changed


def test_a_file_is_shown_where_it_lies(here: Path) -> None:
    assert settings.shown("nets/mine.yaml") == "nets/mine.yaml"


def test_the_function_stays_though_a_package_has_its_name() -> None:
    import nin_multi.compare.board

    assert inspect.isfunction(nin_multi.compare)
    assert nin_multi.compare.__module__ == "nin_multi.notebook.comparing"
