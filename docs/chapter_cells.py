"""What the chapter's cells call: exported programs shown and run piece by piece, and commands; not what is in them.

Each program runs in a process of its own, in the environment its backend asks for, two of them side by side. A page
computes in a temporary folder, where the architecture files of docs/ are too.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nin_multi import registry
from nin_multi.architecture_file import load_architecture
from nin_multi.data.batches import prepare
from nin_multi.data.dataset import Dataset
from nin_multi.data.sources import load_dataset
from nin_multi.export import program_parts
from nin_multi.launcher import environment_for
from nin_multi.notebook.runs import Svg
from nin_multi.randomness import initial_parameters
from nin_multi.weights import save_weights

TITLES = {"torch": "PyTorch", "mindspore": "MindSpore", "mxnet": "MXNet", "numpy": "NumPy"}
AT_A_TIME = 2  # programs that compute side by side
WORKER = Path(__file__).with_name("program_worker.py")
FENCE = "`" * 8  # longer than any in a program
COLUMNS = 92  # of what commands print
WIDTH = 76  # of a command's line

FOLDER = Path(tempfile.mkdtemp(prefix="nin-multi-page-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
for _path in Path(__file__).parent.glob("*.yaml"):
    shutil.copy(_path, FOLDER)
os.chdir(FOLDER)


class Myst(str):
    """Text of a page, directives included."""

    def _repr_markdown_(self) -> str:
        return str(self)


class Programs:
    """One architecture's programs, one for each framework, which go on from cell to cell."""

    def __init__(self, arch: str) -> None:
        self.architecture = load_architecture(arch)
        self._programs = {name: _Program(name, arch) for name in TITLES}

    def show(self, *names: str) -> Myst:
        """The pieces of these names in a tab for each framework; those before them run unseen."""
        return self._tabs({name: program.take(names) for name, program in self._programs.items()})

    def show_to(self, name: str) -> Myst:
        """All pieces after the last shown one, to this one."""
        return self._tabs({each: program.take_to(name) for each, program in self._programs.items()})

    def run(self, code: str) -> Myst:
        """Lines that every framework's program goes on with, and what they print there."""
        return self._tabs({name: [(code.strip(), True)] for name in self._programs})

    def _tabs(self, pieces: Mapping[str, list[tuple[str, bool]]]) -> Myst:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            printed = dict(zip(pieces, pool.map(self._compute, pieces, pieces.values()), strict=True))
        shown = {name: "\n\n\n".join(text for text, is_shown in pieces[name] if is_shown) for name in pieces}
        return Myst(tab_set({name: _code(shown[name]) + _printed(printed[name]) for name in pieces}))

    def _compute(self, name: str, pieces: list[tuple[str, bool]]) -> str:
        return "".join(self._programs[name].run(text) for text, _ in pieces)


class _Program:
    """One framework's program: its pieces in their order, and the process in which they run."""

    def __init__(self, backend: str, arch: str) -> None:
        self.backend = backend
        parts = program_parts(registry.load(backend).source(load_architecture(arch)))
        self._waiting = {name: text.strip() for name, text in parts.items() if name != "docstring"}
        self._folder = FOLDER / f"{arch}-{backend}"
        self._folder.mkdir()
        self._process: subprocess.Popen[str] | None = None

    def take(self, names: Iterable[str]) -> list[tuple[str, bool]]:
        """The pieces to the last of these, and which are to be shown. Raises KeyError where one is not waiting."""
        wanted = set(names)
        if not wanted <= set(self._waiting):
            raise KeyError(f"{self.backend}: {sorted(wanted - set(self._waiting))} not among {list(self._waiting)}")
        taken: list[tuple[str, str, bool]] = []
        while wanted - {name for name, _, _ in taken}:
            name = next(iter(self._waiting))
            taken.append((name, self._waiting.pop(name), name in wanted))
        return [(text, is_shown) for _, text, is_shown in taken]

    def take_to(self, name: str) -> list[tuple[str, bool]]:
        """The pieces to this one, all to be shown."""
        return [(text, True) for text, _ in self.take([name])]

    def run(self, code: str) -> str:
        """What it prints. Raises RuntimeError where it fails, and the page is not built."""
        path = self._folder / f"piece{len(list(self._folder.glob('*.py')))}.py"
        path.write_text(code + "\n", encoding="utf-8")
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.backend}: its process ended in\n{code}\n{self._log.read_text()[-4000:]}")
        answer = json.loads(line)
        if answer["failure"]:
            raise RuntimeError(f"{self.backend}: {answer['failure']}")
        return str(answer["printed"])

    @property
    def _log(self) -> Path:
        return self._folder / "stderr.txt"

    def _start(self) -> subprocess.Popen[str]:
        """In the environment that the framework's plain loop needs, which is what a program is."""
        plain = registry.load(self.backend).bare_tuning
        with self._log.open("w") as log:
            return subprocess.Popen(
                [sys.executable, str(WORKER)],
                cwd=FOLDER,
                env=environment_for(self.backend, tuning=plain),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )


def whole_programs(arch: str) -> Myst:
    """What `export` writes, in a tab for each framework."""
    architecture = load_architecture(arch)
    return Myst(tab_set({name: _code(registry.load(name).source(architecture).rstrip()) for name in TITLES}))


def tab_set(contents: Mapping[str, str]) -> str:
    """MyST of one tab for each framework; the one that is chosen stays chosen on all pages."""
    tabs = [f":::{{tab-item}} {TITLES[name]}\n:sync: {name}\n\n{text}\n:::" for name, text in contents.items()]
    return "::::{tab-set}\n:sync-group: framework\n\n" + "\n".join(tabs) + "\n::::"


def prepare_training(arch: str, examples: int, seed: int) -> None:
    """Write what the programs train on: `images.npz`, as the harness resizes them, and `start.safetensors`.

    The weights are He's, drawn by nin_multi with that seed.
    """
    architecture, dataset = load_architecture(arch), images()
    x = prepare(dataset.train.images[:examples], architecture)
    np.savez(FOLDER / "images.npz", x=x, y=dataset.train.labels[:examples])
    save_weights(FOLDER / "start.safetensors", initial_parameters(architecture, seed, "he"), architecture)
    print(f"{dataset.title}: {len(x):,} of {len(dataset.train):,} training images")


def images() -> Dataset:
    """Fashion-MNIST; where it cannot be had the images that nin_multi draws, whose title says so."""
    return load_dataset(report=lambda sentence: print(sentence, file=sys.stderr))


def command(words: str) -> Myst:
    """A command, and what it prints."""
    lines = textwrap.wrap(f"$ nin_multi {words}", WIDTH, break_on_hyphens=False, subsequent_indent="    ")
    return Myst(_block("console", " \\\n".join(lines), "command") + _printed(_run_command(words)))


def pictures_of(run: str) -> dict[str, Svg]:
    """What `nin_multi pictures` draws of a run: "curve", "class-maps", "filters" and more."""
    _run_command(f"pictures {run}")
    return {path.stem: Svg(path.read_text(encoding="utf-8")) for path in sorted(Path(run).glob("*.svg"))}


def _run_command(words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "nin_multi", *shlex.split(words)],
        env={**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise RuntimeError(f"nin_multi {words}: exit status {ran.returncode}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.stdout


def _code(text: str) -> str:
    return _block("python", text, "program") if text else ""


def _printed(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    return _block("text", lines, "printed") if lines else ""


def _block(language: str, text: str, kind: str) -> str:
    return f"{FENCE}{{code-block}} {language}\n:class: {kind}\n\n{text}\n{FENCE}\n"
