"""Run directories: claimed once, never overwritten, read only where whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from strategies import refused

from nin_multi.errors import RunError
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import RunDirectory


def _content(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: bytes of files, None for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _refused(path: Path, *fragments: str, way=RunDirectory.create) -> None:
    with pytest.raises(RunError) as caught:
        way(path)
    text = str(caught.value)
    assert 1 <= len(text.splitlines()) <= 2
    for fragment in (str(path), *fragments):
        assert fragment in text


class TestCreate:
    def test_makes_the_folders_above_it(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "a" / "b")
        assert directory.path == tmp_path / "a" / "b"
        assert _content(tmp_path) == {"a": None, "a/b": None}

    def test_takes_a_folder_without_a_run_and_leaves_what_is_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        RunDirectory.create(tmp_path).begin({"format": 1})
        assert _content(tmp_path) == {"notes.txt": b"mine", "run.json": b'{\n  "format": 1\n}\n'}

    def test_refuses_a_folder_that_holds_a_run(self, make_run, tmp_path: Path) -> None:
        _, directory = make_run()
        before = _content(tmp_path)
        _refused(directory, "already holds a run", "--run-dir")
        assert _content(tmp_path) == before

    @pytest.mark.parametrize("left", ["events.jsonl", "checkpoints"])
    def test_refuses_what_would_be_taken_for_a_part_of_the_new_run(self, make_run, tmp_path: Path, left: str) -> None:
        """Old checkpoints have higher steps: they would be kept for the new ones, and gone on from."""
        _, directory = make_run()
        (directory / left).rename(tmp_path / left)
        before = _content(tmp_path)
        _refused(tmp_path, f"already holds a run ({left})", "--run-dir")
        assert _content(tmp_path) == before

    def test_refuses_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        _refused(tmp_path / "file", "expected a directory", "got a file")
        _refused(tmp_path / "file" / "below", "Not a directory", "--run-dir")
        assert _content(tmp_path) == {"file": b"mine"}

    @pytest.mark.parametrize("path", ["/dev/null/x", "/proc/nobody/x"])
    def test_refuses_where_no_folder_can_be(self, path: str) -> None:
        _refused(Path(path), "cannot be created", "--run-dir")

    def test_refuses_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        _refused(tmp_path / ("a" * 300), "too long")
        assert _content(tmp_path) == {}


class TestCreateDated:
    def test_date_and_number(self, tmp_path: Path) -> None:
        names = [RunDirectory.create_dated(tmp_path / "runs", "nin-torch-s0").path.name for _ in range(3)]
        (stem,) = re.findall(r"^\d{4}-\d\d-\d\d-nin-torch-s0$", names[0])
        assert names == [stem, f"{stem}-2", f"{stem}-3"]
        assert set(_content(tmp_path)) == {"runs", *(f"runs/{name}" for name in names)}

    def test_never_takes_over_an_empty_folder(self, tmp_path: Path) -> None:
        """Somebody else has just claimed it."""
        first = RunDirectory.create_dated(tmp_path, "a").path
        assert RunDirectory.create_dated(tmp_path, "a").path != first

    def test_refuses_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("mine")

        def dated(path: Path) -> None:
            RunDirectory.create_dated(path, "a")

        _refused(tmp_path / "runs", "expected a directory", "got a file", way=dated)
        _refused(tmp_path / "runs" / "x", "cannot be created", way=dated)
        _refused(Path("/dev/null/x"), "cannot be created", way=dated)
        assert _content(tmp_path) == {"runs": b"mine"}


class TestRead:
    def test_open_wants_a_run(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "nowhere"):
            _refused(path, "not a run directory", "run.json", way=RunDirectory.open)

    @pytest.mark.parametrize("text", ["", "{", "[]", "7", "{'a': 1}", "\x00"])
    def test_damaged_facts(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunError) as caught:
            RunDirectory.open(tmp_path).facts()
        assert str(caught.value).startswith(f"{tmp_path / 'run.json'}: ")
        assert len(str(caught.value).splitlines()) == 1

    def test_events_come_back_in_order(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path)
        assert directory.events() == []
        for step in (1, 2, 3):
            directory.append({"event": "step", "step": step, "loss": None})
        assert directory.events() == [{"event": "step", "step": step, "loss": None} for step in (1, 2, 3)]

    def test_an_event_that_was_only_half_written_is_left_out(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path)
        directory.append({"event": "step", "step": 1})
        with (tmp_path / "events.jsonl").open("a") as file:
            file.write('{"event": "st')
        assert directory.events() == [{"event": "step", "step": 1}]

    @pytest.mark.parametrize("line", ["{}", "[]", "7", '{"step": -1}', '{"step": 1, "epoch": "one"}', "{", "\xff"])
    def test_damaged_events(self, tmp_path: Path, line: str) -> None:
        directory = RunDirectory.create(tmp_path)
        (tmp_path / "events.jsonl").write_bytes(line.encode("latin-1") + b'\n{"event": "step", "step": 1}\n')
        before = _content(tmp_path)
        for act in (directory.events, lambda: directory.forget_events_after(1, 0)):
            with refused(RunError, str(tmp_path / "events.jsonl"), "damaged"):
                act()
        assert _content(tmp_path) == before

    def test_events_after_a_checkpoint_are_forgotten(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path)
        events = [{"event": "step", "step": step} for step in (1, 2)]
        events += [{"event": "epoch", "step": 2, "epoch": 1}, {"event": "step", "step": 3}]
        for event in events:
            directory.append(event)
        directory.forget_events_after(3, 1)
        assert directory.events() == events
        directory.forget_events_after(2, 1)
        assert directory.events() == events[:3]
        directory.forget_events_after(2, 0)  # the checkpoint at step 2 was written before its epoch was evaluated
        assert directory.events() == events[:2]

    def test_the_recipe_is_the_one_of_the_run(self, make_run, tmp_path: Path) -> None:
        _, path = make_run(lr=0.25, momentum=0.5)
        assert RunDirectory.open(path).recipe() == Recipe(2, 10, 0.25, momentum=0.5)
        facts = json.loads((path / "run.json").read_text())
        facts["recipe"]["lr"] = -1
        (path / "run.json").write_text(json.dumps(facts))
        with refused(RunError, f"{path / 'run.json'}: damaged recipe: --lr"):
            RunDirectory.open(path).recipe()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    (tmp_path / "run" / "events.jsonl").mkdir()
    with pytest.raises(RunError, match=r"events\.jsonl: cannot be written \(Is a directory\)"):
        directory.append({"event": "step"})
    (tmp_path / "run" / "events.jsonl").rmdir()
    (tmp_path / "run").rmdir()
    with pytest.raises(RunError, match=r"run\.json: cannot be written \(No such file or directory\)"):
        directory.begin({})
    assert _content(tmp_path) == {}


class TestOneWriter:
    def test_a_second_one_is_refused(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        said = refused(RunError, f"{directory.path}: another process is writing this run")
        with directory.writing(), said, RunDirectory(directory.path).writing():
            pass
        with directory.writing():
            pass

    def test_a_process_that_was_killed_holds_nothing(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        program = (
            "import pathlib, sys, time\n"
            "from nin_multi.training.run_directory import RunDirectory\n"
            "with RunDirectory(pathlib.Path(sys.argv[1])).writing():\n"
            "    print('writing', flush=True)\n"
            "    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", program, str(directory.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            with refused(RunError, "another process is writing this run"), directory.writing():
                pass
            process.kill()
            process.wait()
        with directory.writing():
            pass

    def test_what_was_never_begun_leaves_nothing(self, tmp_path: Path) -> None:
        directory = RunDirectory.create(tmp_path / "run")
        with directory.writing():
            directory.abandon()
        assert not directory.path.exists()


def test_a_disk_without_room_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    directory.require_space(10**6)
    with refused(RunError, f"{directory.path}: the run needs 4,000,000,000,004 MB of disk", "make room"):
        directory.require_space(10**18)


def test_checkpoints_are_not_written_to_another_place(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "step-000001.safetensors").write_text("mine")
    (directory.path / "checkpoints").symlink_to(elsewhere)
    with refused(RunError, f"{directory.path / 'checkpoints'}: expected a folder of the run itself, got a link"):
        directory.checkpoint_path(2)
    assert (elsewhere / "step-000001.safetensors").read_text() == "mine"
