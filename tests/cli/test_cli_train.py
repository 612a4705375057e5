"""`train` and `evaluate`: what they print, and that stored weights give the figures that training gave."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest

from nin_multi.data import Dataset

TRAIN = {
    *("backend", "framework_version", "device", "precision", "arch", "dataset", "train_examples", "test_examples"),
    *("epochs", "steps", "seed", "loss", "train_acc", "test_acc", "examples_per_sec", "compute_examples_per_sec"),
    *("peak_memory_bytes", "run_dir", "status", "workers"),
}
EVALUATE = {"run", "backend", "dataset", "examples", "loss", "acc"}


def test_train_json(nin, flags: list[str], tmp_path: Path) -> None:
    found = nin("train", "--backend", "numpy", *flags, "--run-dir", "here", "--json")
    assert found.status == 0
    result = found.json
    assert result.keys() >= TRAIN
    facts = {"backend": "numpy", "device": "cpu", "precision": "fp64", "arch": "tiny", "dataset": "synthetic"}
    facts |= {"train_examples": 64, "test_examples": 20, "epochs": 2, "steps": 14, "seed": 0, "run_dir": "here"}
    assert {key: result[key] for key in facts} == facts
    assert result["status"] == "done"
    assert result["peak_memory_bytes"] > 1e7
    assert json.loads((tmp_path / "here" / "result.json").read_text()) == result
    assert len(found.err.splitlines()) >= 6  # header and progress are for people


def test_train_for_people_ends_with_the_books_two_lines(nin, flags: list[str]) -> None:
    found = nin("train", "--backend", "numpy", *flags)
    assert found.status == 0
    synthetic, figures, speed = found.out.splitlines()
    assert "synthetic" in synthetic
    assert re.fullmatch(r"loss \d+\.\d{3}, train acc [01]\.\d{3}, test acc [01]\.\d{3}", figures)
    assert re.fullmatch(r"\d+\.\d examples/sec on cpu", speed)
    assert re.search(r"run directory runs/\d{4}-\d\d-\d\d-tiny-numpy-s0$", found.err.rstrip())


def test_dated_directories(nin, flags: list[str], tmp_path: Path) -> None:
    command = ["train", "--backend", "numpy", *flags, "--epochs", "1", "--seed", "3", "--runs-dir", "mine", "--json"]
    first, second = (Path(nin(*command).json["run_dir"]) for _ in range(2))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-tiny-numpy-s3", first.name)
    assert second.name == f"{first.name}-2"
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {first.name, second.name}


@pytest.fixture
def trained(nin, flags: list[str], tmp_path: Path):
    """A run in which weights, seed and all are not the default; its result."""
    return nin("train", "--backend", "numpy", *flags, "--lr", "0.5", "--seed", "2", "--run-dir", "run", "--json").json


class TestEvaluate:
    def test_gives_the_figures_that_train_printed(self, nin, trained, synthetic: Dataset, content) -> None:
        before = content()
        found = nin("evaluate", "run", "--test-examples", "20", "--json")
        assert found.status == 0
        result = found.json
        assert result.keys() >= EVALUATE
        assert (result["run"], result["backend"], result["dataset"], result["examples"]) == (
            *("run", "numpy", "synthetic", 20),
        )
        assert result["loss"] == pytest.approx(trained["test_loss"], rel=1e-6)  # stored in float32
        assert result["acc"] == trained["test_acc"]
        assert content() == before

    def test_the_first_images(self, nin, trained) -> None:
        few, more = (nin("evaluate", "run", "--test-examples", count, "--json").json for count in ("1", "300"))
        assert (few["examples"], more["examples"]) == (1, 300)
        assert few["acc"] in (0.0, 1.0)
        assert more["loss"] != few["loss"]

    def test_for_people(self, nin, trained) -> None:
        found = nin("evaluate", "run", "--backend", "numpy", "--test-examples", "20")
        (line,) = found.out.splitlines()
        assert "synthetic" in line
        assert "20 test images" in line
        figures = re.search(r"loss (\d\.\d{4}), acc ([01]\.\d{4})$", line)
        assert figures is not None
        assert float(figures[1]) == pytest.approx(trained["test_loss"], abs=5.1e-5)
        assert float(figures[2]) == pytest.approx(trained["test_acc"], abs=5.1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence(nin, flags: list[str], tmp_path: Path) -> None:
    found = nin("train", "--backend", "numpy", *flags, "--lr", "1e100", "--run-dir", "run", "--json")
    assert found.status == 1
    said = (
        r"the loss is (nan|inf) at step \d+ \(epoch 1\): .+ layer '.+'.+; a smaller --lr may help\.\nNo checkpoint .+"
    )
    assert re.fullmatch(said, found.error)
    result = found.json
    assert (result["status"], result["loss"], result["reason"]) == ("diverged", None, found.error)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    found = nin("train", "--backend", "numpy", *flags, "--lr", "1e100")
    assert found.status == 1
    assert re.search(r"^loss nan, train acc [01]\.\d{3}, test acc nan$", found.out, re.M)


def test_divergence_is_told_in_our_own_words(nin, flags: list[str]) -> None:
    """A warning of NumPy's would stand on stderr with a line of its source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = nin("train", "--backend", "numpy", *flags, "--lr", "1e100", "--json")
    assert found.json["status"] == "diverged"
    assert [str(warning.message) for warning in caught] == []
