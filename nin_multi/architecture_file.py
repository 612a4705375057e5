"""Reading and writing architecture files (YAML), with errors that name the place; not what a layer means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nin_multi import zoo
from nin_multi.errors import SpecError
from nin_multi.plain_yaml import nearest, parse_plain, place_of, read_plain
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


def load_architecture(name: str) -> Architecture:
    """An architecture of the zoo by its name, or from a file by its path.

    Raises SpecError: no such name or file, or one that does not hold a valid architecture.
    """
    if name in zoo.names():
        return read_architecture(zoo.path(name))
    path = Path(name)
    if path.suffix in SUFFIXES or path.exists():
        return read_architecture(path)
    known = zoo.names()
    raise SpecError(
        f"no architecture is called {name!r}.{nearest(name, known)}\n"
        f"Expected one of {', '.join(known)}, or a .yaml file."
    )


def read_architecture(path: Path) -> Architecture:
    """The architecture in a file. Raises SpecError with path, line and column."""
    return parse_architecture(read_plain(path, "architecture"), str(path))


def parse_architecture(text: str, source: str = "<text>") -> Architecture:
    """The architecture written in `text`; `source` stands in front of the place in error messages."""
    root, data = parse_plain(text, source, "name, input and layers")
    try:
        return Architecture.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, data, root, source) from None
    except SpecError as error:
        location: Location = () if error.layer_index is None else ("layers", error.layer_index)
        raise SpecError(f"{place_of(root, location, source)}: {error}", layer_index=error.layer_index) from None


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


def _first_error(error: ValidationError, data: Any, root: yaml.Node, source: str) -> SpecError:
    """The first of pydantic's findings, in one or two lines of our own."""
    # An unknown key explains the missing one beside it, not the other way round.
    finding = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location: Location = finding["loc"]
    where = place_of(root, location, source)
    layer = _layer_at(data, location)
    kind = layer.get("type") if layer else None
    kind = kind if kind is None or isinstance(kind, str) else repr(kind)
    owner = f"layer {kind!r}" if kind else "the architecture"
    known = list(LAYER_TYPES[kind].model_fields) if kind in LAYER_TYPES else list(Architecture.model_fields)
    key, got = str(location[-1]) if location else "", finding["input"]
    field = next((str(part) for part in reversed(location) if part in known), "")
    match finding["type"]:
        case "extra_forbidden":
            text = f"unknown key {key!r} in {owner}.{nearest(key, known)}\nExpected: {', '.join(known)}."
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
            text = f"{got_type}{nearest(word, list(LAYER_TYPES))}\nExpected: {', '.join(LAYER_TYPES)}."
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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
