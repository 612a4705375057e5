"""What is refused before anything is allocated: by counting, in whole numbers, and with the memory it would need."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from strategies import refused

from nin_multi import load, machine, zoo
from nin_multi.architecture_file import parse_architecture
from nin_multi.errors import SpecError
from nin_multi.limits import check_size, one_image_needs, parameters_need, parse_json, read_text
from nin_multi.spec import MOST_LAYERS, Architecture, NinBlock


def net(*layers: dict[str, Any], size: tuple[int, int, int] = (1, 8, 8)) -> Architecture:
    return Architecture.model_validate({"name": "large", "input": size, "layers": layers})


FLATTEN = {"type": "flatten"}


@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo_fits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "granted_memory_bytes", lambda: 4 * 10**9)
    check_size(load(name))


def test_ten_to_the_twelfth_parameters() -> None:
    large = net(FLATTEN, {"type": "linear", "out_features": 10**6, "bias": False}, size=(1, 1000, 1000))
    assert large.parameters == 10**12
    tracemalloc.start()
    with refused(SpecError, "'large'", "1,000,000,000,000 parameters", "12,000.0 GB", "the most is", "--allow-large"):
        check_size(large)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    check_size(large, allow_large=True)


@pytest.mark.parametrize(
    "layer",
    [
        {"type": "conv2d", "out_channels": 1000, "kernel_size": 1},
        # A few outputs of an image that padding alone makes large.
        {"type": "conv2d", "out_channels": 1, "kernel_size": 1, "stride": 10**6, "padding": 10**6},
        {"type": "max_pool2d", "kernel_size": 10**5, "stride": 10**5, "padding": 5 * 10**4, "ceil_mode": True},
    ],
    ids=["outputs", "padding", "windows"],
)
def test_one_image_too_large(layer: dict[str, Any]) -> None:
    large = net(layer, FLATTEN, size=(1, 2_000, 2_000))
    with refused(SpecError, "one image makes", "values", "GB", "--allow-large"):
        check_size(large)
    check_size(large, allow_large=True)


def test_what_this_machine_has_no_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nin = load("nin")
    needed = max(parameters_need(nin), one_image_needs(nin))
    monkeypatch.setattr(machine, "granted_memory_bytes", lambda: needed)
    check_size(nin)
    monkeypatch.setattr(machine, "granted_memory_bytes", lambda: needed - 1)
    with refused(SpecError, "'nin'", "this machine has", "--allow-large"):
        check_size(nin)
    monkeypatch.setattr(machine, "granted_memory_bytes", lambda: 0)  # the system does not say
    check_size(nin)


def test_what_is_counted() -> None:
    small = net({"type": "nin_block", "out_channels": 2, "kernel_size": 3, "padding": 1}, FLATTEN)
    assert parameters_need(small) == 3 * 4 * small.parameters == 12 * (18 + 2 + 2 * (4 + 2))
    # The image, six layers of 2 x 8 x 8 in the block, flatten's, and the image of 10 x 10 that padding makes.
    assert one_image_needs(small) == 2 * 4 * (64 + 6 * 128 + 128 + 100)
    assert machine.granted_memory_bytes() > 10**8


# --- arithmetic ------------------------------------------------------------


@pytest.mark.parametrize("field", ["out_channels", "kernel_size", "stride", "padding"])
@pytest.mark.parametrize("number", [2**31, 10**18, 10**400])
def test_numbers_have_an_end(field: str, number: int) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 2147483647"):
        net({"type": "conv2d", "out_channels": 1, "kernel_size": 1, field: number}, FLATTEN)


def test_the_largest_numbers_are_only_numbers() -> None:
    top = 2**31 - 1
    block = {"type": "nin_block", "out_channels": top, "kernel_size": top, "stride": 1, "padding": top}
    large = net(*[block] * 100, FLATTEN, {"type": "linear", "out_features": top}, size=(top, top, top))
    began = time.process_time()
    with refused(SpecError, "parameters", "--allow-large"):
        check_size(large)
    assert large.multiply_adds > 10**30
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "layers",
    [
        [{"type": "relu"}] * 10**5,
        [{"type": "nin_block", "out_channels": 1, "kernel_size": 1, "mlp_channels": [1] * 10**6}],
        [{"type": "nin_block", "out_channels": 1, "kernel_size": 1, "mlp_channels": [1] * 1_000}] * 1_000,
        [NinBlock(out_channels=1, kernel_size=(1, 1), mlp_channels=(1,) * MOST_LAYERS)] * 1_000,
    ],
    ids=["layers", "one block", "blocks", "objects"],
)
def test_layers_have_an_end(layers: list[Any]) -> None:
    began = time.process_time()
    with refused(SpecError, "at most 10,000 layers"):
        net(*layers, FLATTEN)
    assert time.process_time() - began < 5


def test_ten_thousand_layers_are_quick() -> None:
    began = time.process_time()
    block = {"type": "nin_block", "out_channels": 1, "kernel_size": 1, "mlp_channels": [1] * (MOST_LAYERS // 2 - 1)}
    large = net(block, FLATTEN)
    check_size(large)
    assert large.parameters == MOST_LAYERS
    assert time.process_time() - began < 5


GOOD = """\
name: small
input: [1, 8, 8]
layers:
  - {type: conv2d, out_channels: %s, kernel_size: 3}
  - {type: flatten}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD % ("1" + ":1" * 400 + ".5"), ("not YAML", "too large to convert to float")),
        (GOOD % ("1" + ":1" * 200_000), ("4:34", "at most 1,000 characters", "got 400,001")),
        (GOOD % ("0x" + "f" * 900_000), ("4:34", "at most 1,000 characters", "got 900,002")),
        (GOOD % ("'" + "a" * 900_000 + "'"), ("4:34", "at most 1,000 characters")),
        (GOOD % 2 + "  - {type: relu}\n" * 50_000, ("at most 20,000 words",)),
        (
            GOOD % 2 + f"  - {{type: nin_block, out_channels: 1, kernel_size: 1, mlp_channels: {[1] * 10_000}}}\n",
            ("at most 10,000 layers", "got 20,003"),
        ),
    ],
    ids=["1:1:1.5", "1:1:1", "hexadecimal", "a long word", "many words", "many layers"],
)
def test_text_made_to_hang(text: str, words: tuple[str, ...]) -> None:
    began = time.process_time()
    with refused(SpecError, "net.yaml", *words):
        parse_architecture(text, "net.yaml")
    assert time.process_time() - began < 20


# --- text ------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 51 + "]" * 51, "[" * 100_000 + "]" * 100_000, '{"a":' * 2_000 + "1" + "}" * 2_000, "[" * 10**6),
        *("NaN", "[Infinity]", "-Infinity", "1e999", '{"a": [1e400]}', "9" * 5_000, "", "{", '"\n"'),
    ],
    ids=lambda text: repr(text[:8]),
)
def test_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_json() -> None:
    value = {"a": [1, -2.5, None, True, "é\ud800", {}], "b": []}
    assert parse_json(json.dumps(value)) == value
    assert parse_json("[" * 50 + "]" * 50)
    assert parse_json("[1e999, -Infinity]", finite=False) == [float("inf"), -float("inf")]


def test_only_files_of_a_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ä" * 5)
    assert read_text(tmp_path / "text", 10) == "ä" * 5
    with pytest.raises(ValueError, match="at most 9 bytes, got 10"):
        read_text(tmp_path / "text", 9)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match=r"at most 10,000,000 bytes, got 1,000,000,000,000"):
        read_text(tmp_path / "sparse")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="a folder or a device"):
            read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")
