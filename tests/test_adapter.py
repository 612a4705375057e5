"""What adapters stand on: requests checked and handed on, a missing framework told from a broken one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import refused

from nin_multi.adapter import Adapter, import_framework
from nin_multi.errors import BackendUnavailable, CheckpointError, UsageError
from nin_multi.knobs import Knob, Tuning, micro_batch_knob
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture

# --- importing a framework -------------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder on sys.path, forgotten afterwards with all that was imported from it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_package(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


def test_a_framework_that_is_there(packages: Path) -> None:
    write_package(packages, "healthy_frame", "__version__ = '1.2'\n")
    assert import_framework("healthy_frame", extra="healthy").__version__ == "1.2"


@pytest.mark.parametrize("module", ["absent_frame", "absent_frame.nn"])
def test_a_framework_that_is_missing(packages: Path, module: str) -> None:
    with refused(
        BackendUnavailable,
        f"absent: the package {module!r} is not installed",
        "pip install -c constraints.txt 'nin-multi[absent]'",
    ):
        import_framework(module, extra="absent")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import math\nmath.no_such_thing\n", ("AttributeError", "no_such_thing")),
        ("import absent_dependency\n", ("ModuleNotFoundError", "No module named 'absent_dependency'")),
        ("import broken_frame.absent_part\n", ("ModuleNotFoundError", "'broken_frame.absent_part'")),
        ("from math import no_such_name\n", ("ImportError", "no_such_name")),
        ("import ctypes\nctypes.CDLL('libabsent.so.7')\n", ("OSError", "libabsent.so.7")),
        ("raise RuntimeError('first line\\n  second\\nthird')\n", ("RuntimeError: first line)",)),
        ("raise ValueError\n", ("ValueError",)),
        ("def f(:\n", ("SyntaxError",)),
    ],
)
def test_a_framework_that_is_broken(packages: Path, text: str, words: tuple[str, ...]) -> None:
    write_package(packages, "broken_frame", text)
    with refused(
        BackendUnavailable,
        "broken: the package 'broken_frame' is installed but breaks on import",
        "constraints.txt",
        *words,
    ):
        import_framework("broken_frame", extra="broken")


def test_the_first_cause_is_kept_for_debugging(packages: Path) -> None:
    write_package(packages, "broken_frame", "1 / 0\n")
    with pytest.raises(BackendUnavailable) as caught:
        import_framework("broken_frame", extra="broken")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.exit_status == 3


# --- an adapter ------------------------------------------------------------------------------------------------------

NET = Architecture.model_validate(
    {"name": "tiny", "input": [1, 2, 2], "layers": [{"type": "flatten"}, {"type": "linear", "out_features": 3}]}
)
PARAMS = initial_parameters(NET, seed=0)
X, Y = np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, np.int32)
HERE = {"device": "cpu", "precision": "fp32"}

# Most give back what they were asked with.
MODULES = {
    "bare": "def bare_loop(*asked): return asked\ndef product(*asked): return asked\n",
    "layer_times": (
        "def enter(network, images): return images\n"
        "def layers(network): return [('flatten', 1), ('linear1', 2)]\n"
        "def timed_pass(network, layer, x, *, is_first): return lambda: (float(layer * len(x)), float(is_first))\n"
        "def output(network, layer, x): return x\n"
    ),
    "book": "def book_loop(*asked): return asked\n",
    "weights_file": "kept = {}\ndef read(path): return kept[path]\ndef write(path, named): kept[path] = named\n",
}


class Toy(Adapter):
    """Its framework is a module that counts; its nets are what they were made of."""

    name = "toy"
    precisions = ("fp32",)
    weights_suffixes: tuple[str, ...] = (".toy",)
    relu_takes_an_index = True
    warm_up_steps = 1

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def facts(self) -> dict[str, str]:
        return {"threads": "1"}

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> dict[str, str]:
        return {}

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        return (micro_batch_knob("2"), Knob("layout", ("wide", "tall")))

    def seed(self, seed: int) -> None:
        self.framework().seeds.append(seed)

    def network(self, *made_of: Any) -> Any:
        return made_of


@pytest.fixture
def toy(packages: Path) -> Toy:
    write_package(packages, "toy", "__version__ = '1.2'\nseeds = []\n")
    write_package(packages, "nin_toy", "")
    for name, text in MODULES.items():
        (packages / "nin_toy" / f"{name}.py").write_text(text)
    return Toy()


def imported() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] in ("toy", "nin_toy")}


def test_an_adapter_imports_nothing_before_it_is_asked(toy: Toy) -> None:
    toy.environment()
    toy.knobs(NET, **HERE)
    assert toy.bare_tuning == {}
    assert imported() == set()
    assert toy.version() == "1.2"
    assert imported() == {"toy"}


def test_a_net_is_built_of_checked_and_completed_things(toy: Toy) -> None:
    made_of: Any = toy.build(NET, PARAMS, **HERE, tuning={"layout": "tall"})
    assert made_of == (NET, PARAMS, "cpu", "fp32", {"micro_batch": "2", "layout": "tall"})
    assert toy.framework().seeds == []
    toy.build(NET, PARAMS, **HERE, seed=0)
    assert toy.framework().seeds == [0]


def test_nothing_starts_before_all_is_checked(toy: Toy) -> None:
    with refused(BackendUnavailable, "toy: no precision 'bf16' here"):
        toy.build(NET, PARAMS, device="cpu", precision="bf16", seed=0)
    with refused(BackendUnavailable, "toy: no precision 'bf16' here"):
        toy.matrix_product(2, device="cpu", precision="bf16")
    with refused(CheckpointError, "missing: linear1.weight, linear1.bias"):
        toy.build(NET, {}, **HERE, seed=0)
    with refused(UsageError, "layout: expected one of wide, tall"):
        toy.build(NET, PARAMS, **HERE, seed=0, tuning={"layout": "round"})
    assert imported() == set()


def test_requests_go_to_the_module_whose_matter_they_are(toy: Toy, tmp_path: Path) -> None:
    network: Any = toy.build(NET, PARAMS, **HERE)
    asked: Any = toy.bare_loop(NET, PARAMS, X, Y, **HERE)
    assert asked == (network, X, Y)
    asked = toy.matrix_product(64, **HERE)
    assert asked == (64, "cpu", "fp32")
    asked = toy.book_loop(NET, tmp_path, device="cpu", batch_size=8)
    assert asked == (NET, tmp_path, "cpu", 8)
    toy.write_weights(tmp_path / "net.toy", PARAMS)
    assert toy.read_weights(tmp_path / "net.toy") == PARAMS


def test_layers_are_timed_with_the_tuning_asked_for(toy: Toy) -> None:
    found = list(toy.layer_times(NET, PARAMS, X, **HERE, repeats=1))
    assert found == [("flatten", 4.0, 2.0), ("linear1", 8.0, 0.0)]
    found = list(toy.layer_times(NET, PARAMS, X, **HERE, repeats=1, tuning={"micro_batch": "all"}))
    assert found == [("flatten", 4.0, 1.0), ("linear1", 8.0, 0.0)]


def test_weights_files_that_need_the_framework_and_that_do_not(toy: Toy, tmp_path: Path) -> None:
    toy.weights_need_framework = False
    toy.write_weights(tmp_path / "net.toy", PARAMS)
    assert imported() == {"nin_toy", "nin_toy.weights_file"}
    toy.weights_need_framework = True
    toy.write_weights(tmp_path / "net.toy", PARAMS)
    assert "toy" in imported()
    toy.weights_suffixes = ()
    with refused(UsageError, "toy has no weights files of its own"):
        toy.read_weights(tmp_path / "net.toy")


def test_the_adapters_framework_is_missing(packages: Path) -> None:
    with refused(BackendUnavailable, "toy: the package 'toy' is not installed", "nin-multi[toy]"):
        Toy().version()


def test_an_adapter_that_leaves_something_out_is_none() -> None:
    class Half(Adapter):
        name = "half"

    unfinished: Any = Half
    with pytest.raises(TypeError, match="abstract"):
        unfinished()
