"""A written program taken apart into pieces that each can be shown or run after those before it; not its words."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def program_parts(source: str) -> Mapping[str, str]:
    r"""The pieces of a program by name, in its order; joined they are the program again, to the last blank line.

    "docstring"; "imports", all that stands before the first definition; each top-level function and class by its name,
    comments right above it included; "__main__", what stands after the last. A piece that is not there has no name.
    Raises SyntaxError.

    >>> program_parts('import sys\n\n\ndef leave():\n    sys.exit()\n')["leave"]
    'def leave():\n    sys.exit()\n'
    """
    lines = source.splitlines(keepends=True)
    starts = list(_starts(ast.parse(source), lines))
    ends = [start for _, start in starts[1:]] + [len(lines)]
    parts: dict[str, str] = {}
    for (name, start), end in zip(starts, ends, strict=True):
        parts[name] = parts.get(name, "") + "".join(lines[start:end])  # a name that is defined twice stays one piece
    return {name: text for name, text in parts.items() if text}


def _starts(tree: ast.Module, lines: list[str]) -> Iterator[tuple[str, int]]:
    """Each piece's name, and how many lines stand before it."""
    body = tree.body
    yield "docstring", 0
    has_docstring = ast.get_docstring(tree) is not None
    first = body[int(has_docstring)].lineno - 1 if len(body) > has_docstring else len(lines)
    yield "imports", _above_comments(first, lines) if has_docstring else 0
    defined = [node for node in body if isinstance(node, Definition)]
    for node in defined:
        line = min([node.lineno, *(word.lineno for word in node.decorator_list)])
        yield node.name, _above_comments(line - 1, lines)
    after = body[body.index(defined[-1]) + 1 :] if defined else []
    if after:
        yield "__main__", _above_comments(after[0].lineno - 1, lines)


def _above_comments(line: int, lines: list[str]) -> int:
    """Where the comments begin that stand right above this line, both counted from 0."""
    while line > 0 and lines[line - 1].startswith("#"):
        line -= 1
    return line
