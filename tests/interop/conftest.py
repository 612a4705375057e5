"""Which book's tab a test is for: the file's name says it, and other backends' copies are taken out, not skipped."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from nin_multi.backend import Backend
from nin_multi.errors import BackendUnavailable


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep `test_book_torch.py` for the backend torch, and so on. d2l 1.0.3 has no tab for MindSpore or NumPy."""
    others = [item for item in items if _is_for_another(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def _is_for_another(item: pytest.Item) -> bool:
    """Whether it is a test of a file `test_book_*.py`, for a backend whose name does not end the file's name."""
    prefix, _, framework = item.path.stem.rpartition("_")
    if prefix != "test_book" or not isinstance(item, pytest.Function):
        return False
    return bool(item.callspec.params["backend"] != framework)


@pytest.fixture
def d2l(backend: Backend, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The book's code for the backend under test, without worker processes. A named backend must have it."""
    try:
        tab = importlib.import_module(f"nin_{backend.name}.book").import_book()
    except BackendUnavailable as error:
        is_missing = error.__cause__ is None or isinstance(error.__cause__, ModuleNotFoundError)
        if request.config.getoption("--backend") or not is_missing:
            raise
        pytest.skip(str(error))
    assert isinstance(tab, ModuleType)
    monkeypatch.setattr(tab, "get_dataloader_workers", lambda: 0)
    return tab
