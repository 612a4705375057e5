"""Who writes programs: adapters with a module `source`, without their framework; others say that they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strategies import refused

from nin_multi import load, registry
from nin_multi.adapter import Adapter
from nin_multi.errors import UsageError

FRAMEWORKS = {"torch", "mindspore", "mxnet"}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The empty package `nin_scribe`, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nin_scribe").mkdir()
    (tmp_path / "nin_scribe" / "__init__.py").write_text("")
    yield tmp_path / "nin_scribe"
    for name in [name for name in sys.modules if name.partition(".")[0] == "nin_scribe"]:
        del sys.modules[name]


def scribe() -> Any:
    """An adapter of which nothing but its name is needed here."""
    return type("Scribe", (Adapter,), {**dict.fromkeys(Adapter.__abstractmethods__), "name": "scribe"})()


def test_the_module_source_is_asked(plugin: Path) -> None:
    (plugin / "source.py").write_text("def source(architecture): return f'# {architecture.name}'\n")
    assert scribe().source(load("nin")) == "# nin"


def test_an_adapter_without_it(plugin: Path) -> None:
    with refused(UsageError, "scribe writes no programs", "no module `source`"):
        scribe().source(load("nin"))


def test_a_module_that_breaks_is_no_missing_one(plugin: Path) -> None:
    (plugin / "source.py").write_text("import a_package_that_is_nowhere\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_nowhere"):
        scribe().source(load("nin"))


@pytest.mark.parametrize("name", [*sorted(FRAMEWORKS), "numpy"])
def test_the_command_imports_no_framework(name: str) -> None:
    program = (
        "import json, sys\nfrom nin_multi.cli import main\n"
        "try: main()\nfinally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, "export", "--backend", name, "--arch", "nin-mnist"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == registry.load(name).source(load("nin-mnist"))
    modules = {module.partition(".")[0] for module in json.loads(ended.stderr.splitlines()[-1])}
    assert name == "numpy" or f"nin_{name}" in modules
    assert not modules & {*FRAMEWORKS, "matplotlib", "safetensors", "requests", "PIL"}
