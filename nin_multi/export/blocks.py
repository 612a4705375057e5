"""Which blocks of an architecture are alike, so that one function makes them, and the text of that function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nin_multi.export.calls import STEP, Call, call, entries, lay_out, pair, unless
from nin_multi.export.dialect import Dialect
from nin_multi.spec import Architecture, Conv2d, NinBlock, TracedLayer

Kind = tuple[int, bool]  # how many convolutions, and whether a ReLU follows the last


@dataclass(frozen=True)
class BlockFunction:
    """A function that makes all blocks of one kind.

    Attributes:
        name: "nin_block" for the first kind; most architectures have no other.
        example: one of these blocks.
        one_width: whether each of them has as many channels after every convolution, as the chapter's have.
    """

    name: str
    example: TracedLayer
    one_width: bool

    def lines(self, dialect: Dialect) -> list[str]:
        """Its definition."""
        channels = ["out_channels"] if self.one_width else self._widths()
        header = call(self.name, "in_channels", *channels, "kernel_size", stride=1, padding=0)
        return [
            *lay_out(header, "", "def ", ":"),
            f'{STEP}"""{_describe(*kind(self.example))}"""',
            f"{STEP}return sequential(",
            *entries(self._layers(dialect), 2 * STEP),
            f"{STEP})",
        ]

    def call(self, block: TracedLayer, dialect: Dialect) -> Call:
        """The call that makes one of its blocks."""
        layer: Any = block.layer
        after = [part.output[1] for part in convolutions(block)]
        return call(
            self.name,
            block.input[1],
            *(after[:1] if self.one_width else after),
            kernel_size=pair(layer.kernel_size),
            stride=unless(pair(layer.stride), 1),
            padding=unless(dialect.padding(layer.padding), 0),
        )

    def _widths(self) -> list[str]:
        return [f"c{i}" for i, _ in enumerate(convolutions(self.example), start=1)]

    def _layers(self, dialect: Dialect) -> Iterator[tuple[str, Call]]:
        widths = self._widths()
        channels = pairwise(["in_channels", *(["out_channels"] * len(widths) if self.one_width else widths)])
        for part in self.example.inner:
            if not isinstance(part.layer, Conv2d):
                made = dialect.layer(part)
            elif part is self.example.inner[0]:
                made = dialect.convolution(*next(channels), "kernel_size", "stride", "padding")
            else:
                made = dialect.convolution(*next(channels), kernel_size=1)
            yield part.child_name, made


def block_functions(architecture: Architecture) -> dict[Kind, BlockFunction]:
    """A function for each kind of block, in the order of the layers."""
    blocks: dict[Kind, list[TracedLayer]] = {}
    for traced in architecture.trace():
        if isinstance(traced.layer, NinBlock):
            blocks.setdefault(kind(traced), []).append(traced)
    first = next(iter(blocks), (0, True))
    return {
        found: BlockFunction(_name(found, first), alike[0], all(map(_has_one_width, alike)))
        for found, alike in blocks.items()
    }


def kind(block: TracedLayer) -> Kind:
    """What has to be equal for one function to make two blocks."""
    return len(convolutions(block)), not isinstance(block.inner[-1].layer, Conv2d)


def convolutions(block: TracedLayer) -> list[TracedLayer]:
    """The layers inside that have channels of their own."""
    return [part for part in block.inner if isinstance(part.layer, Conv2d)]


def _has_one_width(block: TracedLayer) -> bool:
    return len({part.output[1] for part in convolutions(block)}) == 1


def _name(found: Kind, first: Kind) -> str:
    count = "" if found[0] == first[0] else f"_of_{found[0]}"
    ending = "" if found[1] == first[1] else "_with_last_relu" if found[1] else "_without_last_relu"
    return f"nin_block{count}{ending}"


def _describe(count: int, final_relu: bool) -> str:
    others = {1: "", 2: " and a 1x1 convolution", 3: " and two 1x1 convolutions", 4: " and three 1x1 convolutions"}
    convolved = f"A convolution{others.get(count, f' and {count - 1} 1x1 convolutions')}"
    if final_relu:
        return f"{convolved}, {'each ' if count > 1 else ''}followed by a ReLU."
    return f"{convolved}{', a ReLU after all but the last' if count > 1 else ' alone'}."
