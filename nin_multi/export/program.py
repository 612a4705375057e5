"""The whole program of one architecture in one framework's words; not what these words are."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Mapping
from string import Template

from nin_multi import zoo
from nin_multi.architecture_file import load_architecture
from nin_multi.export.blocks import BlockFunction, Kind, block_functions, kind
from nin_multi.export.calls import STEP, WIDTH, Call, entries
from nin_multi.export.dialect import Dialect
from nin_multi.spec import Architecture, NinBlock, TracedLayer

# How every program ends, whatever its framework.
MAIN = '''

def main():
    """Show the net; then train it on the arrays x and y of a .npz file, if named."""
    net = make_net()
    print_shapes(net)
    if len(sys.argv) > 1:
        arrays = np.load(sys.argv[1])
        train(net, arrays["x"], arrays["y"])


if __name__ == "__main__":
    main()
'''


def write_program(architecture: Architecture, dialect: Dialect) -> str:
    """Python source that makes the net, shows its shapes and trains it. Raises UnsupportedLayer."""
    blocks = block_functions(architecture)
    layers = [(traced.name, _make(traced, blocks, dialect)) for traced in architecture.trace()]
    net = "\n".join(_net(layers))
    made = ["\n".join(block.lines(dialect)) for block in blocks.values()]
    used = _used(dialect.definitions, "\n".join((net, *made)))
    return Template(dialect.program + MAIN).substitute(
        docstring=_docstring(architecture, dialect),
        functions="".join(f"{text.strip()}\n\n\n" for text in (*used, *made)),
        net=net,
        shape=", ".join(map(str, (1, *architecture.input))),
        width=max(len(name) for name, _ in layers),
    )


def origin(architecture: Architecture, backend: str) -> list[str]:
    """The words of the command that writes this program; a file is taken to be called as its architecture is."""
    known = load_architecture(architecture.name) if architecture.name in zoo.names() else None
    is_known = known is not None and known.layers == architecture.layers
    words = ["nin_multi export", f"--arch {architecture.name}{'' if is_known else '.yaml'}", f"--backend {backend}"]
    if known is None or (known.layers, known.input) != (architecture.layers, architecture.input):
        words.append(f"--input {'x'.join(map(str, architecture.input))}")
    return words


def _make(traced: TracedLayer, blocks: dict[Kind, BlockFunction], dialect: Dialect) -> Call:
    if isinstance(traced.layer, NinBlock):
        return blocks[kind(traced)].call(traced, dialect)
    return dialect.layer(traced)


def _used(definitions: Mapping[str, str], text: str) -> list[str]:
    """Those that are called in a text, and those that they need in turn, in their order."""
    needed: set[str] = set()
    found = {name for name in definitions if re.search(rf"\b{name}\(", text)}
    while found:
        needed |= found
        said = "\n".join(definitions[name] for name in found)
        found = {name for name in definitions.keys() - needed if re.search(rf"\b{name}\b", said)}
    return [definitions[name] for name in definitions if name in needed]


def _net(layers: list[tuple[str, Call]]) -> list[str]:
    """The lines that make `net`. A layer may be called like a word of Python's own, which cannot name an argument."""
    if any(keyword.iskeyword(name) or name == "__debug__" for name, _ in layers):
        made = entries(layers, 2 * STEP, quoted=True)
        return [f"{STEP}layers = {{", *made, f"{STEP}}}", f"{STEP}net = sequential(**layers)"]
    return [f"{STEP}net = sequential(", *entries(layers, 2 * STEP), f"{STEP})"]


def _docstring(architecture: Architecture, dialect: Dialect) -> str:
    size = "x".join(map(str, architecture.input))
    said = f"images of {size}, {architecture.classes} classes, {architecture.parameters:,} parameters"
    lines = [f'"""{architecture.name} in {dialect.framework}: {said}.', ""]
    if len(lines[0]) > WIDTH:
        lines[:1] = [f'"""{architecture.name} in {dialect.framework}.', "", f"For {said}."]
    command = " ".join(word.replace(" ", "\0") for word in origin(architecture, dialect.backend))
    wrapped = textwrap.wrap(command, WIDTH - 4, subsequent_indent=STEP, break_long_words=False, break_on_hyphens=False)
    lines += ["Made by:", *(f"{STEP}{line}".replace("\0", " ") for line in wrapped)]
    lines += ["", dialect.note.strip()] if dialect.note else []
    return "\n".join([*lines, '"""'])
