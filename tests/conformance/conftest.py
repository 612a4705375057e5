"""The mutation check's bookkeeping: what cannot be planted is not collected, and what was found becomes a table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mutations import FRAMEWORKS, SURVIVED, Row, lay_out

from nin_multi import registry

CACHE_KEY = "nin_multi/mutations"
_rows = pytest.StashKey[dict[str, list[Row]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_rows] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what a backend has not: an adapter to mutate, a way for the mistake, weights files, a knob, workers."""
    impossible = [item for item in items if _is_impossible(item)]
    if impossible:
        config.hook.pytest_deselected(items=impossible)
        items[:] = [item for item in items if item not in impossible]


def _is_impossible(item: pytest.Item) -> bool:
    given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if "hand" in getattr(item, "fixturenames", ()) and not registry.load(given["backend"]).weights_suffixes:
        return True
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        return True
    own = item.get_closest_marker("backend")
    if own is not None and own.args[0] != given["backend"]:
        return True
    if "runs" in getattr(item, "fixturenames", ()) and given["backend"] not in FRAMEWORKS:
        return True
    choice = given.get("choice")  # of a knob, by the name of the backend that has it
    if choice is not None and choice.backend != given["backend"]:
        return True
    mutation = given.get("mutation")
    return mutation is not None and (given["backend"] not in FRAMEWORKS or given["backend"] in mutation.impossible_in)


@pytest.fixture
def mutation_rows(request: pytest.FixtureRequest) -> Iterator[dict[str, list[Row]]]:
    """What was found, by backend; a test adds to it."""
    return request.config.stash[_rows]


def pytest_sessionfinish(session: pytest.Session) -> None:
    cache = getattr(session.config, "cache", None)
    for backend, rows in session.config.stash[_rows].items() if cache is not None else ():
        cache.set(f"{CACHE_KEY}/{backend}", rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for backend, rows in config.stash[_rows].items():
        caught = sum(row["check"] != SURVIVED for row in rows)
        terminalreporter.section(f"mutations of {backend}: {caught} of {len(rows)} found")
        for line in lay_out(("mutation", "check", "where", "cause"), (tuple(row.values()) for row in rows)):
            terminalreporter.write_line(line)
