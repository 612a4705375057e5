"""`convert`: which file goes where, by suffix; what it says; what it refuses, and that nothing is then made."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from nin_multi import registry
from nin_multi.architecture_file import read_architecture
from nin_multi.foreign_weights import book_names
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture
from nin_multi.weights import load_weights, save_weights

# Gluon's adapter reads and writes its files without Gluon: these tests need no framework.
INSIDE = "mxnet"
GLUON = {"conv": "0.0", "mlp1": "0.1", "mlp2": "0.2"}

FILER = '''
import json
import os
from pathlib import Path

import numpy as np

from nin_multi.adapter import import_framework
from nin_multi.errors import CheckpointError
from nin_multi.oracle import NumpyBackend


class Filer(NumpyBackend):
    """Has files of its own, of text; it has to be in a process of its own to read them."""

    name = "filer"
    weights_suffixes = (".fil",)

    def environment(self, precision=None, tuning=None):
        return {"FILER_IS_HERE": "1"}

    def read_weights(self, path):
        if os.environ.get("FILER_IS_HERE") != "1":
            raise CheckpointError(f"{path}: read in the environment of another backend")
        try:
            lines = [line.split("=") for line in Path(path).read_text().splitlines()]
            return {name: np.array(json.loads(text)) for name, text in lines}
        except ValueError:
            raise CheckpointError(f"{path}: no numbers") from None

    def write_weights(self, path, named):
        Path(path).write_text("".join(f"{n}={json.dumps(v.tolist())}\\n" for n, v in named.items()))


class Absent(Filer):
    """Its framework is not installed."""

    name = "absent"
    weights_suffixes = (".abs",)

    def read_weights(self, path):
        import_framework("a_framework_that_is_nowhere", extra="absent")

    def write_weights(self, path, named):
        import_framework("a_framework_that_is_nowhere", extra="absent")

'''


@pytest.fixture
def filer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two adapters more, found by their entry points."""
    folder = tmp_path / "plugins"
    about = folder / "filer-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "filer_backend.py").write_text(FILER)
    (folder / "unloadable_backend.py").write_text("raise RuntimeError('bad adapter')\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: filer\nVersion: 1.0\n")
    points = ["filer = filer_backend:Filer", "absent = filer_backend:Absent", "a_bad_one = unloadable_backend:Backend"]
    (about / "entry_points.txt").write_text("\n".join(["[nin_multi.backends]", *points]) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delitem(sys.modules, "filer_backend", raising=False)


@pytest.fixture
def architecture(tiny: str, tmp_path: Path) -> Architecture:
    return read_architecture(tmp_path / tiny)


@pytest.fixture
def params(architecture: Architecture) -> dict[str, np.ndarray]:
    return dict(initial_parameters(architecture, 4))


@pytest.fixture
def ours(architecture: Architecture, params: dict[str, np.ndarray], tmp_path: Path) -> str:
    save_weights(tmp_path / "ours.safetensors", params, architecture)
    return "ours.safetensors"


def assert_holds(path: Path, architecture: Architecture, params: dict[str, np.ndarray], source: str) -> None:
    stored = load_weights(path)
    assert (stored.architecture, stored.facts) == (architecture, {"source": source})
    assert stored.params.keys() == params.keys()
    for name, value in params.items():
        assert stored.params[name].tobytes() == value.tobytes()


def test_out_and_in_again(nin, ours: str, architecture, params, tmp_path: Path) -> None:
    found = nin("convert", ours, "net.params", inside=INSIDE)
    assert (found.status, found.err) == (0, "")
    assert found.out == "net.params: 320 parameters of tiny, names as in the book\n"
    written = registry.load(INSIDE).read_weights(tmp_path / "net.params")
    assert list(written) == [f"{layer}.{role}" for layer in GLUON.values() for role in ("weight", "bias")]
    found = nin("convert", "net.params", "back.safetensors", "--arch", "tiny.yaml", inside=INSIDE)
    assert (found.status, found.err) == (0, "")
    assert found.out == "back.safetensors: 320 parameters of tiny, names as in the spec\n"
    assert_holds(tmp_path / "back.safetensors", architecture, params, "net.params")


def test_json(nin, ours: str) -> None:
    found = nin("convert", ours, "net.params", "--json", inside=INSIDE)
    assert (found.status, found.err) == (0, "")
    assert found.json == {
        "source": ours,
        "target": "net.params",
        "arch": "tiny",
        "parameters": 320,
        "names": "book",
        "rounded": False,
    }


def test_names_of_the_spec(nin, ours: str, params, tmp_path: Path) -> None:
    assert nin("convert", ours, "net.params", "--names", "spec", "--json", inside=INSIDE).json["names"] == "spec"
    assert list(registry.load(INSIDE).read_weights(tmp_path / "net.params")) == list(params)


def test_a_run_directory(nin, flags: list[str], tmp_path: Path) -> None:
    assert nin("train", "--backend", "numpy", *flags, "--run-dir", "run", "--json").status == 0
    assert nin("convert", "run", "net.params", inside=INSIDE).status == 0
    expected = load_weights(tmp_path / "run" / "weights.safetensors").params
    written = registry.load(INSIDE).read_weights(tmp_path / "net.params")
    for mine, theirs in zip(expected.values(), written.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert nin("convert", "run", "alone.safetensors").status == 0
    assert load_weights(tmp_path / "alone.safetensors").params.keys() == expected.keys()


def test_somebody_elses_safetensors(nin, architecture, params, tmp_path: Path) -> None:
    names = book_names(architecture, relu_takes_an_index=True)
    save_file({names[name]: value.astype(np.float64) for name, value in params.items()}, tmp_path / "their.safetensors")
    found = nin("convert", "their.safetensors", "mine.safetensors", "--arch", "tiny.yaml", "--json")
    assert found.status == 0
    assert found.json["rounded"] is True
    assert found.err == "float64 numbers were rounded to float32\n"
    assert_holds(tmp_path / "mine.safetensors", architecture, params, "their.safetensors")


def test_our_own_file_for_another_input(nin, ours: str, architecture, params, tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text((tmp_path / "tiny.yaml").read_text().replace("[1, 8, 8]", "[1, 20, 30]"))
    assert nin("convert", ours, "wide.safetensors", "--arch", "wide.yaml").status == 0
    assert_holds(tmp_path / "wide.safetensors", architecture.with_input((1, 20, 30)), params, ours)


def test_suffixes_in_capitals(nin, ours: str, tmp_path: Path) -> None:
    assert nin("convert", ours, "NET.PARAMS", inside=INSIDE).status == 0
    assert registry.load(INSIDE).read_weights(tmp_path / "NET.PARAMS")


def test_from_one_framework_to_another(nin, filer, ours: str, architecture, params, tmp_path: Path) -> None:
    """The source is read in a process of its backend's own, and nothing is left of the way between."""
    assert nin("convert", ours, "net.fil", inside="filer").status == 0
    # Python's float is a double: what comes out of text is rounded, to the very same.
    before = set(Path(os.environ.get("TMPDIR", "/tmp")).glob("nin_multi-*"))
    found = nin("convert", "net.fil", "net.params", "--arch", "tiny.yaml", "--json", inside=INSIDE)
    assert (found.status, found.json["rounded"]) == (0, True)
    assert set(Path(os.environ.get("TMPDIR", "/tmp")).glob("nin_multi-*")) <= before
    written = registry.load(INSIDE).read_weights(tmp_path / "net.params")
    for mine, theirs in zip(params.values(), written.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_errors_of_the_other_process_are_told(nin, filer, content, tmp_path: Path) -> None:
    (tmp_path / "net.fil").write_text("0.0.weight=[1.0]\n")
    (tmp_path / "bad.fil").write_text("0.0.weight=one\n")
    for source, words in (("net.fil", "missing: block1.conv.bias"), ("bad.fil", "bad.fil: no numbers")):
        before = content()
        found = nin("convert", source, "net.params", "--arch", "tiny.yaml", "--json", inside=INSIDE)
        assert found.status == 2
        assert words in found.error
        assert found.json["error"]["type"] == "CheckpointError"
        assert content() == before


@pytest.mark.parametrize("target", ["net.params", "net.safetensors"])
def test_a_backend_that_is_missing(nin, filer, ours: str, content, tmp_path: Path, target: str) -> None:
    (tmp_path / "net.abs").write_text("")
    before = content()
    inside = INSIDE if target == "net.params" else "absent"
    found = nin("convert", "net.abs", target, "--arch", "tiny.yaml", "--json", inside=inside)
    assert found.status == 3
    assert found.json["error"]["type"] == "BackendUnavailable"
    assert "pip install -c constraints.txt 'nin-multi[absent]'" in found.error
    found = nin("convert", ours, "other.abs", inside="absent")
    assert (found.status, found.out) == (3, "")
    assert content() == before


def archive(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", pickle.dumps({"a": 1}, protocol=2))
    whole = path.read_bytes()
    path.unlink()
    return whole


class TestRefused:
    @pytest.fixture(autouse=True)
    def files(self, ours: str, architecture, params, tmp_path: Path) -> None:
        book = book_names(architecture, relu_takes_an_index=False)
        named = {book[name]: value for name, value in params.items()}
        registry.load(INSIDE).write_weights(tmp_path / "net.params", named)
        save_file(named, tmp_path / "their.safetensors")
        save_file({f"{n}ne.weight": v for n, v in zip("ab", params.values(), strict=False)}, tmp_path / "n.safetensors")
        (tmp_path / "torn.params").write_bytes((tmp_path / "net.params").read_bytes()[:-9])
        (tmp_path / "torn.safetensors").write_bytes((tmp_path / ours).read_bytes()[:-9])
        (tmp_path / "pickled.params").write_bytes(archive(tmp_path / "a"))
        (tmp_path / "pickled.safetensors").write_bytes(archive(tmp_path / "a"))
        (tmp_path / "empty").mkdir()
        (tmp_path / "gone.params").symlink_to("nowhere")
        (tmp_path / "two.yaml").write_text(
            "name: two\ninput: [1, 8, 8]\nlayers:\n"
            + 2 * "  - {type: conv2d, out_channels: 1, kernel_size: 1}\n"
            + "  - {type: flatten}\n"
        )
        text = json.dumps({"__metadata__": {"nin_multi": "{}"}})
        (tmp_path / "forged.safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode())

    @pytest.mark.parametrize(
        ("command", "fragments"),
        [
            ([], ["SOURCE"]),
            (["ours.safetensors"], ["TARGET"]),
            (["ours.safetensors", "x.params", "--names", "mine"], ["--names: expected spec or book, got 'mine'"]),
            (["ours.safetensors", "x.safetensors", "--names", "book"], ["--names: x.safetensors", "names of the spec"]),
            (["ours.safetensors", "x.txt"], ["x.txt: expected a name that ends in", ".safetensors", ".params", ".pt"]),
            (["ours.safetensors", "x"], ["x: expected a name that ends in"]),
            (["x.txt", "x.params"], ["x.txt: expected a name that ends in"]),
            (["nowhere.params", "x.safetensors", "--arch", "nin"], ["nowhere.params: no such weights file"]),
            (["nowhere.safetensors", "x.params"], ["nowhere.safetensors: no such weights file"]),
            (["empty", "x.params"], ["empty: not a run directory"]),
            (["ours.safetensors", "net.params"], ["net.params: already exists; choose another name, or remove it"]),
            (["ours.safetensors", "ours.safetensors"], ["ours.safetensors: already exists"]),
            (["ours.safetensors", "empty"], ["empty: already exists"]),
            (["ours.safetensors", "gone.params"], ["gone.params: already exists"]),
            (["ours.safetensors", "nowhere/x.params"], ["nowhere/x.params: cannot be written"]),
            (["ours.safetensors", "nowhere/x.safetensors"], ["nowhere/x.safetensors: cannot be written"]),
            (["net.params", "x.safetensors"], ["--arch: net.params does not say", "--arch nin"]),
            (["their.safetensors", "x.safetensors"], ["--arch: their.safetensors does not say"]),
            (["net.params", "x.safetensors", "--arch", "nin-minst"], ["'nin-minst'", "Did you mean 'nin-mnist'?"]),
            (
                ["net.params", "x.safetensors", "--arch", "nin"],
                ["net.params: does not hold", "'nin'", "misshapen: 0.0"],
            ),
            (["ours.safetensors", "x.params", "--arch", "nin"], ["ours.safetensors: does not hold", "'nin'"]),
            (["their.safetensors", "x.params", "--arch", "nin"], ["their.safetensors: does not hold", "'nin'"]),
            (["n.safetensors", "x.params", "--arch", "two.yaml"], ["nothing says whether 'ane' or 'bne' comes first"]),
            (["torn.params", "x.safetensors", "--arch", "tiny.yaml"], ["torn.params: not a whole file"]),
            (["torn.safetensors", "x.params", "--arch", "tiny.yaml"], ["torn.safetensors: not a complete"]),
            (["forged.safetensors", "x.params"], ["forged.safetensors: ", "without a valid entry 'nin_multi'"]),
            (["pickled.params", "x.safetensors", "--arch", "tiny.yaml"], ["pickled.params: a zip", "can run any code"]),
            (["pickled.safetensors", "x.params", "--arch", "tiny.yaml"], ["pickled.safetensors: a zip", "nin_multi"]),
            (["pickled.safetensors", "x.params"], ["pickled.safetensors: a zip archive with a pickle in it"]),
        ],
        ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
    )
    def test_bad_input(self, nin, content, command: list[str], fragments: list[str]) -> None:
        before = content()
        plain, as_json = (nin("convert", *command, *more, inside=INSIDE) for more in ([], ["--json"]))
        assert plain.status == as_json.status == 2, plain.err
        assert plain.out == ""
        assert plain.error == as_json.error == as_json.json["error"]["message"]
        for fragment in fragments:
            assert fragment in plain.error
        assert content() == before


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(nin, flag: str) -> None:
    found: Any = nin("convert", flag)
    assert (found.status, found.err) == (0, "")
    for word in ("SOURCE", "TARGET", "--arch", "--names", "--json"):
        assert word in found.out
