"""A tiny net, a folder to work in, and IPython without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nin_multi import launcher
from nin_multi.architecture_file import parse_architecture
from nin_multi.spec import Architecture

TINY = """\
name: tiny
input: [1, 8, 8]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3, stride: 2}
  - {type: dropout, rate: 0.5}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""


@pytest.fixture(scope="session")
def tiny() -> Architecture:
    return parse_architecture(TINY)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in; no environment of a backend, and no data set, comes from outside."""
    for name in ("NIN_MULTI_DATA", launcher.MARK, launcher.ADDED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def few() -> dict[str, Any]:
    """A training of 14 steps."""
    return {"dataset": "synthetic", "train_examples": 64, "test_examples": 20, "batch_size": 10, "epochs": 2}


Outputs = list[dict[str, Any]]


@pytest.fixture
def cell(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Any, Outputs]]]:
    """Runs a cell as IPython does; gives its result, and all that it published: data, and whether it is an update."""
    from IPython.core.displayhook import CapturingDisplayHook
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # IPython warns where another environment is the active one
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}), user_ns={})

    def run(code: str, **names: Any) -> tuple[Any, Outputs]:
        shell.user_ns |= names
        publisher, hook = CapturingDisplayPublisher(), CapturingDisplayHook(shell=shell, outputs=[])
        before = shell.display_pub, shell.display_trap.hook
        shell.display_pub, shell.display_trap.hook = publisher, hook
        try:
            result = shell.run_cell(code, store_history=True)
        finally:
            shell.display_pub, shell.display_trap.hook = before
        return result, [*publisher.outputs, *hook.outputs]

    yield run
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


class Reader(HTMLParser):
    """Reads HTML strictly: every element that is opened is closed; keeps rows of tables, and names of elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in ("img", "col", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th", "strong"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="session")
def read_html() -> Callable[[str], Reader]:
    return Reader
