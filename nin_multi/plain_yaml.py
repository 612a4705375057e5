"""Reading YAML that holds plain values only, with the place of everything in it; not what those values mean.

A text is composed into nodes first and built into plain values second: the nodes know line and column, and no
object of any other kind can come out of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nin_multi.errors import SpecError

DEEPEST = 20
LARGEST_FILE = 1_000_000  # bytes; the largest architecture of the zoo has 2,000
LONGEST_WORD = 1_000  # characters: YAML makes a number of one that is too long in the square of its length, and worse
MOST_WORDS = 20_000  # and places where a list or a mapping begins or ends: a second of parsing, 2,000 layers


def read_plain(path: Path, what: str) -> str:
    """A file's text; `what` it should be, such as "architecture", stands in errors. Raises SpecError."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            article = "an" if what[0] in "aeiou" else "a"
            raise SpecError(f"{path}: expected {article} {what} file of at most {LARGEST_FILE:,} bytes, got {size:,}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such {what} file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as a text file ({_reason(error)})") from None


def parse_plain(text: str, source: str, expected: str) -> tuple[yaml.Node, Any]:
    """A text's nodes and its values; `expected` says what an empty one lacks. Raises SpecError with line and column."""
    try:
        loader = _PlainLoader(text, source)
        root = loader.get_single_node()
        if root is None:
            raise SpecError(f"{source}: the file is empty; expected {expected}")
        _refuse_repeated_keys(root, source)
        return root, loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(f"{source}{place}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # 1:1:...:1.5, a date before year 1
        raise SpecError(f"{source}: not YAML: {str(error).splitlines()[0]}") from None


def place_of(root: yaml.Node, location: Sequence[int | str], source: str) -> str:
    """source:line:column of the innermost part of `location` that the file has."""
    node = root
    for position, part in enumerate(location, start=1):
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                continue  # a union's tag in pydantic's location, or a key that is missing
            key, node = found[0]
            if position == len(location):
                return f"{source}:{_mark(key)}"
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
    return f"{source}:{_mark(node)}"


def nearest(word: str, known: Sequence[str]) -> str:
    """A question that names the nearest word, with a space before it; empty where none is near."""
    near = difflib.get_close_matches(word, known, 1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8"


class _PlainLoader(yaml.SafeLoader):
    """Refuses tags, aliases, deep nesting and words without end as it meets them: none has a use here.

    A tag asks for another type, a few aliases can stand for gigabytes, and depth and length exhaust the parser.
    """

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source, self.depth, self.words = source, 0, 0

    def get_event(self) -> Any:
        event: Any = super().get_event()  # type: ignore[no-untyped-call]  # its stubs know neither marks nor tags
        self.depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        self.words += 1
        if reason := self._reason(event):
            raise SpecError(f"{self.source}:{_mark(event)}: {reason}")
        return event

    def _reason(self, event: Any) -> str:
        if self.depth > DEEPEST:
            return f"nested {self.depth} deep; an architecture needs 4"
        if self.words > MOST_WORDS:
            return f"expected at most {MOST_WORDS:,} words in an architecture file"
        if len(getattr(event, "value", "")) > LONGEST_WORD:
            return f"expected a word of at most {LONGEST_WORD:,} characters, got {len(event.value):,}"
        if isinstance(event, yaml.AliasEvent):
            return f"the alias *{event.anchor} is not allowed here; write the value out"
        if getattr(event, "tag", None) is not None:
            return f"the tag {event.tag!r} is not allowed here; write a plain value"
        return ""


def _refuse_repeated_keys(root: yaml.Node, source: str) -> None:
    """YAML lets the last of two equal keys win without a word; here that is a mistake."""
    pending = [root]
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.SequenceNode):
            pending.extend(current.value)
        if not isinstance(current, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, value in current.value:
            if not isinstance(key, yaml.ScalarNode):
                raise SpecError(f"{source}:{_mark(key)}: expected a word as the key, got a list or a mapping")
            if key.value in seen:
                raise SpecError(f"{source}:{_mark(key)}: the key {key.value!r} stands there twice")
            seen.add(key.value)
            pending.append(value)


def _mark(node: Any) -> str:
    return f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"
