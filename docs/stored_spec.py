"""What pages show of architectures beside them, from the spec alone."""

from __future__ import annotations

import math

from IPython.display import Markdown

from nin_multi.architecture_file import load_architecture
from nin_multi.spec import NinBlock


def last_block(*names: str) -> Markdown:
    """Of each net its last block: channels, parameters, multiply-adds; and those of the whole net."""
    head = ["net", "channels", "parameters of the block", "of the net", "multiply-adds of the block", "of the net"]
    lines = [head, ["---"] * len(head)]
    for name in names:
        net = load_architecture(name)
        row = [row for row in net.trace() if isinstance(row.layer, NinBlock)][-1]
        widths = [part.output[1] for part in row.inner if part.parameters]
        channels = " to ".join(map(str, [row.input[1], *widths]))
        inside = sum(math.prod(shape) for shape in row.parameters.values())
        counts = inside, net.parameters, row.multiply_adds, net.multiply_adds
        lines.append([net.name, channels, *(f"{count:,}" for count in counts)])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))
