"""Which parameter of the spec an array of somebody else's file is, and how the chapter's own net calls ours.

Names decide where they are the spec's; otherwise the order of the layers does, and every shape is checked. How a
framework's own file is read and written is its adapter's; the safetensors of others are read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from nin_multi.backend import Params
from nin_multi.errors import CheckpointError, show_name
from nin_multi.files import read_whole, refuse_pickle
from nin_multi.limits import file_limit
from nin_multi.named_arrays import list_misfits, unreadable_kind, widen_bfloat16
from nin_multi.spec import Architecture, Conv2d, Linear, ReLU, SEBlock, SKBlock, TracedLayer

Named = Mapping[str, NDArray[Any]]
Names = dict[str, str]  # the spec's name -> the file's
Roles = dict[str, str]  # "weight" or "bias" -> the full name
Number = tuple[int, str]  # as `_number` has it
KINDS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by the file's names, in no order that says anything. Raises CheckpointError unless all is whole."""
    _refuse_large_file(path)
    refuse_pickle(path)
    content = read_whole(path)
    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({show_name(str(error))})") from None
    found: dict[str, NDArray[Any]] = {}
    for name, entry in sorted(entries, key=lambda pair: pair[0]):
        kind: Any = entry["dtype"]
        if kind not in KINDS:
            raise unreadable_kind(path, name, str(kind))
        try:
            array = np.frombuffer(entry["data"], KINDS[kind]).reshape(entry["shape"])
        except (ValueError, OverflowError) as error:  # more axes than NumPy has, or none of its sizes
            raise CheckpointError(f"{path}: {show_name(name)} has a shape that cannot be ({error})") from None
        found[name] = widen_bfloat16(array) if kind == "BF16" else array
    return found


def _refuse_large_file(path: Path) -> None:
    """Before it is read: a sparse file of any size costs nothing to make. A device would never end."""
    if not path.is_file():
        return  # read_whole says what it is
    size, most = path.stat().st_size, file_limit()
    if size > most:
        raise CheckpointError(f"{path}: expected a weights file of at most {most:,} bytes, got {size:,}")


def adopt(named: Named, architecture: Architecture, source: str, *, in_order: bool = True) -> Params:
    """The architecture's parameters, float32, out of arrays with names of their own.

    Names that are the spec's, alone or behind one prefix such as "net." or "arg:", are taken as they are, and so are
    the book's (see `book_names`) in a file without an order: the maps inside a unit have no numbers. Otherwise the
    i-th layer of the file that has parameters is the i-th of the spec. Layers follow their numbers, "10" after "2",
    or, where they differ in more than numbers, the order of `named`; `in_order=False` says that it has none.

    Args:
        named: array by the file's name, any floating-point kind; float64 is rounded.
        architecture: whose parameters they are to be.
        source: stands in front of error messages.
        in_order: whether the order of `named` is the one the layers were made in.

    Raises:
        CheckpointError: an array is missing, unexpected or misshapen, or nothing says which layer comes first.
    """
    names = _by_name(named, architecture)
    if names is None and not in_order:
        names = _by_book_name(named, architecture)
    if names is None:
        names = _by_position(named, architecture, source, in_order)
    _check(names, named, architecture, source)
    with np.errstate(over="ignore"):  # beyond float32's range: infinite, as in any conversion
        return {name: np.array(named[theirs], np.float32, order="C") for name, theirs in names.items()}


def book_names(architecture: Architecture, *, relu_takes_an_index: bool) -> dict[str, str]:
    """The spec's parameter names -> those of the chapter's own net, a nested Sequential: "0.2.weight".

    Every layer counts, from 0, inside its block and outside. Without `relu_takes_an_index`, a ReLU right after a
    convolution or a linear layer is an argument of that layer, and does not count.
    """
    return dict(_count(architecture.trace(), "", relu_takes_an_index))


def _count(layers: tuple[TracedLayer, ...], before: str, relu_takes_an_index: bool) -> Iterator[tuple[str, str]]:
    index, previous = 0, None
    for traced in layers:
        own = relu_takes_an_index or not isinstance(traced.layer, ReLU) or not isinstance(previous, (Conv2d, Linear))
        if own:
            place = f"{before}{index}."
            yield from _count(traced.inner, place, relu_takes_an_index)
            if not traced.inner:
                yield from ((name, place + name.removeprefix(f"{traced.name}.")) for name in traced.parameters)
            index += 1
        previous = traced.layer


