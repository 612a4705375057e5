"""Bad command lines and bad inputs: one or two lines, the right exit status, and nothing made or changed."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nin_multi import cli
from nin_multi.errors import BackendNotFound

TRAIN = ["train", "--backend", "numpy"]
TINY = [*TRAIN, "--arch", "tiny.yaml", "--dataset", "synthetic", "--train-examples", "64", "--test-examples", "20"]
LONG = "a" * 300


def _refused(nin, content, command: list[str], status: int, *fragments: str) -> None:
    """The same error for people and as JSON, with these fragments, and no file touched."""
    before = content()
    plain, as_json = nin(*command), nin(*command, "--json")
    assert plain.status == as_json.status == status, plain.err
    assert plain.out == ""
    assert plain.error == as_json.error
    for fragment in fragments:
        assert fragment in plain.error
    error = as_json.json["error"]
    assert error["exit_status"] == status
    assert error["type"]
    assert error["message"] == plain.error
    assert content() == before


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        (["trian"], ["'trian'", "--help"]),
        (["train"], ["--backend: expected a name", "nin_multi backends"]),
        ([*TRAIN, "--lrr", "1"], ["--lrr"]),
        ([*TRAIN, "extra"], ["extra"]),
        ([*TRAIN, "--epochs", "many"], ["--epochs"]),
        ([*TRAIN, "--epochs", "1.5"], ["--epochs"]),
        ([*TRAIN, "--epochs", "0"], ["--epochs: expected at least 1, got 0"]),
        ([*TRAIN, "--batch-size", "-4"], ["--batch-size: expected at least 1, got -4"]),
        ([*TRAIN, "--lr", "nan"], ["--lr: expected a positive number, got nan"]),
        ([*TRAIN, "--lr", "-1"], ["--lr: expected a positive number, got -1"]),
        ([*TRAIN, "--lr", "0"], ["--lr: expected a positive number, got 0"]),
        ([*TRAIN, "--lr", "inf"], ["--lr: expected a positive number, got inf"]),
        ([*TRAIN, "--momentum", "1"], ["--momentum: expected at least 0 and less than 1, got 1.0"]),
        ([*TRAIN, "--init", "hee"], ["--init: expected xavier or he, got 'hee'"]),
        ([*TRAIN, "--dropout", "none"], ["--dropout: expected shared or native, got 'none'"]),
        ([*TRAIN, "--seed", "-1"], ["--seed: expected 0 to", "got -1"]),
        ([*TRAIN, "--seed", str(2**64)], ["--seed: expected 0 to", f"got {2**64}"]),
        ([*TRAIN, "--train-examples", "0"], ["--train-examples: expected at least 1, got 0"]),
        ([*TRAIN, "--test-examples", "0"], ["--test-examples: expected at least 1, got 0"]),
        (["summary", "--batch-size", "0"], ["--batch-size"]),
        (["train", "--backend", "nunpy"], ["'nunpy'", "Did you mean 'numpy'?", "torch"]),
        (["shapes", "--backend", "nunpy"], ["'nunpy'", "Did you mean 'numpy'?"]),
        (["shapes", "--backend", "numpy,toch"], ["'toch'", "Did you mean 'torch'?"]),
        (["backends", "--backend", "zzz"], ["'zzz'", "Installed:"]),
        (["compare", "--backend", "numpy,mxnot"], ["'mxnot'", "Did you mean 'mxnet'?"]),
        (["compare", "--backend", ","], ["--backend: expected one or more names"]),
        (["shapes", "--backend", ""], ["--backend: expected one or more names"]),
        (["compare", "--backend", "numpy", "--epochs", "0"], ["--epochs: expected at least 1, got 0"]),
        (["summary", "--arch", "nin-minst"], ["'nin-minst'", "Did you mean 'nin-mnist'?", ".yaml"]),
        (["summary", "--arch", "nowhere.yaml"], ["nowhere.yaml: no such architecture file"]),
        (["summary", "--arch", "."], [".", "Is a directory"]),
        (["summary", "--arch", LONG], [LONG]),
        (["compare", "--backend", "numpy", "--arch", "nowhere.yaml"], ["nowhere.yaml: no such architecture file"]),
        (["shapes", "--input", "1x161"], ["--input", "1x161x193", "got '1x161'"]),
        (["summary", "--input", "1x0x8"], ["--input", "got '1x0x8'"]),
        (["summary", "--input", "1x-3x8"], ["--input", "got '1x-3x8'"]),
        (["summary", "--input", "axbxc"], ["--input", "got 'axbxc'"]),
        (["summary", "--input", "1x8x8"], ["block1", "kernel does not fit", "at least 11", "got 8"]),
        ([*TRAIN, "--dataset", "sinthetic"], ["'sinthetic'", "'synthetic'", "auto, fashion-mnist, synthetic"]),
        ([*TRAIN, "--dataset", "fashion-mnist", "--data-dir", "nowhere"], ["nowhere", "--dataset synthetic"]),
        ([*TRAIN, "--dataset", "auto", "--data-dir", "nowhere"], ["nowhere", "--data-dir"]),
        ([*TRAIN, "--dataset", "fashion-mnist", "--data-dir", "tiny.yaml"], ["tiny.yaml", "not a folder"]),
        ([*TRAIN, "--dataset", "fashion-mnist", "--data-dir", LONG], [LONG]),
        ([*TINY, "--train-examples", "60001"], ["60,000 training examples", "got 60,001"]),
        ([*TINY, "--test-examples", "10001"], ["10,000 test examples", "got 10,001"]),
        ([*TINY, "--run-dir", "tiny.yaml"], ["tiny.yaml", "expected a directory", "got a file"]),
        ([*TINY, "--run-dir", "tiny.yaml/run"], ["tiny.yaml/run", "Not a directory", "--run-dir"]),
        ([*TINY, "--run-dir", "/dev/null/x"], ["/dev/null/x", "cannot be created", "--run-dir"]),
        ([*TINY, "--run-dir", LONG], [LONG, "too long"]),
        ([*TINY, "--runs-dir", "tiny.yaml"], ["tiny.yaml", "expected a directory", "got a file"]),
        ([*TINY, "--runs-dir", "/dev/null/x"], ["/dev/null/x", "cannot be created"]),
        (["evaluate"], ["RUN", "Missing"]),
        (["evaluate", "nowhere"], ["nowhere", "no such run directory, and no such weights file"]),
        (["evaluate", "."], ["not a run directory", "run.json"]),
        (["evaluate", "tiny.yaml"], ["tiny.yaml", "not a complete safetensors file", "nin_multi convert"]),
        (["evaluate", LONG], [LONG]),
    ],
    ids=lambda value: " ".join(value)[:48] if isinstance(value, list) else str(value),
)
def test_bad_input(nin, content, command: list[str], fragments: list[str]) -> None:
    _refused(nin, content, command, 2, *fragments)


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        ([*TINY, "--precision", "bf16"], ["numpy", "'bf16'", "it offers fp64"]),
        ([*TINY, "--device", "cuda:0"], ["numpy", "'cuda:0'", "usable now: cpu"]),
    ],
    ids=["precision", "device"],
)
def test_what_cannot_start(nin, content, command: list[str], fragments: list[str]) -> None:
    _refused(nin, content, command, 3, *fragments)


@pytest.mark.parametrize(
    ("text", "place", "fragments"),
    [
        ("name: a\ninput: [1, 8, 8]\nlayers:\n  - {type: flaten}\n", ":4:5", ["'flaten'", "Did you mean 'flatten'?"]),
        ("name: a\ninput: [1, 8, 8]\nlayers:\n  - {type: relu, slope: 1}\n", ":4:18", ["'slope'"]),
        ("name: a\ninput: [1, 8, 8]\nlayers: [\n", ":4:1", ["not YAML"]),
        ("name: a\nname: b\n", ":2:1", ["'name'", "twice"]),
        ("name: a\ninput: [1, 8, 8]\nlayers:\n  - {type: relu}\n", ":4:5", ["flatten or linear"]),
        ("", "", ["empty"]),
    ],
)
@pytest.mark.parametrize("command", [["summary"], ["shapes", "--backend", "numpy"], TRAIN])
def test_architecture_errors_name_the_place(nin, content, tmp_path, command, text, place, fragments) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    _refused(nin, content, [*command, "--arch", "mine.yaml"], 2, f"mine.yaml{place}: ", *fragments)


def test_an_option_without_its_value(nin, content) -> None:
    before = content()
    found = nin(*TRAIN, "--epochs")
    assert (found.status, found.out) == (2, "")
    assert "--epochs" in found.error
    assert content() == before


def test_fewer_classes_than_labels(nin, content, tmp_path: Path) -> None:
    text = "name: nine\ninput: [1, 8, 8]\nlayers:\n  - {type: flatten}\n  - {type: linear, out_features: 9}\n"
    (tmp_path / "nine.yaml").write_text(text)
    _refused(nin, content, [*TINY, "--arch", "nine.yaml"], 2, "10 classes", "'nine'", "at least 10")


def test_altered_data(nin, content, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    labels = (np.arange(60000) % 10).astype(np.uint8)
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 60000) + labels.tobytes())
    for name in ("fashion-mnist", "auto"):
        command = [*TRAIN, "--dataset", name, "--data-dir", "data"]
        _refused(nin, content, command, 2, "data/train-labels-idx1-ubyte", "SHA-256", "expected", "got")


class TestARunThatIsThere:
    @pytest.fixture(autouse=True)
    def run(self, nin, tmp_path: Path) -> Path:
        assert nin(*TINY, "--epochs", "1", "--run-dir", "run", "--json").status == 0
        return tmp_path / "run"

    def test_is_not_trained_into(self, nin, content) -> None:
        _refused(nin, content, [*TINY, "--run-dir", "run"], 2, "run: already holds a run", "--run-dir")

    @pytest.mark.parametrize("text", ["", "{", "null", "[1]", "not json", "{}", '{"backend": "numpy"}'])
    def test_damaged_facts(self, nin, content, run: Path, text: str) -> None:
        (run / "run.json").write_text(text)
        _refused(nin, content, ["evaluate", "run"], 2, "run/run.json")

    def test_facts_of_the_wrong_kind(self, nin, content, run: Path) -> None:
        facts = json.loads((run / "run.json").read_text())
        facts["recipe"]["batch_size"] = "many"
        (run / "run.json").write_text(json.dumps(facts))
        _refused(nin, content, ["evaluate", "run"], 2, "run/run.json")

    @pytest.mark.parametrize("length", [0, 4, 100, 1000, -1])
    def test_truncated_weights(self, nin, content, run: Path, length: int) -> None:
        whole = (run / "weights.safetensors").read_bytes()
        (run / "weights.safetensors").write_bytes(whole[:length])
        _refused(nin, content, ["evaluate", "run"], 2, "run/weights.safetensors", "not a complete safetensors file")

    @pytest.mark.parametrize("kind", ["none", "folder"])
    def test_no_weights(self, nin, content, run: Path, kind: str) -> None:
        (run / "weights.safetensors").unlink()
        if kind == "folder":
            (run / "weights.safetensors").mkdir()
        _refused(nin, content, ["evaluate", "run"], 2, "run/weights.safetensors")

    @pytest.mark.parametrize("header", [None, "", "{", "[]", "{}", '{"architecture": {"name": "a"}}'])
    def test_weights_without_their_architecture(self, nin, content, run: Path, header: str | None) -> None:
        tensors = {"block1.conv.weight": np.zeros((10, 1, 3, 3), np.float32)}
        save_file(tensors, run / "weights.safetensors", None if header is None else {"nin_multi": header})
        _refused(nin, content, ["evaluate", "run"], 2, "run/weights.safetensors")

    def test_altered_weights(self, nin, content, run: Path) -> None:
        whole = (run / "weights.safetensors").read_bytes()
        (run / "weights.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        _refused(nin, content, ["evaluate", "run"], 2, "run/weights.safetensors", "altered")

    def test_too_many_images(self, nin, content) -> None:
        _refused(nin, content, ["evaluate", "run", "--test-examples", "10001"], 2, "10,000 test examples", "10,001")
        _refused(nin, content, ["evaluate", "run", "--test-examples", "0"], 2, "got 0")


class TestOtherBackends:
    def test_a_framework_that_is_not_installed(self, nin, content, others) -> None:
        command = [*TINY, "--backend", "missing"]
        for more in ([], ["--json"]):
            found = nin(*command, *more, inside="missing")
            assert found.status == 3
            assert "'a_framework_that_is_nowhere' is not installed" in found.error
            assert "pip install -c constraints.txt 'nin-multi[missing]'" in found.error
        assert found.json["error"]["type"] == "BackendUnavailable"
        assert set(content()) == {"tiny.yaml"}

    def test_a_framework_that_breaks_on_import(self, nin, content, others) -> None:
        found = nin(*TINY, "--backend", "broken", inside="broken")
        assert found.status == 3
        assert "is installed but breaks on import" in found.error
        assert "libbroken.so.1" in found.error
        assert set(content()) == {"tiny.yaml"}

    def test_an_adapter_that_does_not_load(self, nin, content, others) -> None:
        _refused(nin, content, [*TINY, "--backend", "unloadable"], 3, "unloadable", "RuntimeError: bad adapter")


def test_a_gpu_that_is_not_there(tmp_path: Path, tiny: str) -> None:
    """The one test with a framework, in a process of its own and through its own environment."""
    command = [*TINY, "--backend", "torch", "--device", "cuda:7", "--run-dir", "run", "--json"]
    ended = subprocess.run(
        [sys.executable, "-m", "nin_multi", *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 3
    error = json.loads(ended.stdout)["error"]
    assert (error["type"], error["exit_status"]) == ("BackendUnavailable", 3)
    assert len(error["message"].splitlines()) <= 2
    assert "torch" in error["message"]
    assert ended.stderr.splitlines()[-len(error["message"].splitlines()) :] == f"error: {error['message']}".splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_debug_gives_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["nin_multi", "train", "--backend", "nunpy", "--debug"])
    with pytest.raises(BackendNotFound):
        cli.main()
    command = [sys.executable, "-m", "nin_multi", "--debug", "train", "--backend", "nunpy"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert ended.stderr.startswith("Traceback (most recent call last):")
    assert "BackendNotFound: no backend is called 'nunpy'" in ended.stderr.splitlines()[-1]


def test_without_a_command_there_is_help_and_no_empty_error(nin) -> None:
    found = nin()
    assert "train" in found.out + found.err
    assert "error: \n" not in found.err


@pytest.mark.parametrize(
    "command",
    [
        *("backends", "shapes", "summary", "train", "compare", "report", "pictures", "evaluate", "predict", "convert"),
        "export",
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(nin, command: str, flag: str) -> None:
    found = nin(command, flag)
    assert (found.status, found.err) == (0, "")
    assert "--json" in found.out


def test_an_error_of_our_own_making_is_not_dressed_up(nin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only expected errors become two lines: a bug keeps its traceback."""
    from nin_multi.cli import summary

    monkeypatch.setattr(summary, "summarise", lambda *_: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["nin_multi", "summary"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
