"""`export --format onnx`: whose weights stand in the file, the check, and what is refused; then nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from nin_multi.architecture_file import load_architecture, read_architecture
from nin_multi.export import onnx_graph
from nin_multi.randomness import initial_parameters
from nin_multi.weights import load_weights, save_weights

ONNX = ("export", "--format", "onnx")


def weights_in(path: Path) -> dict[str, np.ndarray]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_initial_weights(nin, tiny: str, tmp_path: Path) -> None:
    architecture = read_architecture(tmp_path / tiny)
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx")
    assert (found.status, found.err) == (0, "")
    checked, said = found.out.splitlines()
    assert checked.startswith(f"onnxruntime {onnxruntime.__version__}: logits off by ")
    assert "at most 1e-05 (2 random images)" in checked
    size = (tmp_path / "net.onnx").stat().st_size
    assert said == f"net.onnx: tiny with the initial weights of seed 0; {size:,} bytes, opset 17, IR 8"
    assert_same(weights_in(tmp_path / "net.onnx"), initial_parameters(architecture, 0))
    assert nin(*ONNX, "--arch", tiny, "--seed", "7", "--out", "other.onnx").status == 0
    assert_same(weights_in(tmp_path / "other.onnx"), initial_parameters(architecture, 7))


def test_json(nin, tiny: str, tmp_path: Path) -> None:
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx", "--json")
    assert (found.status, found.err) == (0, "")
    error = found.json["logits_rel_err"]
    assert 0 <= error <= 1e-6
    assert found.json == {
        "arch": "tiny",
        "format": "onnx",
        "opset": 17,
        "ir_version": 8,
        "bytes": (tmp_path / "net.onnx").stat().st_size,
        "weights": None,
        "seed": 0,
        "runtime_version": onnxruntime.__version__,
        "logits_rel_err": error,
        "agree": True,
        "out": "net.onnx",
    }


def test_the_same_file_again(nin, tiny: str, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert nin(*ONNX, "--arch", tiny, "--out", name).status == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_run(nin, flags: list[str], tmp_path: Path) -> None:
    trained = nin("train", "--backend", "numpy", *flags, "--json")
    run = Path(trained.json["run_dir"])
    found = nin(*ONNX, "--weights", run, "--out", "net.onnx")
    assert (found.status, found.err) == (0, "")
    assert "tiny with stored weights, trained with numpy on synthetic; " in found.out
    assert_same(weights_in(tmp_path / "net.onnx"), dict(load_weights(run / "weights.safetensors").params))
    said = onnx.load(tmp_path / "net.onnx").SerializeToString()
    assert str(tmp_path).encode() not in said
    assert run.name.encode() not in said
    found = nin(*ONNX, "--weights", run / "weights.safetensors", "--out", "other.onnx", "--json")
    assert (found.json["weights"], found.json["seed"]) == (str(run / "weights.safetensors"), None)
    assert (tmp_path / "other.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_another_input_for_the_same_weights(nin, tiny: str, tmp_path: Path) -> None:
    """Global average pooling takes images of many sizes."""
    architecture = read_architecture(tmp_path / tiny)
    save_weights(tmp_path / "w.safetensors", initial_parameters(architecture, 3), architecture)
    found = nin(*ONNX, "--weights", "w.safetensors", "--input", "1x11x9", "--out", "net.onnx")
    assert (found.status, found.err) == (0, "")
    assert "tiny with stored weights; " in found.out
    entry = onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in entry] == ["N", 1, 11, 9]
    said = {one.key: one.value for one in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(said["architecture"])["input"] == [1, 11, 9]
    assert nin(*ONNX, "--weights", "w.safetensors", "--arch", tiny, "--out", "same.onnx").status == 0
    assert_same(weights_in(tmp_path / "same.onnx"), weights_in(tmp_path / "net.onnx"))


def test_a_file_that_disagrees_is_not_written(nin, tiny: str, content, monkeypatch: pytest.MonkeyPatch) -> None:
    add = onnx_graph.Nodes.add

    def bent(built: onnx_graph.Nodes, operator: str, *inputs: str, to: str, **attributes: Any) -> str:
        return add(built, "Abs" if operator == "Relu" else operator, *inputs, to=to, **attributes)

    before = content()
    monkeypatch.setattr(onnx_graph.Nodes, "add", bent)
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx")
    assert (found.status, found.err) == (1, "")
    assert found.out.splitlines()[1] == "net.onnx: not written"
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx", "--json")
    assert (found.status, found.json["agree"], found.json["out"]) == (1, False, None)
    assert found.json["logits_rel_err"] > 1e-3
    assert content() == before
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx", "--no-check", "--json")
    assert (found.status, found.json["agree"], found.json["logits_rel_err"]) == (0, None, None)
    assert (found.json["runtime_version"], found.json["out"]) == (None, "net.onnx")


def test_without_onnxruntime(nin, tiny: str, content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # an import of it fails
    before = content()
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx", "--check")
    assert found.status == 3
    assert "the package 'onnxruntime' is not installed" in found.error
    assert "'nin-multi[onnx]'" in found.error
    assert content() == before
    found = nin(*ONNX, "--arch", tiny, "--out", "net.onnx")
    assert found.status == 0
    assert found.err == "not checked: onnxruntime is not installed; it comes with 'nin-multi[onnx]'\n"
    assert found.out.startswith("net.onnx: tiny with the initial weights of seed 0; ")


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        ([], ["--out: an ONNX file is not for a terminal"]),
        (
            ["--out", "net.onnx", "--backend", "torch"],
            ["--backend: not with --format onnx: it belongs to no"],
        ),
        (["--out", "net.onnx", "--style", "book"], ["--style: not with --format onnx"]),
        (["--out", "tiny.yaml"], ["tiny.yaml: already exists; choose another name"]),
        (["--out", "net.onnx", "--seed", "-1"], ["--seed: expected 0 to 2^63 - 1, got -1"]),
        (["--out", "net.onnx", "--seed", "1", "--weights", "w.safetensors"], ["--seed: it draws initial weights"]),
        (["--out", "net.onnx", "--weights", "gone"], ["gone: no such run directory, and no such weights file"]),
        (["--out", "net.onnx", "--weights", "folder"], ["folder"]),
        (["--out", "net.onnx", "--weights", "w.safetensors", "--arch", "nin"], ["architecture 'nin'"]),
        (["--out", "net.onnx", "--weights", "w.safetensors", "--input", "3x8x8"], ["misshapen: block1.conv.weight"]),
        (["--out", "net.onnx", "--weights", "w.safetensors", "--input", "8x8"], ["--input: expected three sizes"]),
        (["--out", "net.onnx", "--arch", "huge.yaml"], ["--allow-large"]),
        (["--out", "net.onnx", "--arch", "huge.yaml", "--allow-large"], ["'huge'", "at most 536,608,768 parameters"]),
        (["--out", "nowhere/net.onnx"], ["nowhere/net.onnx: cannot be written"]),
    ],
    ids=lambda value: " ".join(value)[:70],
)
def test_bad_input(nin, tiny: str, content, tmp_path: Path, command: list[str], fragments: list[str]) -> None:
    architecture = read_architecture(tmp_path / tiny)
    save_weights(tmp_path / "w.safetensors", initial_parameters(architecture, 3), architecture)
    (tmp_path / "folder").mkdir()
    (tmp_path / "huge.yaml").write_text(
        "name: huge\ninput: [1, 8, 8]\nlayers:\n  - {type: flatten}\n  - {type: linear, out_features: 20000000}\n"
    )
    if "--arch" not in command and "--weights" not in command:
        command = [*command, "--arch", tiny]
    before = content()
    plain, as_json = (nin(*ONNX, *command, *more) for more in ([], ["--json"]))
    assert plain.status == as_json.status == 2, plain.err
    assert plain.out == ""
    assert plain.error == as_json.error == as_json.json["error"]["message"]
    for fragment in fragments:
        assert fragment in plain.error
    assert content() == before


def test_the_chapters_net_by_default(nin, tmp_path: Path) -> None:
    assert nin(*ONNX, "--out", "nin.onnx", "--no-check").status == 0
    assert_same(weights_in(tmp_path / "nin.onnx"), initial_parameters(load_architecture("nin"), 0))
