"""Runs the command line in this process with the backend `numpy`, and brings backends that fail on purpose."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nin_multi import cli, tuning_store
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.launcher import environment_for

TINY = """\
name: tiny
input: [1, 8, 8]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3, stride: 2}
  - {type: dropout, rate: 0.5}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout, and nothing beside it."""
        assert self.out.endswith("\n")
        assert len(self.out.splitlines()) == 1
        value = json.loads(self.out, parse_constant=_refuse)
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> str:
        """The error for people: the last one or two lines on stderr."""
        _, mark, text = f"\n{self.err}".rpartition("\nerror: ")
        assert mark, self.err
        assert "Traceback" not in self.err
        assert text.endswith("\n")
        assert 1 <= len(text.splitlines()) <= 2, text
        assert text.strip()
        return text.removesuffix("\n")


Nin = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A command sets its process's answer to SIGTERM; here the process is pytest's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def synthetic() -> Dataset:
    """The whole built-in set, drawn once."""
    return synthetic_dataset()


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """An architecture file below the working folder."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    return "tiny.yaml"


@pytest.fixture
def nin(tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nin:
    """Run one command with tmp_path as the working folder; `inside` is the backend whose environment we have."""

    def never(*_: Any) -> None:
        raise AssertionError("this would have replaced pytest by another process")

    def run(*arguments: str | Path, inside: str = "numpy", tuning: dict[str, str] | None = None) -> Outcome:
        for name, value in environment_for(inside, tuning=tuning).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["nin_multi", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, err)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NIN_MULTI_DATA", raising=False)
    monkeypatch.setattr(os, "execve", never)
    monkeypatch.setattr(tuning_store, "cache_folder", lambda: tmp_path.parent / f"{tmp_path.name}-tuning")
    return run


@pytest.fixture
def flags(tiny: str) -> list[str]:
    """A training of 14 steps."""
    few = ["--train-examples", "64", "--test-examples", "20", "--batch-size", "10", "--epochs", "2"]
    return ["--arch", tiny, "--dataset", "synthetic", *few]


@pytest.fixture
def content(tmp_path: Path) -> Callable[[], dict[str, bytes | None]]:
    """Everything below tmp_path: bytes of files, None for folders."""

    def read() -> dict[str, bytes | None]:
        paths = [path for path in tmp_path.rglob("*") if "plugins" not in path.parts]
        return {str(path.relative_to(tmp_path)): path.read_bytes() if path.is_file() else None for path in paths}

    return read


PLUGIN = '''
import os
from nin_multi.adapter import import_framework
from nin_multi.oracle import NumpyBackend, NumpyNetwork


class Missing(NumpyBackend):
    """Its framework is not installed."""

    name = "missing"

    def version(self):
        return import_framework("a_framework_that_is_nowhere", extra="missing").__version__

    def devices(self):
        self.version()


class Broken(Missing):
    """Its framework is installed, and breaks."""

    name = "broken"

    def version(self):
        return import_framework("a_framework_that_breaks", extra="broken").__version__


class Crashing(NumpyBackend):
    """Its framework takes the process with it."""

    name = "crashing"

    def devices(self):
        os.abort()


class Wrong(NumpyBackend):
    """Its nets have one layer with swapped axes."""

    name = "wrong"

    def build(self, architecture, params, *, device, precision, seed=None, tuning=None):
        class Swapped(NumpyNetwork):
            def activations(self, x):
                for name, value in super().activations(x):
                    yield name, (value[:, :, 1:] if name == "block1.mlp1" else value)

        return Swapped(architecture, params)


class Summing(NumpyBackend):
    """Its nets add up the gradients of a batch where they should take the mean."""

    name = "summing"

    def build(self, architecture, params, *, device, precision, seed=None, tuning=None):
        class Summed(NumpyNetwork):
            def differentiate(self, x, y, masks):
                loss, gradients, logits = super().differentiate(x, y, masks)
                return loss, {name: len(y) * value for name, value in gradients.items()}, logits

        return Summed(architecture, params, seed)
'''


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody else's adapters, found by their entry points: missing, broken, crashing, wrong, summing, unloadable."""
    folder = tmp_path / "plugins"
    about = folder / "somebodys_backends-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "somebodys_backends.py").write_text(PLUGIN)
    (folder / "a_framework_that_breaks.py").write_text("raise OSError('libbroken.so.1: cannot open shared object')\n")
    (folder / "unloadable_backend.py").write_text("raise RuntimeError('bad adapter')\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-backends\nVersion: 1.0\n")
    names = ["missing", "broken", "crashing", "wrong", "summing"]
    points = [f"{name} = somebodys_backends:{name.title()}" for name in names]
    lines = ["[nin_multi.backends]", *points, "unloadable = unloadable_backend:Backend"]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delitem(sys.modules, "somebodys_backends", raising=False)
    return folder
