"""What an import or a command pulls in, in processes of their own, and the one arrow from adapters to the core."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"torch", "mindspore", "mxnet", "d2l", "jax", "tensorflow", "keras", "paddle"}
ADAPTERS = {path.name for path in (ROOT / "backends").iterdir() if (path / "__init__.py").exists()}
CORE = sorted((ROOT / "nin_multi").rglob("*.py"))
ADAPTER_FILES = sorted((ROOT / "backends").rglob("*.py"))

LIST_MODULES = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
# The command's own output goes to stdout first; the last line of stderr is ours.
RUN_COMMAND = """
import json, sys
from nin_multi.cli import main
try:
    main()
finally:
    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)
"""


def packages_after(*arguments: str) -> set[str]:
    """Top-level packages that a process has imported by the end of this command."""
    ended = subprocess.run([sys.executable, "-c", RUN_COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    return set(json.loads(ended.stderr.splitlines()[-1]))


def test_the_probe_sees_what_is_imported() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import numpy, xml.dom\n{LIST_MODULES}"], capture_output=True, text=True, check=True
    )
    assert {"numpy", "xml"} <= set(json.loads(ended.stdout))


def test_importing_the_package_imports_next_to_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import nin_multi\n{LIST_MODULES}"], capture_output=True, text=True, check=True
    )
    found = set(json.loads(ended.stdout))
    assert "nin_multi" in found
    assert not found & (FRAMEWORKS | ADAPTERS | {"numpy", "pydantic", "yaml", "typer", "rich"})


def test_loading_an_architecture_and_a_backend_imports_no_framework() -> None:
    program = "import nin_multi\nnin_multi.load('nin').parameters\n"
    program += "for name in nin_multi.available(): nin_multi.load_backend(name).environment()\n" + LIST_MODULES
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = set(json.loads(ended.stdout))
    assert found >= {"nin_torch", "nin_mindspore", "nin_mxnet"}
    assert not found & FRAMEWORKS


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["summary"],
        ["shapes"],
        ["verify"],
        ["bench"],
        ["train"],
        ["compare"],
        ["report"],
        ["sweep"],
        ["export"],
        ["evaluate"],
        ["predict"],
        ["pictures"],
        ["convert"],
        ["backends"],
        ["doctor"],
    ],
)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    heavy = FRAMEWORKS | ADAPTERS | {"numpy", "matplotlib", "yaml", "safetensors"}
    if not command:  # Typer itself takes pydantic for a command's own page, where it finds one
        heavy |= {"pydantic"}
    assert packages_after(*command, "--help") & heavy == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["summary"],
        ["summary", "--arch", "nin-mnist", "--json"],
        ["shapes", "--backend", "numpy", "--arch", "nin-mnist"],
        ["shapes", "--backend", "numpy", "--arch", "nin-mnist", "--json"],
    ],
    ids=" ".join,
)
def test_commands_without_a_framework_import_none(arguments: list[str]) -> None:
    found = packages_after(*arguments)
    assert "nin_multi" in found
    assert found & (FRAMEWORKS | ADAPTERS | {"matplotlib", "requests", "PIL"}) == set()


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or anywhere inside, as a dotted absolute name."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"{path}: a relative import"
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="__import__" | "import_framework")):
                if node.args and isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_scan() -> None:
    assert len(CORE) > 10
    assert {"nin_torch", "nin_mindspore", "nin_mxnet"} <= ADAPTERS
    assert "nin_multi.spec.Architecture" in set(imported(ROOT / "nin_multi" / "oracle" / "backend.py"))


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_no_framework_and_no_adapter(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imported(path)} & (FRAMEWORKS | ADAPTERS)


# What an adapter may know of the core.
BORDER = {"spec", "adapter", "backend", "knobs", "errors", "files", "named_arrays", "book", "export", "workers"}


@pytest.mark.parametrize("path", ADAPTER_FILES, ids=name_of)
def test_adapters_import_only_the_border_of_the_core(path: Path) -> None:
    own = path.relative_to(ROOT / "backends").parts[0]
    for name in imported(path):
        top, _, rest = name.partition(".")
        if top == "nin_multi":
            assert rest.partition(".")[0] in BORDER, name
        # Neither another adapter nor another framework.
        assert top not in ADAPTERS - {own}
        allowed = {own.removeprefix("nin_")} | ({"d2l"} if path.name == "book.py" else set())
        assert top not in FRAMEWORKS - allowed


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_adapters_have_the_same_file_names_and_none_is_a_frameworks(name: str) -> None:
    files = {path.name for path in (ROOT / "backends" / name).glob("*.py")}
    assert {"__init__.py", "backend.py", "layers.py", "network.py", "weights_file.py"} <= files
    assert not {file.removesuffix(".py") for file in files} & FRAMEWORKS


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_backend_module_alone_imports_no_framework(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import {name}.backend\n{LIST_MODULES}"], capture_output=True, text=True, check=True
    )
    assert not set(json.loads(ended.stdout)) & FRAMEWORKS
