"""Calls in a program's text, laid out as `ruff format` has them; not what is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 88
STEP = "    "
Code = str | int | float | tuple[int, ...]  # a str is code already: a name, or a value in quotes


@dataclass(frozen=True)
class Call:
    """`function(arguments)`, the arguments each as they stand in the text."""

    function: str
    arguments: tuple[str, ...]


def call(function: str, *values: Code, **named: Code | None) -> Call:
    """A call with these arguments; of those with a name, None is left out.

    >>> call("nn.Conv2d", 1, "channels", kernel_size=(3, 2), stride=None)
    Call(function='nn.Conv2d', arguments=('1', 'channels', 'kernel_size=(3, 2)'))
    """
    words = [_show(value) for value in values]
    words += [f"{name}={_show(value)}" for name, value in named.items() if value is not None]
    return Call(function, tuple(words))


def pair(values: tuple[int, int]) -> int | tuple[int, int]:
    """Height and width, as one number where they are equal."""
    height, width = values
    return height if height == width else values


def unless(value: Code, default: Code) -> Code | None:
    """The value, or None where it need not be said."""
    return None if value == default else value


def lay_out(made: Call, indent: str, before: str = "", after: str = "") -> list[str]:
    """The lines of a call with text on both sides: one where it fits, else one for each argument.

    >>> lay_out(call("nn.Linear", 4, 2), STEP, "linear1=", ",")
    ['    linear1=nn.Linear(4, 2),']
    """
    line = f"{indent}{before}{made.function}({', '.join(made.arguments)}){after}"
    if len(line) <= WIDTH or not made.arguments:
        return [line]
    inside = [f"{indent}{STEP}{argument}," for argument in made.arguments]
    return [f"{indent}{before}{made.function}(", *inside, f"{indent}){after}"]


def entries(layers: Iterable[tuple[str, Call]], indent: str, *, quoted: bool = False) -> list[str]:
    """Layers with their names, each on a line of its own: as keyword arguments, or (`quoted`) as a dict has them."""
    lines: list[str] = []
    for name, made in layers:
        lines += lay_out(made, indent, f'"{name}": ' if quoted else f"{name}=", ",")
    return lines


def _show(value: Code) -> str:
    return value if isinstance(value, str) else repr(value)
