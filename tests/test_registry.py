"""Finding adapters by entry point: ours, a stranger's, a broken one, and a name that nobody has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from strategies import refused

from nin_multi import registry
from nin_multi.errors import BackendNotFound, BackendUnavailable

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install an adapter as pip would, in a folder of its own: a module `adapter_NAME` and its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install_adapter(name: str, text: str) -> None:
        (tmp_path / f"adapter_{name}.py").write_text(text)
        info = tmp_path / f"adapter_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: adapter-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = adapter_{name}:Adapter\n")

    yield install_adapter
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_our_own_are_there_in_order() -> None:
    assert {"torch", "mindspore", "mxnet", "numpy"} <= set(registry.available())
    assert list(registry.available()) == sorted(registry.available())


@pytest.mark.parametrize("name", registry.available())
def test_every_adapter_loads_and_carries_its_name(name: str) -> None:
    backend = registry.load(name)
    assert backend.name == name
    assert backend.precisions
    assert bool(backend.bf16_sets) is ("bf16" in backend.precisions)
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in backend.environment().items())


def test_a_strangers_adapter(install: Install) -> None:
    install("elsewhere", "class Adapter:\n    name = 'elsewhere'\n")
    assert "elsewhere" in registry.available()
    assert registry.load("elsewhere").name == "elsewhere"
    assert type(registry.load("elsewhere")).__module__ == "adapter_elsewhere"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import absent_framework\n", ("ModuleNotFoundError", "absent_framework")),
        ("class SomethingElse: ...\n", ("AttributeError", "Adapter")),
        ("class Adapter:\n    def __init__(self): raise OSError('no such\\nlibrary\\nhere')\n", ("OSError: no such)",)),
        ("raise RuntimeError\n", ("RuntimeError",)),
        ("class Adapter(\n", ("SyntaxError",)),
    ],
)
def test_a_broken_adapter(install: Install, text: str, words: tuple[str, ...]) -> None:
    install("broken", text)
    assert "broken" in registry.available()
    with refused(BackendUnavailable, "broken: the adapter 'adapter_broken:Adapter' does not load", *words):
        registry.load("broken")


def test_a_broken_adapter_leaves_the_others_alone(install: Install) -> None:
    install("broken", "1 / 0\n")
    assert registry.load("numpy").name == "numpy"


@pytest.mark.parametrize(("word", "near"), [("torhc", "torch"), ("minspore", "mindspore"), ("mx", "mxnet")])
def test_an_unknown_name_and_the_nearest(word: str, near: str) -> None:
    with refused(BackendNotFound, f"no backend is called {word!r}", f"Did you mean {near!r}?", *registry.available()):
        registry.load(word)


def test_an_unknown_name_with_nothing_near() -> None:
    with pytest.raises(BackendNotFound) as caught:
        registry.load("qqq")
    assert "Did you mean" not in str(caught.value)
    assert caught.value.exit_status == 2
