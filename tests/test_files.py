"""Atomic writing: after a failure the old content stands there, and nothing else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from strategies import refused

from nin_multi.errors import RunError
from nin_multi.files import write_bytes, write_json


@pytest.mark.parametrize("content", [b"", b"new", bytes(range(256)) * 5000])
@pytest.mark.parametrize("existing", [None, b"older and much longer than the new content"])
def test_writes_all(tmp_path: Path, content: bytes, existing: bytes | None) -> None:
    file = tmp_path / "file"
    if existing is not None:
        file.write_bytes(existing)
    write_bytes(file, content)
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_who_has_the_old_file_open_reads_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with file.open("rb") as reader:
        write_bytes(file, b"new")
        assert reader.read() == b"old"


def test_no_folder(tmp_path: Path) -> None:
    with refused(RunError, str(tmp_path / "none" / "file"), "cannot be written", "No such file or directory"):
        write_bytes(tmp_path / "none" / "file", b"x")


def test_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"old")
    with refused(RunError, str(tmp_path / "taken" / "file"), "cannot be written", "Not a directory"):
        write_bytes(tmp_path / "taken" / "file", b"x")
    assert (tmp_path / "taken").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_file_is_a_folder(tmp_path: Path) -> None:
    # Fails at the last step, after the temporary file was written in full.
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").write_bytes(b"old")
    with refused(RunError, str(folder), "cannot be written", "directory"):
        write_bytes(folder, b"x")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "folder",
        "folder/inside",
    ]


LIMITED = """
import resource, sys
from pathlib import Path
from nin_multi.errors import RunError
from nin_multi.files import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_bytes(Path(sys.argv[1]), bytes(1_000_000))
except RunError as error:
    print(error)
"""


def test_no_room_for_the_new_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", LIMITED, str(file)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{file}: cannot be written (File too large)\n"
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_kill_in_the_middle_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    program = (
        "import os, signal, sys, pathlib; from nin_multi.files import write_bytes\n"
        # Between the last byte and the new name.
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_bytes(pathlib.Path(sys.argv[1]), b'new')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], timeout=60)
    assert ended.returncode == -9
    assert file.read_bytes() == b"old"


def test_json_is_one_object_with_a_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    value = {"b": [1, 2.5, None], "a": "Köln", "big": 2**60}
    write_json(file, value)
    text = file.read_text()
    assert json.loads(text) == value
    assert list(json.loads(text)) == ["b", "a", "big"]
    assert text.endswith("}\n")


def test_json_without_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, {"loss": 1.0})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(file, {"loss": value})
    assert json.loads(file.read_text()) == {"loss": 1.0}
    assert os.listdir(tmp_path) == ["run.json"]
