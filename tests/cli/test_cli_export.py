"""`export`: the program on stdout or in a file, the same in both; what it refuses, and that nothing is made then."""

from __future__ import annotations

from pathlib import Path

import pytest

from nin_multi import registry
from nin_multi.architecture_file import load_architecture, read_architecture


@pytest.mark.parametrize("writer", ["torch", "mindspore", "mxnet", "numpy"])
def test_on_stdout(nin, content, writer: str) -> None:
    before = content()
    found = nin("export", "--backend", writer, "--arch", "nin-mnist", inside=writer)
    assert (found.status, found.err) == (0, "")
    assert found.out == registry.load(writer).source(load_architecture("nin-mnist"))
    assert content() == before


def test_the_chapters_net_by_default_and_another_input(nin) -> None:
    assert nin("export", "--backend", "torch").out == registry.load("torch").source(load_architecture("nin"))
    expected = registry.load("torch").source(load_architecture("nin").with_input((1, 161, 193)))
    found = nin("export", "--backend", "torch", "--input", "1x161x193")
    assert found.out == expected
    assert "--backend torch --input 1x161x193\n" in found.out


def test_into_a_file(nin, tiny: str, tmp_path: Path) -> None:
    source = registry.load("mxnet").source(read_architecture(tmp_path / tiny))
    found = nin("export", "--backend", "mxnet", "--arch", tiny, "--out", "net.py")
    assert (found.status, found.err) == (0, "")
    assert found.out == f"net.py: tiny for mxnet, {len(source.splitlines())} lines\n"
    assert (tmp_path / "net.py").read_text() == source


def test_the_one_style_there_is(nin) -> None:
    found = nin("export", "--backend", "torch", "--style", "book")
    assert (found.status, found.out) == (0, nin("export", "--backend", "torch").out)


def test_json(nin, tiny: str, tmp_path: Path) -> None:
    source = registry.load("torch").source(read_architecture(tmp_path / tiny))
    command = ["export", "--backend", "torch", "--arch", tiny, "--json"]
    expected = {"arch": "tiny", "backend": "torch", "format": "python", "style": "book", "source": source, "out": None}
    found = nin(*command)
    assert (found.status, found.err, found.json) == (0, "", expected)
    found = nin(*command, "--out", "net.py")
    assert (found.status, found.err, found.json) == (0, "", {**expected, "out": "net.py"})
    assert (tmp_path / "net.py").read_text() == source


def test_a_net_that_fits_no_memory_is_only_text(nin, tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").write_text(
        "name: huge\ninput: [1, 8, 8]\nlayers:\n"
        "  - {type: flatten}\n  - {type: linear, out_features: 2000000000}\n  - {type: linear, out_features: 10}\n"
    )
    found = nin("export", "--backend", "torch", "--arch", "huge.yaml")
    assert (found.status, found.err) == (0, "")
    assert "nn.Linear(64, 2000000000)" in found.out


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        ([], ["--backend: expected one name, such as torch;"]),
        (["--backend", "torch,mxnet"], ["--backend: expected one name, such as torch, got 'torch,mxnet'"]),
        (["--backend", "troch"], ["no backend is called 'troch'", "Did you mean 'torch'?"]),
        (
            ["--backend", "torch", "--style", "paper"],
            ["--style: expected book, the one style", "got 'paper'"],
        ),
        (["--backend", "torch", "--format", "tflite"], ["--format: expected python or onnx, got 'tflite'"]),
        (["--backend", "torch", "--weights", "run"], ["--weights: not with --format python"]),
        (["--backend", "torch", "--seed", "0"], ["--seed: not with --format python"]),
        (["--backend", "torch", "--no-check"], ["--check: not with --format python"]),
        (["--backend", "torch", "--arch", "nin-minst"], ["'nin-minst'", "Did you mean 'nin-mnist'?"]),
        (["--backend", "torch", "--arch", "gone.yaml"], ["gone.yaml: no such architecture file"]),
        (["--backend", "torch", "--input", "28x28"], ["--input: expected three sizes"]),
        (["--backend", "torch", "--input", "1x64x64"], ["layer 'pool3' (max_pool2d): kernel does not fit"]),
        (["--backend", "torch", "--out", "tiny.yaml"], ["tiny.yaml: already exists; choose another name"]),
        (["--backend", "torch", "--out", "folder"], ["folder: already exists"]),
        (["--backend", "torch", "--out", "link.py"], ["link.py: already exists"]),
        (["--backend", "torch", "--out", "nowhere/net.py"], ["nowhere/net.py: cannot be written"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_bad_input(nin, content, tmp_path: Path, command: list[str], fragments: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.py").symlink_to("nowhere.py")
    before = content()
    plain, as_json = (nin("export", *command, *more) for more in ([], ["--json"]))
    assert plain.status == as_json.status == 2, plain.err
    assert plain.out == ""
    assert plain.error == as_json.error == as_json.json["error"]["message"]
    for fragment in fragments:
        assert fragment in plain.error
    assert content() == before


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(nin, flag: str) -> None:
    found = nin("export", flag)
    assert (found.status, found.err) == (0, "")
    for word in ("--arch", "--backend", "--style", "--format", "--weights", "--check", "--input", "--out", "--json"):
        assert word in found.out
