"""Following a file that another process writes."""

from __future__ import annotations

from pathlib import Path

from nin_multi.compare.follow import Tail, events_in


def test_each_line_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text("one\ntw")
    assert tail.lines() == ["one"]
    assert tail.lines() == []
    with path.open("a") as file:
        file.write("o\nthree\n")
    assert tail.lines() == ["two", "three"]


def test_a_letter_that_is_torn_in_two(tmp_path: Path) -> None:
    path, word = tmp_path / "file", "naïve\n".encode()
    tail = Tail(path)
    path.write_bytes(word[:3])
    assert tail.lines() == []
    path.write_bytes(word)
    assert tail.lines() == ["naïve"]


def test_the_rest_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo without an end")
    tail = Tail(path)
    assert tail.rest() == ["one", "two without an end"]
    assert tail.rest() == []


def test_only_objects_are_events() -> None:
    assert events_in(['{"step": 1}', "", "[1]", '{"step": 2', "7"]) == [{"step": 1}]
