"""Which data a name stands for: where it is looked for, what may stand in, and what never does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nin_multi.data import load_dataset, sources, synthetic

WAYS_OUT = ("--data-dir", "NIN_MULTI_DATA", "--dataset synthetic")
TEST_LABELS = "t10k-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, published, cache: Path) -> None:
    monkeypatch.setattr(sources, "SYNTHETIC_EXAMPLES", (10, 10))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.mark.parametrize("name", ["auto", "fashion-mnist"])
class TestBoth:
    def test_data_dir_before_variable_before_cache(self, name, tmp_path, published, cache, monkeypatch, said) -> None:
        places = [published.write(folder) for folder in (cache, tmp_path / "variable", tmp_path / "option")]
        assert load_dataset(name, report=said.append).source == str(places[0])
        monkeypatch.setenv("NIN_MULTI_DATA", str(places[1]))
        assert load_dataset(name, report=said.append).source == str(places[1])
        assert load_dataset(name, places[2], report=said.append).source == str(places[2])
        assert said == []

    @pytest.mark.parametrize("by", ["option", "variable"])
    def test_files_that_are_there_and_wrong_are_an_error(
        self, name, by, tmp_path, published, cache, monkeypatch, said, refused
    ) -> None:
        published.write(cache)
        folder = published.write(tmp_path / "named")
        (folder / f"{TEST_LABELS}.gz").write_bytes(b"\x1f\x8b")
        if by == "variable":
            monkeypatch.setenv("NIN_MULTI_DATA", str(folder))
        with refused("truncated", str(folder)):
            load_dataset(name, folder if by == "option" else None, report=said.append)

    def test_digits_are_an_error(self, name, tmp_path, published, said, refused) -> None:
        folder = published.write(tmp_path / "named", "raw")
        labels = published.arrays[TEST_LABELS].copy()
        labels[:10] = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        (folder / TEST_LABELS).write_bytes(published.idx_bytes(labels))
        with refused("digit MNIST"):
            load_dataset(name, folder, report=said.append)

    def test_incomplete_folder_is_an_error(self, name, tmp_path, published, said, refused) -> None:
        folder = published.write(tmp_path / "named")
        (folder / f"{TEST_LABELS}.gz").unlink()
        with refused(f"no {TEST_LABELS}"):
            load_dataset(name, folder, report=said.append)

    @pytest.mark.parametrize("kind", ["missing", "file"])
    def test_option_that_names_no_folder(self, name, kind, tmp_path, published, cache, said, refused) -> None:
        published.write(cache)
        path = tmp_path / "nowhere"
        if kind == "file":
            path.write_text("")
        with refused(str(path), "does not exist" if kind == "missing" else "not a folder", "--data-dir", *WAYS_OUT):
            load_dataset(name, path, report=said.append)

    def test_damaged_cache_is_fetched_anew(self, name, published, cache, monkeypatch, said, tmp_path) -> None:
        published.write(cache)
        (cache / f"{TEST_LABELS}.gz").write_bytes(b"")
        monkeypatch.setattr(sources, "download_fashion_mnist", lambda folder: published.write(folder))
        assert load_dataset(name, report=said.append).name == "fashion-mnist"
        assert len(said) == 1
        assert "incomplete or damaged" in said[0]


@pytest.mark.parametrize(("by", "made"), [("option", True), ("variable", True), ("variable", False)])
def test_strict_never_looks_past_what_was_named(
    by: str, made: bool, tmp_path: Path, published, cache, monkeypatch, said, refused
) -> None:
    published.write(cache)
    folder = tmp_path / "named"
    if made:
        folder.mkdir()
    if by == "variable":
        monkeypatch.setenv("NIN_MULTI_DATA", str(folder))
    with refused(str(folder), *WAYS_OUT):
        load_dataset("fashion-mnist", folder if by == "option" else None, report=said.append)


def test_strict_names_the_ways_out(said, refused) -> None:
    with refused("could not be downloaded", *WAYS_OUT):
        load_dataset("fashion-mnist", report=said.append)


def test_auto_ends_with_the_synthetic_set_and_says_so(tmp_path, monkeypatch, said) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("NIN_MULTI_DATA", str(tmp_path / "gone"))
    dataset = load_dataset("auto", empty, report=said.append)
    assert dataset.synthetic
    assert "synthetic" in dataset.title
    assert len(said) == 4
    assert all(len(line.splitlines()) == 1 for line in said)
    assert str(empty) in said[0]
    assert str(tmp_path / "gone") in said[1]
    assert "Fetching" in said[2]
    assert "synthetic" in said[3]


def test_auto_looks_further_than_an_empty_folder(tmp_path, published, cache, said) -> None:
    published.write(cache)
    assert load_dataset("auto", tmp_path, report=said.append).source == str(cache)
    assert len(said) == 1


def test_synthetic_reads_and_fetches_nothing(said, tmp_path) -> None:
    assert load_dataset("synthetic", tmp_path / "nowhere", report=said.append).synthetic
    assert said == []


@pytest.mark.parametrize("name", ["synthetic", "auto"])
def test_the_first_examples_of_each_split(name: str, published, cache, said) -> None:
    published.write(cache)
    whole = load_dataset(name, report=said.append)
    some = load_dataset(name, train_examples=4, test_examples=3, report=said.append)
    np.testing.assert_array_equal(some.train.images, whole.train.images[:4])
    np.testing.assert_array_equal(some.test.labels, whole.test.labels[:3])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["synthetic", "auto"])
def test_fewer_than_one_and_more_than_there_are(name: str, split: str, published, cache, said, refused) -> None:
    published.write(cache)
    there = len(getattr(load_dataset(name, report=said.append), split))
    for count in (0, there + 1):
        with refused(f"has {there} ", f"got {count}"):
            load_dataset(name, report=said.append, **{f"{split}_examples": count})


def test_synthetic_images_that_are_not_asked_for_are_not_drawn(monkeypatch, said) -> None:
    drawn: list[int] = []
    draw = synthetic._draw_block
    monkeypatch.setattr(synthetic, "_draw_block", lambda *block: (drawn.append(block[2]), draw(*block))[1])
    load_dataset("synthetic", train_examples=4, test_examples=3, report=said.append)
    assert drawn == [4, 3]


@pytest.mark.parametrize(
    ("name", "nearest"), [("fashion_mnist", "fashion-mnist"), ("Synthetik", "synthetic"), ("zzz", "auto")]
)
def test_unknown_name(name: str, nearest: str, said, refused) -> None:
    with refused(f"'{name}'", nearest, "expected one of auto, fashion-mnist, synthetic"):
        load_dataset(name, report=said.append)