def _layers(architecture: Architecture) -> dict[str, Roles]:
    """Layer -> "weight" or "bias" -> the parameter's full name, for layers that have any."""
    found: dict[str, Roles] = {}
    for name in architecture.parameter_shapes():
        layer, _, role = name.rpartition(".")
        found.setdefault(layer, {})[role] = name
    return found


def _by_name(named: Named, architecture: Architecture) -> Names | None:
    """Where all of the file's names are the spec's behind one prefix, or behind none."""
    expected = list(architecture.parameter_shapes())
    if not expected or len(named) != len(expected):
        return None
    for name in named:
        if name.endswith(expected[0]):
            prefix = name.removesuffix(expected[0])
            if not all(other.startswith(prefix) for other in named):  # thousands may end like the first
                continue
            names = {own: prefix + own for own in expected}
            if set(names.values()) == named.keys():
                return names
    return None


def _by_book_name(named: Named, architecture: Architecture) -> Names | None:
    """Where units have maps that differ in words ("3.reduce"), and all names are the book's, behind one prefix."""
    if not any(isinstance(layer, SEBlock | SKBlock) for layer in architecture.layers):
        return None
    for takes in (True, False):
        book = book_names(architecture, relu_takes_an_index=takes)
        first = next(iter(book.values()))
        for prefix in {name.removesuffix(first) for name in named if name.endswith(first)}:
            names = {own: prefix + theirs for own, theirs in book.items()}
            if set(names.values()) == named.keys():
                return names
    return None


def _by_position(named: Named, architecture: Architecture, source: str, in_order: bool) -> Names:
    """The i-th layer for the i-th, and what is then missing or too much."""
    expected, found = _layers(architecture), _found_layers(named)
    if len(expected) == len(found):  # else it fails in any order
        found = {layer: found[layer] for layer in _order(list(found), source, in_order)}
    names: Names = {}
    for ours, theirs in zip(expected.values(), found.values(), strict=False):
        names |= {ours[role]: theirs[role] for role in ours if role in theirs}
    return names


def _found_layers(named: Named) -> dict[str, Roles]:
    """As `_layers`, for the file's names; those that end in neither word belong to no layer of ours."""
    found: dict[str, Roles] = {}
    for name in named:
        if parts := re.fullmatch(r"(?:(.*)[._])?(weight|bias)", name, re.DOTALL):
            found.setdefault(parts[1] or "", {}).setdefault(parts[2], name)
    return found


def _order(layers: list[str], source: str, in_order: bool) -> list[str]:
    """By their numbers where all of them differ in those first, else as they come."""
    keys = {layer: [_number(part) for part in re.split(r"([0-9]+)", layer)] for layer in layers}
    if pair := _undecided(keys):
        if in_order:
            return layers
        raise CheckpointError(
            f"{source}: nothing says whether {show_name(pair[0])!r} or {show_name(pair[1])!r} comes first: "
            "the file keeps no order.\nRename its arrays as the architecture has them, or number them."
        )
    return sorted(layers, key=keys.__getitem__)


def _undecided(keys: Mapping[str, Sequence[Number]]) -> tuple[str, str] | None:
    """Two layers that do not differ in a number first; None where any two do.

    A tree of texts and numbers by turns, so that thousands of layers are not compared each with each.
    """
    root: dict[Any, Any] = {}
    for layer, key in keys.items():
        node = root
        for place in range(0, len(key), 2):
            ends = place + 1 == len(key)
            text, other = node.setdefault("here", ((key[place], ends), layer))
            if other != layer and (ends or text != (key[place], ends)):
                return other, layer
            if not ends:
                node = node.setdefault(key[place + 1], {})
    return None


def _number(part: str) -> Number:
    """A key by which digits sort as the number they write, however long it is; text sorts as text."""
    return (len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else (0, part)


def _check(names: Names, named: Named, architecture: Architecture, source: str) -> None:
    """Raises CheckpointError for what is missing, unexpected, misshapen or no floating-point number."""
    shapes, used = architecture.parameter_shapes(), set(names.values())
    misshapen = [
        f"{show_name(theirs)} {named[theirs].shape} for {ours} {shapes[ours]}"
        for ours, theirs in names.items()
        if named[theirs].shape != shapes[ours]
    ]
    missing = [name for name in shapes if name not in names]
    unexpected = [show_name(name) for name in named if name not in used]
    if problems := list_misfits(missing, unexpected, misshapen):
        raise CheckpointError(
            f"{source}: does not hold the parameters of architecture {architecture.name!r}: {problems}"
        )
    for name, value in named.items():
        if value.dtype.kind != "f" or value.dtype.itemsize > 8:
            raise unreadable_kind(source, name, str(value.dtype))
