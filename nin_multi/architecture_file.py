"""Reading and writing architecture files (YAML), with errors that name the place; not what a layer means.

A file is composed into nodes first and built into plain values second: the nodes know line and column, and no
object of any other kind can come out of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nin_multi import zoo
from nin_multi.errors import SpecError
from nin_multi.spec import LAYER_TYPES, Architecture

Location = tuple[int | str, ...]
SUFFIXES = (".yaml", ".yml")
_SIZE = "an int or [height, width]"
_LISTS = {
    "input": "[channels, height, width]",
    "layers": "a list of layers",
    "mlp_channels": "a list of channels",
    "kernel_sizes": "a list of two or more odd numbers",
    "kernel_size": _SIZE,
    "stride": _SIZE,
    "padding": _SIZE,
}
DEEPEST = 20
LARGEST_FILE = 1_000_000  # bytes; the largest architecture of the zoo has 2,000
LONGEST_WORD = 1_000  # characters: YAML makes a number of one that is too long in the square of its length, and worse
MOST_WORDS = 20_000  # and places where a list or a mapping begins or ends: a second of parsing, 2,000 layers


def load_architecture(name: str) -> Architecture:
    """An architecture of the zoo by its name, or from a file by its path.

    Raises SpecError: no such name or file, or one that does not hold a valid architecture.
    """
    if name in zoo.names():
        return read_architecture(zoo.path(name))
    path = Path(name)
    if path.suffix in SUFFIXES or path.exists():
        return read_architecture(path)
    near = difflib.get_close_matches(name, zoo.names(), 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SpecError(
        f"no architecture is called {name!r}.{hint}\nExpected one of {', '.join(zoo.names())}, or a .yaml file."
    )


def read_architecture(path: Path) -> Architecture:
    """The architecture in a file. Raises SpecError with path, line and column."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise SpecError(f"{path}: expected an architecture file of at most {LARGEST_FILE:,} bytes, got {size:,}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such architecture file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as a text file ({_reason(error)})") from None
    return parse_architecture(text, str(path))


def parse_architecture(text: str, source: str = "<text>") -> Architecture:
    """The architecture written in `text`; `source` stands in front of the place in error messages."""
    try:
        loader = _PlainLoader(text, source)
        root = loader.get_single_node()
        if root is None:
            raise SpecError(f"{source}: the file is empty; expected name, input and layers")
        _refuse_repeated_keys(root, source)
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(f"{source}{place}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # 1:1:...:1.5, a date before year 1
        raise SpecError(f"{source}: not YAML: {str(error).splitlines()[0]}") from None
    try:
        return Architecture.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, data, root, source) from None
    except SpecError as error:
        location: Location = () if error.layer_index is None else ("layers", error.layer_index)
        raise SpecError(f"{_place(root, location, source)}: {error}", layer_index=error.layer_index) from None


def format_architecture(architecture: Architecture) -> str:
    """YAML text from which `parse_architecture` gives an equal architecture."""
    head = {"name": architecture.name, "input": list(architecture.input)}
    lines = [yaml.safe_dump(head, default_flow_style=None, sort_keys=False), "layers:\n"]
    for layer in architecture.layers:
        fields = layer.model_dump(mode="json", exclude_defaults=True)
        fields = {"type": layer.type, "name": layer.name, **fields}
        text = yaml.safe_dump(fields, default_flow_style=True, sort_keys=False, width=10_000)
        lines.append(f"  - {text}")
    return "".join(lines)


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


def _place(root: yaml.Node, location: Sequence[int | str], source: str) -> str:
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


def _first_error(error: ValidationError, data: Any, root: yaml.Node, source: str) -> SpecError:
    """The first of pydantic's findings, in one or two lines of our own."""
    # An unknown key explains the missing one beside it, not the other way round.
    finding = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location: Location = finding["loc"]
    where = _place(root, location, source)
    layer = _layer_at(data, location)
    kind = layer.get("type") if layer else None
    kind = kind if kind is None or isinstance(kind, str) else repr(kind)
    owner = f"layer {kind!r}" if kind else "the architecture"
    known = list(LAYER_TYPES[kind].model_fields) if kind in LAYER_TYPES else list(Architecture.model_fields)
    key, got = str(location[-1]) if location else "", finding["input"]
    field = next((str(part) for part in reversed(location) if part in known), "")
    match finding["type"]:
        case "extra_forbidden":
            text = f"unknown key {key!r} in {owner}.{_nearest(key, known)}\nExpected: {', '.join(known)}."
        case "tuple_type" | "missing" | "too_long" if field in _LISTS and not (
            finding["type"] == "missing" and key == field
        ):
            text = f"{owner}: {field}: expected {_LISTS[field]}, got {_short(got)}."
        case "too_short" if field == "kernel_sizes":
            text = f"{owner}: {field}: expected {_LISTS[field]}, got {_short(got)}."
        case "missing":
            text = f"{owner} needs {key!r}."
        case "union_tag_invalid" | "union_tag_not_found":
            word = str(kind or "")
            got_type = f"unknown layer type {word!r}." if kind else "a layer needs 'type'."
            text = f"{got_type}{_nearest(word, list(LAYER_TYPES))}\nExpected: {', '.join(LAYER_TYPES)}."
        case "model_type" | "model_attributes_type":
            text = f"expected {'a layer {type: ...}' if location else 'name, input and layers'}, got {_short(got)}."
        case "value_error":
            text = f"{owner}: {finding['msg'].removeprefix('Value error, ')}."
        case _:
            reason = finding["msg"].removeprefix("Input ").replace("Tuple", "the list")
            text = f"{owner}: {field + ': ' if field else ''}{reason}, got {_short(got)}."
    return SpecError(f"{where}: {text}", layer_index=next((p for p in location if isinstance(p, int)), None))


def _layer_at(data: Any, location: Location) -> Mapping[str, Any] | None:
    if len(location) < 2 or location[0] != "layers" or not isinstance(location[1], int):
        return None
    entry = data["layers"][location[1]]
    return entry if isinstance(entry, Mapping) else None


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
