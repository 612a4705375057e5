"""The options of `train` as keywords of Python: checked, and put into words for a process; not what they mean."""

from __future__ import annotations

import difflib
import operator
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from nin_multi import zoo
from nin_multi.architecture_file import format_architecture, load_architecture
from nin_multi.errors import UsageError
from nin_multi.spec import Architecture
from nin_multi.training.recipe import Recipe

# Keyword -> what its value is; the words for a process are those of `train` with hyphens.
KINDS: Mapping[str, str] = {
    **dict.fromkeys(("input", "dataset", "recipe", "init", "decay", "dropout", "device", "precision"), "a word"),
    **dict.fromkeys(("tune", "checkpoint_every"), "a word"),
    **dict.fromkeys(("epochs", "batch_size", "warm_up", "seed", "train_examples", "test_examples"), "a whole number"),
    **dict.fromkeys(("workers", "port", "restarts"), "a whole number"),
    **dict.fromkeys(("lr", "momentum", "dropout_rate", "join_timeout"), "a number"),
    **dict.fromkeys(("final_relu", "allow_large", "tensorboard"), "True or False"),
    **dict.fromkeys(("data_dir", "run_dir", "runs_dir", "resume"), "a path"),
    "set": 'a dict, such as {"micro_batch": 16}',
}
PREFIX = "nin_multi-"  # of folders for a moment
OF_RECIPE = tuple(field.name for field in fields(Recipe))


def checked(given: Mapping[str, Any], function: str, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options that are not None, each of its kind. Raises TypeError for an unknown one, UsageError for its value.

    `given` are the arguments of that function as it got them, `unknown` those that it does not know; `others` are
    looked at elsewhere.
    """
    known = [name for name in given if name != "unknown"]
    for name in given["unknown"]:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(known)}."
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}.{hint}")
    return {
        name: _value(name, value)
        for name, value in given.items()
        if name in KINDS and name not in others and value is not None
    }


def _value(name: str, value: Any) -> Any:
    try:
        return _CONVERT[KINDS[name]](value)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: expected {KINDS[name]}, got {value!r}") from None


def _word(value: Any) -> str:
    """Also 5 for "5", and (1, 28, 28) for "1x28x28"."""
    if isinstance(value, tuple | list):
        return "x".join(str(operator.index(part)) for part in value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _whole(value: Any) -> int:
    """NumPy's whole numbers too."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _knobs(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(name): _on(knob) for name, knob in value.items()}


_CONVERT: Mapping[str, Any] = {
    "a word": _word,
    "a whole number": _whole,
    "a number": _number,
    "True or False": _flag,
    "a path": os.fspath,
    KINDS["set"]: _knobs,
}


def recipe_of(options: Mapping[str, Any]) -> Recipe:
    """The recipe that they make. Raises UsageError, as Python calls what is wrong."""
    chosen = {name: options.get(name) for name in OF_RECIPE}
    try:
        return Recipe.named(options.get("recipe", "book"), **chosen)
    except UsageError as error:
        raise in_python(error) from None


def in_python(error: UsageError) -> UsageError:
    """The same with the keyword in place of the flag.

    >>> str(in_python(UsageError("--batch-size: expected at least 1, got 0")))
    'batch_size: expected at least 1, got 0'
    """
    return UsageError(re.sub(r"^--([a-z-]+)", lambda found: found[1].replace("-", "_"), str(error)))


def words_of(options: Mapping[str, Any]) -> list[str]:
    """The arguments that say so to `train`."""
    return [word for name, value in options.items() for word in _words(flag(name), name, value)]


def flag(name: str) -> str:
    """The option of the command line that a keyword is.

    >>> flag("batch_size")
    '--batch-size'
    """
    return f"--{name.replace('_', '-')}"


def _words(option: str, name: str, value: Any) -> list[str]:
    if name == "set":
        return [f"{option}={knob}={setting}" for knob, setting in value.items()]
    if name == "final_relu":
        return [f"{option}={_on(value)}"]
    if isinstance(value, bool):
        return [option] if value else []
    return [f"{option}={value}"]


def _on(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


@contextmanager
def named(arch: str | os.PathLike[str] | Architecture) -> Iterator[tuple[str, Architecture]]:
    """A block in which an architecture has a name or a file that another process can read, and what it is.

    Raises SpecError where a name or a file gives none.
    """
    if not isinstance(arch, Architecture):
        word = os.fspath(arch)
        yield word, load_architecture(word)
    elif arch.name in zoo.names() and load_architecture(arch.name) == arch:
        yield arch.name, arch
    else:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            path = Path(folder) / f"{arch.name}.yaml"
            path.write_text(format_architecture(arch), encoding="utf-8")
            yield str(path), arch


def shown(word: str) -> str:
    """A name or a file as another person can use it: without a folder that is only there for a moment."""
    path = Path(word)
    return path.name if path.parent.name.startswith(PREFIX) else word
