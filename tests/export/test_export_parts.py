"""Programs taken apart: which pieces, in which order, and that nothing is lost."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from strategies import architectures

from nin_multi import load, registry
from nin_multi.export import program_parts
from nin_multi.spec import Architecture

WRITERS = ("torch", "mindspore", "mxnet", "numpy")
ODD = '''# A comment of the file's.
"""What it is."""

# Why this one.
import functools

size = 3


# What the two
# lines say.
@functools.cache
@functools.lru_cache
def first():
    # inside
    return size


# Of nobody's.

class Second:
    """A class."""


size = 4


async def third():
    pass


# At last.
size = 5
first()
'''


def test_the_pieces_of_the_chapters_net() -> None:
    for name in WRITERS:
        parts = program_parts(registry.load(name).source(load("nin")))
        shared = ["make_net", "print_shapes", "train", "load_weights", "main", "__main__"]
        assert list(parts)[:2] == ["docstring", "imports"]
        assert list(parts)[2] == ("Layer" if name == "numpy" else "sequential")
        assert list(parts)[-len(shared) :] == shared
        assert "nin_block" in parts
        assert parts["nin_block"].startswith("def nin_block(in_channels, out_channels, ")
        assert parts["nin_block"].endswith(")\n\n\n")
        assert parts["__main__"] == 'if __name__ == "__main__":\n    main()\n'


def test_comments_decorators_and_what_stands_between() -> None:
    parts = program_parts(ODD)
    assert "".join(parts.values()) == ODD
    assert list(parts) == ["docstring", "imports", "first", "Second", "third", "__main__"]
    assert parts["docstring"] == '# A comment of the file\'s.\n"""What it is."""\n\n'
    assert parts["imports"] == "# Why this one.\nimport functools\n\nsize = 3\n\n\n"
    assert parts["first"].startswith("# What the two\n# lines say.\n@functools.cache\n")
    assert parts["first"].endswith("# Of nobody's.\n\n")
    assert parts["Second"].endswith("size = 4\n\n\n")
    assert parts["__main__"] == "# At last.\nsize = 5\nfirst()\n"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", []),
        ("# nothing\n", ["imports"]),
        ('"""Only this."""\n', ["docstring"]),
        ("import sys", ["imports"]),
        ("def f(): pass", ["f"]),
        ('"""It."""\ndef f(): pass\n\n\ndef g(): pass\n\n\ndef f(): return 1\n', ["docstring", "f", "g"]),
    ],
)
def test_programs_with_little_in_them(source: str, names: list[str]) -> None:
    parts = program_parts(source)
    assert list(parts) == names
    if names[-1:] != ["g"]:  # what is defined twice is one piece, and then its order is another
        assert "".join(parts.values()) == source


def test_what_is_no_program() -> None:
    with pytest.raises(SyntaxError):
        program_parts("def f(:\n")


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None)
@given(architecture=architectures())
def test_they_add_up(name: str, architecture: Architecture) -> None:
    source = registry.load(name).source(architecture)
    parts = program_parts(source)
    assert "".join(parts.values()) == source
    compile(parts["imports"], "imports", "exec")
    for piece, text in parts.items():
        found = ast.parse(text).body
        if piece not in ("docstring", "imports", "__main__"):
            assert [getattr(node, "name", None) for node in found] == [piece]
