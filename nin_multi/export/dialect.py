"""How the people of one framework say it: what an adapter hands over to have its programs written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nin_multi.export.calls import Call, Code, pair
from nin_multi.spec import TracedLayer


class Convolution(Protocol):
    """A convolution between so many channels; kernel, stride and padding in this order, or by name, or left out."""

    def __call__(self, before: Code, after: Code, *window: Code, **settings: Code | None) -> Call: ...


@dataclass(frozen=True)
class Dialect:
    """A framework's words.

    Attributes:
        backend: the registry's name.
        framework: its name for people.
        program: the whole file, for `string.Template`, with $docstring, $functions (made here), $net (the lines that
            make `net`), $shape (of one input, in round brackets without them) and $width (of the longest layer name).
        layer: one layer that is no block. Raises UnsupportedLayer.
        convolution: what `layer` is for a convolution, also where its numbers are a function's arguments.
        padding: what a convolution's padding looks like, from rows and columns.
        definitions: functions and classes that not every net needs, by name; those that are called are written, and
            those whose names stand in these.
        note: what its users should know before they run it; lines of the docstring.
    """

    backend: str
    framework: str
    program: str
    layer: Callable[[TracedLayer], Call]
    convolution: Convolution
    padding: Callable[[tuple[int, int]], Code] = pair
    definitions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
