"""Calls as text: which arguments are written, and where the lines break."""

from __future__ import annotations

from nin_multi.export.calls import WIDTH, call, entries, lay_out, pair, unless


def test_arguments() -> None:
    made = call("f", 1, "in_channels", 0.5, (2, 3), stride=None, padding=0, name='"relu"')
    assert lay_out(made, "") == ['f(1, in_channels, 0.5, (2, 3), padding=0, name="relu")']
    assert lay_out(call("f"), "    ", "x=", ",") == ["    x=f(),"]
    assert (pair((3, 3)), pair((3, 2))) == (3, (3, 2))
    assert (unless(2, 1), unless(1, 1), unless(False, True), unless((1, 2), 1)) == (2, None, False, (1, 2))


def test_a_line_ends_at_the_width() -> None:
    for length in range(60, 100):
        name = "n" * (length - len("    =f(1, 2),"))
        lines = lay_out(call("f", 1, 2), "    ", f"{name}=", ",")
        if length <= WIDTH:
            assert [len(line) for line in lines] == [length]
        else:
            assert lines == [f"    {name}=f(", "        1,", "        2,", "    ),"]


def test_what_has_no_arguments_does_not_break() -> None:
    name = "n" * 100
    assert lay_out(call("f"), "", f"{name}=", ",") == [f"{name}=f(),"]


def test_entries() -> None:
    layers = [("a", call("f", 1)), ("class", call("g"))]
    assert entries(layers[:1], "  ") == ["  a=f(1),"]
    assert entries(iter(layers), "  ", quoted=True) == ['  "a": f(1),', '  "class": g(),']
