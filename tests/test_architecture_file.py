"""Architecture files: every mistake has its place, its word and the nearest right one; what is right comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import architectures, refused

from nin_multi import zoo
from nin_multi.architecture_file import (
    format_architecture,
    load_architecture,
    parse_architecture,
    read_architecture,
)
from nin_multi.errors import SpecError
from nin_multi.plain_yaml import LARGEST_FILE
from nin_multi.spec import LAYER_TYPES, Architecture

GOOD = """\
name: small
input: [1, 8, 8]
layers:
  - {type: conv2d, out_channels: 2, kernel_size: 3}
  - {type: flatten}
"""
CONV = "  - {type: conv2d, out_channels: 2, kernel_size: 3}\n"
TYPES = ", ".join(LAYER_TYPES)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def layer(text: str) -> str:
    return changed(CONV, f"  - {text}\n")


def test_the_good_file_is_good() -> None:
    net = parse_architecture(GOOD)
    assert (net.name, net.input, len(net.layers), net.classes) == ("small", (1, 8, 8), 2, 72)


# Text, the place where it goes wrong, and what the message has to say.
BAD: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown key of a layer": (
        layer("{type: conv2d, out_channels: 2, kernel_sizes: 3}"),
        "4:37",
        ("unknown key 'kernel_sizes'", "'conv2d'", "Did you mean 'kernel_size'?", "stride, padding, bias"),
    ),
    "unknown key, nothing near": (
        layer("{type: relu, qqq: 2}"),
        "4:18",
        ("unknown key 'qqq'", "'relu'", "Expected: name, type."),
    ),
    "a key of the top in a layer": (layer("{type: relu, layers: 2}"), "4:18", ("unknown key 'layers'", "'relu'")),
    "unknown key at the top": (
        changed("input:", "inputs:"),
        "2:1",
        ("unknown key 'inputs'", "the architecture", "Did you mean 'input'?", "name, input, layers"),
    ),
    "unknown type": (
        layer("{type: conv2, out_channels: 2}"),
        "4:5",
        ("unknown layer type 'conv2'", "Did you mean 'conv2d'?", TYPES),
    ),
    "unknown type in words": (layer("{type: max_pool, kernel_size: 2}"), "4:5", ("Did you mean 'max_pool2d'?",)),
    "type is a list": (layer("{type: [relu]}"), "4:5", ("unknown layer type", "['relu']", TYPES)),
    "no type": (layer("{out_channels: 2}"), "4:5", ("needs 'type'", TYPES)),
    "a layer that is a word": (layer("relu"), "4:5", ("expected a layer {type: ...}", "got 'relu'")),
    "a layer that is nothing": (layer("~"), "4:5", ("expected a layer {type: ...}", "got None")),
    "missing key of a layer": (
        layer("{type: conv2d, out_channels: 2}"),
        "4:5",
        ("layer 'conv2d' needs 'kernel_size'",),
    ),
    "missing key of a pool": (layer("{type: max_pool2d, kernel_size: 2}"), "4:5", ("needs 'stride'",)),
    "missing key at the top": (changed("input: [1, 8, 8]\n", ""), "1:1", ("the architecture needs 'input'",)),
    "kernel does not fit": (
        layer("{type: conv2d, out_channels: 2, kernel_size: [3, 9]}"),
        "4:5",
        ("layer 'conv1' (conv2d)", "kernel does not fit", "width of at least 9", "got 8"),
    ),
    "kernel does not fit later": (
        changed("  - {type: flatten}\n", "  - {type: relu}\n  - {type: max_pool2d, kernel_size: 7, stride: 2}\n"),
        "6:5",
        ("layer 'pool1' (max_pool2d)", "height of at least 7", "got 6"),
    ),
    "flatten forgotten": (
        changed("  - {type: flatten}\n", "  - {type: linear, out_features: 10}\n"),
        "5:5",
        ("layer 'linear1' (linear)", "(N, F)", "got (N, 2, 6, 6)", "put a flatten before it"),
    ),
    "does not end in classes": (
        changed("  - {type: flatten}\n", "  - {type: global_avg_pool2d}\n"),
        "5:5",
        ("ends with (N, 2, 1, 1)", "'global_avg_pool1'", "expected (N, classes)"),
    ),
    "zero channels": (
        layer("{type: conv2d, out_channels: 0, kernel_size: 3}"),
        "4:20",
        ("layer 'conv2d'", "out_channels", "greater than or equal to 1", "got 0"),
    ),
    "negative kernel": (
        layer("{type: conv2d, out_channels: 1, kernel_size: -3}"),
        "4:50",
        ("kernel_size", "greater than or equal to 1", "got -3"),
    ),
    "zero stride": (
        layer("{type: max_pool2d, kernel_size: 2, stride: [1, 0]}"),
        "4:",
        ("stride", "greater than or equal to 1", "got 0"),
    ),
    "negative padding": (
        layer("{type: conv2d, out_channels: 1, kernel_size: 3, padding: -1}"),
        "4:62",
        ("padding", "greater than or equal to 0", "got -1"),
    ),
    "padding over half of a pool": (
        layer("{type: avg_pool2d, kernel_size: 3, stride: 1, padding: 2}"),
        "4:5",
        ("'avg_pool2d'", "padding must be at most half the kernel (3)", "got 2"),
    ),
    "zero height": (changed("[1, 8, 8]", "[1, 0, 8]"), "2:", ("input", "greater than or equal to 1", "got 0")),
    "two sizes of input": (changed("[1, 8, 8]", "[8, 8]"), "2:", ("input", "8, 8")),
    "one size of kernel": (
        layer("{type: conv2d, out_channels: 1, kernel_size: [3]}"),
        "4:",
        ("kernel_size", "[3]"),
    ),
    "four sizes of input": (
        changed("[1, 8, 8]", "[1, 1, 8, 8]"),
        "2:1",
        ("input", "[channels, height, width]", "[1, 1, 8, 8]"),
    ),
    "input has no order": (changed("[1, 8, 8]", "!!set {1, 8, 9}"), "2:8", ("the tag", "set", "not allowed")),
    "input is a word": (changed("[1, 8, 8]", "big"), "2:1", ("input: expected [channels, height, width]", "got 'big'")),
    "three sizes of kernel": (
        layer("{type: conv2d, out_channels: 1, kernel_size: [3, 3, 3]}"),
        "4:37",
        ("kernel_size", "an int or [height, width]", "[3, 3, 3]"),
    ),
    "kernel is a word": (
        layer("{type: conv2d, out_channels: 1, kernel_size: 3x3}"),
        "4:37",
        ("kernel_size: expected an int or [height, width]", "got '3x3'"),
    ),
    "padding in words": (
        layer("{type: conv2d, out_channels: 1, kernel_size: 3, padding: same}"),
        "4:53",
        ("padding: expected an int or [height, width]", "got 'same'"),
    ),
    "channels as text": (
        layer("{type: conv2d, out_channels: '2', kernel_size: 3}"),
        "4:20",
        ("out_channels", "valid integer", "got '2'"),
    ),
    "channels as float": (
        layer("{type: conv2d, out_channels: 2.0, kernel_size: 3}"),
        "4:20",
        ("out_channels", "valid integer", "got 2.0"),
    ),
    "bool for a count": (
        layer("{type: conv2d, out_channels: true, kernel_size: 3}"),
        "4:20",
        ("out_channels", "valid integer", "got True"),
    ),
    "bool for a size": (layer("{type: conv2d, out_channels: 1, kernel_size: true}"), "4:37", ("int", "got True")),
    "bool in a size": (
        layer("{type: conv2d, out_channels: 1, kernel_size: [true, 1]}"),
        "4:",
        ("kernel_size", "valid integer", "got True"),
    ),
    "number for a bool": (
        layer("{type: conv2d, out_channels: 1, kernel_size: 3, bias: 1}"),
        "4:53",
        ("bias", "valid boolean", "got 1"),
    ),
    "bool for a rate": (layer("{type: dropout, rate: false}"), "4:21", ("'dropout'", "rate", "number", "got False")),
    "text for a rate": (layer("{type: dropout, rate: '0.5'}"), "4:21", ("'dropout'", "rate", "number", "got '0.5'")),
    "rate of all": (layer("{type: dropout, rate: 1.0}"), "4:21", ("rate", "less than 1", "got 1.0")),
    "rate below none": (layer("{type: dropout, rate: -0.1}"), "4:21", ("rate", "greater than or equal to 0", "-0.1")),
    "rate is not a number": (layer("{type: dropout, rate: .nan}"), "4:21", ("rate", "got nan")),
    "widths inside a block": (
        layer("{type: nin_block, out_channels: 1, kernel_size: 1, mlp_channels: [4, 0]}"),
        "4:",
        ("mlp_channels", "greater than or equal to 1", "got 0"),
    ),
    "dotted name": (layer("{type: relu, name: a.b}"), "4:18", ("name", "pattern", "got 'a.b'")),
    "name begins with a digit": (layer("{type: relu, name: 1a}"), "4:18", ("name", "pattern", "got '1a'")),
    "name of the net is a number": (changed("name: small", "name: 5"), "1:1", ("name", "string", "got 5")),
    "a name twice": (
        changed("  - {type: flatten}\n", "  - {type: relu, name: conv1}\n  - {type: flatten}\n"),
        "5:5",
        ("two layers are called 'conv1'",),
    ),
    "a key twice": (layer("{type: relu, name: a, name: b}"), "4:27", ("the key 'name' stands there twice",)),
    "a key twice at the top": (changed("layers:", "input: [2, 8, 8]\nlayers:"), "3:1", ("'input'", "twice")),
    "no layers": (GOOD[: GOOD.index("layers")] + "layers: []\n", "3:1", ("layers", "at least 1", "[]")),
    "layers is a mapping": (GOOD[: GOOD.index("layers")] + "layers: {a: 1}\n", "3:1", ("layers", "a list")),
    "a list at the top": ("- a\n- b\n", "1:1", ("expected name, input and layers", "got ['a', 'b']")),
    "a word at the top": ("nin\n", "1:1", ("expected name, input and layers", "got 'nin'")),
    "bracket left open": (changed("kernel_size: 3}", "kernel_size: 3"), "5:5", ("not YAML", "expected ',' or '}'")),
    "a tab": (changed("  - {type: flatten}", "\t- {type: flatten}"), "5:1", ("not YAML",)),
    "two documents": (GOOD + "---\n" + GOOD, "6:1", ("not YAML", "document")),
    "no such alias": (changed("[1, 8, 8]", "*size"), "2:8", ("alias",)),
    "a python object": (
        changed("[1, 8, 8]", "!!python/object/apply:os.system ['true']"),
        "2:8",
        ("the tag", "python/object/apply:os.system", "not allowed"),
    ),
    "a tag of python": (changed("[1, 8, 8]", "!!python/tuple [1, 8, 8]"), "2:8", ("the tag", "python/tuple")),
    "a list as key": (GOOD + "? [a, b]\n: 1\n", "", ("expected a word as the key",)),
}


@pytest.mark.parametrize(("text", "place", "words"), BAD.values(), ids=BAD)
def test_mistakes(text: str, place: str, words: tuple[str, ...]) -> None:
    with refused(SpecError, f"net.yaml:{place}", *words):
        parse_architecture(text, "net.yaml")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but words\n", "---\n"], ids=repr)
def test_empty(text: str) -> None:
    with refused(SpecError, "net.yaml", "empty" if text != "---\n" else "name, input and layers"):
        parse_architecture(text, "net.yaml")


def test_a_place_is_never_of_another_layer() -> None:
    text = GOOD.replace("  - {type: flatten}\n", "  - type: relu\n  - type: flatten\n    rate: 3\n")
    with refused(SpecError, "net.yaml:7:5", "unknown key 'rate' in layer 'flatten'"):
        parse_architecture(text, "net.yaml")


def test_the_layers_index_is_kept() -> None:
    with pytest.raises(SpecError) as caught:
        parse_architecture(changed("{type: flatten}", "{type: flat}"))
    assert caught.value.layer_index == 1


@pytest.mark.parametrize(
    "text",
    [
        "layers: &a [*a]\n",
        "name: &a {b: *a}\n",
        # Each line ten times the one before: small as a file, ten thousand million nodes as a tree.
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11))
        + "layers: *a10\n",
        "name: " + "[" * 20_000,
    ],
    ids=["list in itself", "mapping in itself", "ten to the tenth", "deep"],
)
def test_a_file_made_to_hang(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.yaml").write_text(text)
    program = (
        "import sys; from nin_multi.architecture_file import *\n"
        "try: load_architecture(sys.argv[1])\n"
        "except SpecError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "net.yaml")]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=4)
    except subprocess.TimeoutExpired:
        pytest.fail("reading the file does not end")
    assert ended.returncode == 0, ended.stderr[-500:]
    assert "net.yaml" in ended.stdout
    assert 1 <= len(ended.stdout.splitlines()) <= 2


PIECES = ["{", "}", "[", "]", ":", ",", "-", "?", "&a", "*a", "!!int", "!!bool", "!!set", "!!timestamp", "!!binary"]
PIECES += ["<<", "\n", "  ", '"', "|", "~", "2", "-1", ".inf", "2020-13-45", "0o9", "é", "\x00", "\ufffe", "name", "x"]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
    st.lists(st.sampled_from(PIECES), max_size=4).map(" ".join),
)
@example(GOOD.index("small"), 0, "!!bool ")
@example(GOOD.index("small"), 5, "!!int ''")
@example(GOOD.index("small"), 0, "!!timestamp ")
@example(GOOD.index("[1, 8"), 0, "!!set ")
def test_a_damaged_file_is_a_spec_error_or_still_good(start: int, removed: int, put_in: str) -> None:
    text = GOOD[:start] + put_in + GOOD[start + removed :]
    try:
        net = parse_architecture(text, "net.yaml")
    except SpecError as error:
        message = str(error)
        assert message.startswith("net.yaml")
        assert 1 <= len(message.splitlines()) <= 2, message
    else:
        assert isinstance(net, Architecture)


# --- files --------------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    with refused(SpecError, str(tmp_path / "net.yaml"), "no such architecture file"):
        load_architecture(str(tmp_path / "net.yaml"))


def test_directory(tmp_path: Path) -> None:
    with refused(SpecError, str(tmp_path), "cannot be read", "directory"):
        load_architecture(str(tmp_path))


def test_too_large(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(GOOD + "#" * (LARGEST_FILE - len(GOOD)))
    assert read_architecture(file) == parse_architecture(GOOD)
    file.write_text(GOOD + "#" * (LARGEST_FILE - len(GOOD) + 1))
    with refused(SpecError, str(file), "at most 1,000,000 bytes", "got 1,000,001"):
        read_architecture(file)


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_bytes(GOOD.encode() + "# Köln\n".encode("latin-1"))
    with refused(SpecError, str(file), "not UTF-8"):
        read_architecture(file)


def test_the_message_begins_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "net.yml"
    file.write_text(changed("flatten", "flaten"))
    with refused(SpecError, f"{file}:5:5: unknown layer type 'flaten'", "Did you mean 'flatten'?"):
        load_architecture(str(file))


def test_a_file_without_suffix_is_read_and_a_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "nin"):
        Path(name).write_text(GOOD)
    assert load_architecture("mine").name == "small"
    assert load_architecture("nin").name == "nin"
    assert load_architecture(os.path.join(".", "nin")).name == "small"


def test_unknown_name() -> None:
    with refused(SpecError, "'nin-cifar1'", "Did you mean 'nin-cifar10'?", *zoo.names(), ".yaml file"):
        load_architecture("nin-cifar1")
    with pytest.raises(SpecError) as caught:
        load_architecture("zzz")
    assert "Did you mean" not in str(caught.value)


# --- there and back -----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(architectures())
def test_round_trip(net: Architecture) -> None:
    text = format_architecture(net)
    assert parse_architecture(text) == net
    assert format_architecture(parse_architecture(text)) == text


@pytest.mark.parametrize("name", zoo.names())
def test_round_trip_of_the_zoo(name: str) -> None:
    net = load_architecture(name)
    assert parse_architecture(format_architecture(net)) == net


@pytest.mark.parametrize("name", ["5", "1.5", "1e3", "0x1F", "null", "true", "no", "2020-01-31", "12_3"])
def test_round_trip_of_a_name_that_yaml_takes_for_something_else(name: str) -> None:
    net = Architecture.model_validate({**parse_architecture(GOOD).model_dump(), "name": name})
    assert parse_architecture(format_architecture(net)) == net
    layers = [{"type": "relu", "name": "null"}, {"type": "relu", "name": "yes"}, {"type": "flatten", "name": "_1"}]
    net = Architecture.model_validate({"name": "n", "input": (1, 1, 1), "layers": layers})
    assert parse_architecture(format_architecture(net)) == net


def test_a_written_file_is_short_and_says_no_defaults() -> None:
    assert format_architecture(parse_architecture(GOOD)) == (
        "name: small\n"
        "input: [1, 8, 8]\n"
        "layers:\n"
        "  - {type: conv2d, name: conv1, out_channels: 2, kernel_size: [3, 3]}\n"
        "  - {type: flatten, name: flatten1}\n"
    )
