"""Whether each backend's net is the specification's: the oracle asked once, each backend in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from nin_multi.checks.problem import Problem
from nin_multi.checks.truth import Truth, save
from nin_multi.launcher import Child, ChildResult


def verify_each(
    problem: Problem,
    truth: Truth,
    backends: Sequence[str],
    words: Callable[[str], list[str]],
    report: Callable[[str], None],
    pythons: Mapping[str, str] | None = None,
) -> Iterator[ChildResult]:
    """What `verify` says of each backend, one after another; `words` are further arguments for each."""
    with tempfile.TemporaryDirectory(prefix="nin_multi-") as folder:
        save(Path(folder), problem, truth)
        for name in backends:
            report(f"{problem.architecture.name}: {name}")
            command = ["verify", "--backend", name, *words(name), "--truth", folder]
            yield Child(name, command, python=(pythons or {}).get(name)).result()
