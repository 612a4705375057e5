from __future__ import annotations

from pathlib import Path

import pytest

from nin_multi.cli.sweep_file import read_sweep
from nin_multi.errors import BackendNotFound, SpecError, UsageError

TINY = """\
name: tiny
input: [1, 12, 12]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "tiny.yaml").write_text(TINY)
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return path

    return write


def test_every_run_of_the_product_seed_after_seed(write) -> None:
    plan = read_sweep(
        write(
            "backends: [torch, numpy]\narchitectures: [tiny.yaml, nin-mnist]\nrecipes: [book, dependable]\n"
            "seeds: [3, 0-1]\ntrain: {epochs: 2, batch-size: 20}\nresources: {cores: 2, memory: 1.5}\n"
        )
    )
    assert plan.name == "plan"
    assert len(plan.runs) == 2 * 2 * 2 * 3
    assert [run.name for run in plan.runs[:3]] == [
        "plan-tiny-book-torch-s3",
        "plan-tiny-book-numpy-s3",
        "plan-tiny-dependable-torch-s3",
    ]
    assert [run.wanted.seed for run in plan.runs[::8]] == [3, 0, 1]
    assert (plan.resources.cores, plan.resources.memory_bytes) == (2, 1_500_000_000)


def test_a_run_is_what_train_would_make_of_it(write) -> None:
    book, dependable = (
        run.wanted
        for run in read_sweep(
            write("backends: [numpy]\narchitectures: [tiny.yaml]\nrecipes: [book, dependable]\ntrain: {lr: 0.2}\n")
        ).runs
    )
    assert (book.recipe["lr"], dependable.recipe["lr"]) == (0.2, 0.2)
    assert (book.recipe["momentum"], dependable.recipe["momentum"]) == (0.0, 0.9)
    assert book.net != dependable.net, "the dependable recipe has no ReLU before the logits"
    assert Path(book.arch).is_absolute(), "a file beside the sweep's, from wherever it is called"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", SpecError, ["plan.yaml: the file is empty; expected backends"]),
        ("3", SpecError, ["plan.yaml:1:1: expected backends", "got 3"]),
        ("seeds: 0", SpecError, ["plan.yaml:1:1: a sweep needs 'backends'"]),
        ("backends: []", SpecError, ["plan.yaml:1:1: backends: List should have at least 1 item", "got []"]),
        ("backends: [numpy]\nseed: 3", SpecError, ["plan.yaml:2:1: unknown key 'seed'. Did you mean 'seeds'?"]),
        ("backends: [numpy]\nresources: {core: 3}", SpecError, ["plan.yaml:2:13: unknown key 'core'", "'cores'"]),
        ("backends: [numpy]\nresources: {cores: 0}", SpecError, ["plan.yaml:2:13: resources.cores", "got 0"]),
        ("backends: [numpy]\nresources: {memory: .nan}", SpecError, ["resources.memory", "got nan"]),
        ("backends: [numpy]\nseeds: 3-x", SpecError, ["plan.yaml:2:1: seeds: expected a seed or FIRST-LAST"]),
        ("backends: [numpy]\nseeds: 3-1", SpecError, ["plan.yaml:2:1: seeds", "at least 1 item"]),
        ("backends: [nunpy]", BackendNotFound, ["nunpy"]),
        ("backends: [numpy]\nseeds: [1, 0-1]", UsageError, ["plan-nin-book-numpy-s1", "once"]),
        ("backends: [numpy]\nrecipes: [good]", UsageError, ["plan.yaml", "good"]),
        ("backends: [numpy]\narchitectures: [nix]", SpecError, ["plan.yaml", "nix"]),
        ("backends: [numpy]\ntrain: {seed: 1}", UsageError, ["plan.yaml", "seed"]),
        ("backends: [numpy]\ntrain: {recipe: book}", UsageError, ["plan.yaml", "recipe"]),
        ("backends: [numpy]\ntrain: {epoch: 1}", UsageError, ["plan.yaml", "--epoch"]),
        ("backends: [numpy]\ntrain: {epochs: many}", UsageError, ["plan.yaml", "--epochs", "integer"]),
        ("backends: [numpy]\nbackends: [torch]", SpecError, ["plan.yaml:2:1", "twice"]),
        ("backends: !!python/name:os.system [numpy]", SpecError, ["tag"]),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(write, text: str, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as raised:
        read_sweep(write(text))
    said = str(raised.value)
    for word in words:
        assert word in said, said
    assert len(said.splitlines()) <= 2, said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: no such sweep file"):
        read_sweep(tmp_path / "none.yaml")
