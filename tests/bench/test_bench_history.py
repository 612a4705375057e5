"""Sessions on file: added whole, read around what is torn, compared only with their like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from strategies import refused

from nin_multi.bench import history
from nin_multi.errors import RunError


def session(time: str = "2026-01-31T12:00:00Z", cores: int = 2, arch: str = "nin", batch: int = 128) -> dict[str, Any]:
    machine = {"processor": "P", "instruction_sets": ["avx2"], "cores": cores}
    rows = [{"arch": arch, "batch_size": batch}, {"arch": arch, "batch_size": 8}]
    return {"time": time, "machine": machine, "rows": rows}


def test_what_is_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.jsonl"
    for time in ("a", "b", "c"):
        history.append(path, session(time))
    assert [found["time"] for found in history.read(path)] == ["a", "b", "c"]
    assert len(path.read_text().splitlines()) == 3


def test_no_file_is_no_history(tmp_path: Path) -> None:
    assert history.read(tmp_path / "none") == []


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.append(path, session("a"))
    whole = path.read_bytes()
    for cut in (1, 10, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert history.read(path)[0]["time"] == "a"
        history.append(path, session("b"))
        assert history.read(path)[-1]["time"] == "b"
        assert path.read_bytes().startswith(whole + whole[:cut] + b"\n")


@pytest.mark.parametrize("line", [b"[]", b"null", b"{}", b'{"rows": []}', b'{"rows": [3]}', b"\xff\xfe", b"", b"{"])
def test_a_line_that_is_no_session_is_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(line + b"\n" + json.dumps(session("a")).encode() + b"\n")
    assert [found["time"] for found in history.read(path)] == ["a"]


def test_only_the_same_machine_net_and_batch_compare() -> None:
    others = [session("same"), session(cores=3), session(arch="nin-mnist"), session(batch=64), {"rows": [{}]}]
    assert [found.get("time") for found in history.comparable(others, session())] == ["same"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused(RunError, "cannot be written"):
        history.check_writable(tmp_path / "file" / "history.jsonl")
    with refused(RunError, "cannot be written"):
        history.append(tmp_path, session())
