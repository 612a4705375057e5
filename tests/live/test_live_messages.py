"""Plain values and the framing of server-sent events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nin_multi.live.messages import frame, plain


def test_a_copy_without_what_json_lacks() -> None:
    inner = [1, 2.5, None, True, float("nan"), float("inf"), float("-inf")]
    value = {"a": inner, "b": (1, {"c": "d"})}
    copied = plain(value)
    inner.append(3)
    assert copied == {"a": [1, 2.5, None, True, None, None, None], "b": [1, {"c": "d"}]}


@pytest.mark.parametrize("value", [Path("a"), b"a", {1, 2}, {"a": [object()]}, {1: 2}, {None: 1}])
def test_what_is_not_json_is_told_at_once(value: Any) -> None:
    with pytest.raises(TypeError, match="expected a"):
        plain(value)


@given(st.dictionaries(st.text(alphabet=st.characters()), st.text(alphabet=st.characters())), st.integers(0))
def test_nothing_ends_its_line(data: dict[str, str], number: int) -> None:
    text = frame("run", data, number).decode("ascii")
    identity, event, line, *empty = text.split("\n")
    assert (identity, event, empty) == (f"id: {number}", "event: run", ["", ""])
    assert "\r" not in text
    assert json.loads(line.removeprefix("data: ")) == data


@pytest.mark.parametrize("label", ["\n\ndata: {}", "\r\revent: over", "\r\n\r\n", "\x85\u2028\u2029", "\ud800", "\0"])
def test_hostile_labels(label: str) -> None:
    text = frame("point", {"id": label}).decode("ascii")
    assert text.splitlines() == ["event: point", text.splitlines()[1], ""]
    assert json.loads(text.splitlines()[1].removeprefix("data: ")) == {"id": label}
