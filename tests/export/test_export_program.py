"""Programs for all architectures, written for every framework, without it, and for NumPy: what they consist of."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from strategies import architectures, refused

from nin_multi import load, registry, zoo
from nin_multi.errors import UnsupportedLayer
from nin_multi.export import program_parts
from nin_multi.export.program import origin
from nin_multi.spec import Architecture, LayerBase

WRITERS = ("torch", "mindspore", "mxnet", "numpy")
SHARED = ["sequential", "make_net", "print_shapes", "train", "load_weights", "main"]


def write(name: str, architecture: Architecture) -> str:
    return registry.load(name).source(architecture)


def functions_of(source: str) -> dict[str, ast.FunctionDef]:
    """The program's functions by name, in its order."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def named_layers(function: ast.FunctionDef) -> dict[str, str]:
    """Name -> the call that makes it, of what a function puts together with `sequential`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sequential" and node.keywords[0].arg is not None:
            return {str(word.arg): ast.unparse(word.value) for word in node.keywords}
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            return {key.value: ast.unparse(value) for key, value in pairs if isinstance(key, ast.Constant)}
    raise AssertionError(f"{function.name} puts nothing together")


def assert_has_the_layers(source: str, architecture: Architecture) -> None:
    """Every layer stands under its name, those of a block in the function that its call names."""
    compile(source, "written.py", "exec")
    functions = functions_of(source)
    made = named_layers(functions["make_net"])
    assert list(made) == [traced.name for traced in architecture.trace()]
    for traced in architecture.trace():
        if traced.inner:
            function = functions[made[traced.name].partition("(")[0]]
            assert list(named_layers(function)) == [part.child_name for part in traced.inner]


def net_of(*layers: dict[str, Any], name: str = "drawn", size: tuple[int, int, int] = (1, 12, 12)) -> Architecture:
    entries = [*layers, {"type": "global_avg_pool2d"}, {"type": "flatten"}]
    return Architecture.model_validate({"name": name, "input": size, "layers": entries})


def block(out_channels: int, **more: Any) -> dict[str, Any]:
    return {"type": "nin_block", "out_channels": out_channels, "kernel_size": 3, "padding": 1, **more}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("arch", zoo.names())
def test_the_zoo(name: str, arch: str) -> None:
    architecture = load(arch)
    source = write(name, architecture)
    assert_has_the_layers(source, architecture)
    assert source == write(name, load(arch))
    assert f"{architecture.parameters:,} parameters" in str(ast.get_docstring(ast.parse(source)))
    assert max(map(len, source.splitlines())) <= 88
    assert [function for function in functions_of(source) if function in SHARED] == SHARED


@pytest.mark.parametrize("name", WRITERS)
def test_the_chapters_net_is_short(name: str) -> None:
    for arch in ("nin", "nin-mnist"):
        longest = 320 if name == "numpy" else 125  # with its backward pass
        assert 60 < len(write(name, load(arch)).splitlines()) <= longest


def test_they_read_alike() -> None:
    """The same functions with the same arguments in the same places; the last one word for word."""
    programs = [functions_of(write(name, load("nin"))) for name in WRITERS]
    told = [{name: ast.unparse(found[name].args) for name in (*SHARED, "nin_block")} for found in programs]
    assert told == 4 * [told[0]]
    assert len({ast.unparse(found["main"]) for found in programs}) == 1
    blocks = [list(named_layers(found["nin_block"])) for found in programs]
    assert blocks == 4 * [["conv", "relu", "mlp1", "relu1", "mlp2", "relu2"]]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None)
@given(architecture=architectures())
def test_random_architectures(name: str, architecture: Architecture) -> None:
    assert_has_the_layers(write(name, architecture), architecture)


@pytest.mark.parametrize("name", WRITERS)
def test_one_function_for_blocks_that_are_alike(name: str) -> None:
    def blocks(*entries: dict[str, Any]) -> dict[str, str]:
        functions = functions_of(write(name, net_of(*entries)))
        return {key: ast.unparse(found.args) for key, found in functions.items() if key.startswith("nin_block")}

    window = "kernel_size, stride=1, padding=0"
    assert blocks({"type": "relu"}) == {}
    assert blocks(block(4), block(6)) == {"nin_block": f"in_channels, out_channels, {window}"}
    # The same in other words: widths that are all the block's own.
    assert blocks(block(4), block(6, mlp_channels=[6, 6])) == blocks(block(4), block(6))
    assert blocks(block(4), block(6, mlp_channels=[5, 6])) == {"nin_block": f"in_channels, c1, c2, c3, {window}"}
    assert blocks(block(4, mlp_channels=[]), block(6, final_relu=False), block(5, mlp_channels=[7])) == {
        "nin_block": f"in_channels, out_channels, {window}",
        "nin_block_of_3_without_last_relu": f"in_channels, out_channels, {window}",
        "nin_block_of_2": f"in_channels, c1, c2, {window}",
    }
    assert list(blocks(block(4, final_relu=False), block(4))) == ["nin_block", "nin_block_with_last_relu"]


def test_what_is_said_of_a_block() -> None:
    def said(**more: Any) -> str:
        return str(ast.get_docstring(functions_of(write("torch", net_of(block(4, **more))))["nin_block"]))

    assert said() == "A convolution and two 1x1 convolutions, each followed by a ReLU."
    assert said(mlp_channels=[4]) == "A convolution and a 1x1 convolution, each followed by a ReLU."
    assert said(mlp_channels=4 * [2]) == "A convolution and 4 1x1 convolutions, each followed by a ReLU."
    assert said(mlp_channels=[]) == "A convolution, followed by a ReLU."
    assert said(mlp_channels=[], final_relu=False) == "A convolution alone."
    assert said(final_relu=False) == "A convolution and two 1x1 convolutions, a ReLU after all but the last."


def test_settings_that_are_the_frameworks_own_are_not_said() -> None:
    conv = {"type": "conv2d", "out_channels": 3, "kernel_size": 3}
    wide = {**conv, "kernel_size": [3, 1], "stride": [1, 2], "padding": [0, 2], "bias": False}
    pool = {"type": "max_pool2d", "kernel_size": 2, "stride": 1}
    found = {
        name: [*named_layers(functions_of(write(name, net_of(conv, wide, pool)))["make_net"]).values()][:3]
        for name in WRITERS
    }
    assert found == {
        "torch": [
            "nn.Conv2d(1, 3, kernel_size=3)",
            "nn.Conv2d(3, 3, kernel_size=(3, 1), stride=(1, 2), padding=(0, 2), bias=False)",
            "nn.MaxPool2d(kernel_size=2, stride=1)",
        ],
        "mindspore": [
            "conv2d(1, 3, kernel_size=3)",
            "conv2d(3, 3, kernel_size=(3, 1), stride=(1, 2), padding=(0, 0, 2, 2), bias=False)",
            "nn.MaxPool2d(kernel_size=2, stride=1)",
        ],
        "mxnet": [
            "nn.Conv2D(3, kernel_size=3, in_channels=1)",
            "nn.Conv2D(3, kernel_size=(3, 1), strides=(1, 2), padding=(0, 2), use_bias=False, in_channels=3)",
            "nn.MaxPool2D(pool_size=2, strides=1)",
        ],
        "numpy": [
            "Conv2d(1, 3, kernel_size=3)",
            "Conv2d(3, 3, kernel_size=(3, 1), stride=(1, 2), padding=(0, 2), bias=False)",
            "MaxPool2d(kernel_size=2, stride=1)",
        ],
    }


def test_definitions_stand_there_where_they_are_needed() -> None:
    def classes(name: str, *layers: dict[str, Any], **more: Any) -> list[str]:
        tree = ast.parse(write(name, net_of(*layers, **more)))
        return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]

    flat = Architecture.model_validate({"name": "flat", "input": [1, 2, 2], "layers": [{"type": "flatten"}]})
    assert "conv2d" not in functions_of(write("mindspore", flat))
    assert "class" not in write("mindspore", flat).replace("classes", "")
    assert classes("mindspore") == ["GlobalAvgPool"]
    pool = {"kernel_size": 2, "stride": 2, "ceil_mode": True}
    # 12 is even: nothing is rounded. 11 is not.
    assert classes("mxnet", {"type": "avg_pool2d", **pool}) == []
    assert classes("mxnet", {"type": "avg_pool2d", **pool}, size=(1, 11, 12)) == ["CeilAvgPool2D"]
    assert classes("mxnet", {"type": "max_pool2d", **pool}, size=(1, 11, 12)) == []
    # Rounding up, the columns' last window would begin in the padding on the right.
    both = {**pool, "kernel_size": [3, 2], "stride": [2, 3], "padding": [0, 1]}
    assert classes("mxnet", {"type": "max_pool2d", **both}, size=(1, 12, 8)) == ["CeilMaxPool2D"]


def test_what_a_definition_needs_stands_there_too() -> None:
    def definitions(*layers: dict[str, Any]) -> set[str]:
        return {*program_parts(write("numpy", net_of(*layers)))}

    every = definitions()
    assert every >= {"Layer", "Sequential", "GlobalAvgPool2d", "Flatten"}
    assert not every & {"pair", "windows_of", "Pool2d", "MaxPool2d", "AvgPool2d", "Conv2d", "Linear", "Dropout"}
    # A layer's name is no call.
    assert definitions({"type": "relu", "name": "Linear"}) == {*every, "ReLU"}
    pool = {"type": "max_pool2d", "kernel_size": 2, "stride": 2}
    assert definitions(pool) == {*every, "pair", "windows_of", "Pool2d", "MaxPool2d"}
    assert definitions(block(2)) == {*every, "pair", "windows_of", "Conv2d", "ReLU", "nin_block"}


def test_the_command_that_made_it() -> None:
    nin, other = load("nin"), net_of(name="my.net")
    assert origin(nin, "torch") == ["nin_multi export", "--arch nin", "--backend torch"]
    assert origin(nin.with_input((1, 161, 193)), "mxnet")[1:] == ["--arch nin", "--backend mxnet", "--input 1x161x193"]
    assert origin(other, "torch")[1:] == ["--arch my.net.yaml", "--backend torch", "--input 1x12x12"]
    assert origin(nin.without_last_relu(), "torch")[1] == "--arch nin.yaml"
    assert "    nin_multi export --arch nin --backend torch\n" in write("torch", nin)


WORDS = ["class", "None", "__debug__", "self", "layers", "net", "name", "_", "match", "x" * 64]


@pytest.mark.parametrize("name", WRITERS)
def test_names_that_are_words_of_pythons(name: str) -> None:
    architecture = net_of(*({"type": "relu", "name": word} for word in WORDS), name="N" * 64)
    assert_has_the_layers(write(name, architecture), architecture)
    # Without such words there is no need of a dict.
    assert "net = sequential(**layers)" in write(name, architecture)
    others = net_of(*({"type": "relu", "name": word} for word in WORDS[3:]))
    assert "net = sequential(**layers)" not in write(name, others)


@pytest.mark.parametrize("name", WRITERS)
def test_long_chains_and_wide_numbers_keep_ruffs_layout(name: str, tmp_path: Path) -> None:
    chain = net_of(*(300 * [{"type": "conv2d", "out_channels": 2, "kernel_size": 1}, {"type": "relu"}]), name="chain")
    deep = net_of(block(5, mlp_channels=[*range(1, 61)]), block(3, mlp_channels=[7], final_relu=False), name="deep")
    names = net_of(*({"type": "relu", "name": word} for word in WORDS), name="N" * 64)
    long = [{"type": "nin_block", "name": letter * 64, "out_channels": 2**30, "kernel_size": 1} for letter in "ab"]
    pool = {"type": "avg_pool2d", "kernel_size": [3, 2], "stride": [2, 3], "padding": [1, 1], "name": "p" * 64}
    wide = net_of(*long, {**pool, "ceil_mode": True}, {"type": "dropout", "rate": 1e-7}, name="wide")
    for architecture in (chain, deep, names, wide):
        source = write(name, architecture)
        assert_has_the_layers(source, architecture)
        (tmp_path / f"{architecture.name}.py").write_text(source)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "--no-cache", "."]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stderr


@pytest.mark.parametrize("name", WRITERS)
def test_unknown_layers_are_refused(name: str) -> None:
    class Whiten(LayerBase):
        type: str = "whiten"

    odd = net_of({"type": "relu"})
    odd = odd.model_copy(update={"layers": (Whiten(name="white"), *odd.layers)})
    with refused(UnsupportedLayer, f"{name}: no form of layer 'white' (whiten)"):
        write(name, odd)
