"""An architecture in a notebook: the table says what the specification says, and can do no harm."""

from __future__ import annotations

import math
import re

import pytest

import nin_multi
from nin_multi import zoo
from nin_multi.spec import Architecture


def numbers(row: list[str]) -> tuple[str, str, int, int]:
    layer, _, _, output, parameters, counted = row
    assert re.fullmatch(r"[\dx]*", output)
    return layer, output, int(parameters.replace(",", "")), int(counted.replace(",", ""))


@pytest.mark.parametrize("name", zoo.names())
def test_the_numbers_are_the_specifications(name: str, read_html) -> None:
    """Blocks, what is in each, and the sums."""
    architecture = nin_multi.load(name)
    read = read_html(architecture._repr_html_())
    head, *rows, last = [row for row in read.rows if len(row) == 6 and any(row)]
    assert head == ["layer", "type", "settings", "output", "parameters", "multiply-adds"]
    expected = []
    for layer in architecture.trace():
        for part in (layer, *layer.inner):
            held = sum(math.prod(shape) for shape in part.parameters.values())
            word = part.name if part is layer else part.child_name
            expected.append((word, "x".join(map(str, part.output[1:])), held, part.multiply_adds))
    assert list(map(numbers, rows)) == expected
    assert numbers(last) == ("all", "", architecture.parameters, architecture.multiply_adds)


def test_settings_are_those_of_the_file(read_html) -> None:
    read = read_html(nin_multi.load("nin")._repr_html_())
    found = {row[0]: row[1:3] for row in read.rows if len(row) == 6}
    assert found["block1"] == ["nin_block", "out channels 96, kernel size 11, stride 4"]
    assert found["dropout1"] == ["dropout", "rate 0.5"]
    assert found["flatten1"] == ["flatten", ""]


def test_settings_of_two_sizes_and_of_switches(read_html) -> None:
    layers = [
        {"type": "max_pool2d", "kernel_size": [3, 2], "stride": 2, "ceil_mode": True},
        {"type": "nin_block", "out_channels": 4, "kernel_size": 1, "mlp_channels": [5, 6], "final_relu": False},
        {"type": "flatten"},
        {"type": "linear", "out_features": 10, "bias": False},
    ]
    architecture = Architecture.model_validate({"name": "mixed", "input": (1, 9, 9), "layers": layers})
    found = {row[0]: row[2] for row in read_html(architecture._repr_html_()).rows if len(row) == 6}
    assert found["pool1"] == "kernel size 3x2, stride 2, ceil mode on"
    assert found["block1"] == "out channels 4, kernel size 1, mlp channels 5 and 6, final relu off"
    assert found["linear1"] == "out features 10, bias off"


def test_blocks_can_be_opened_and_nothing_runs(read_html) -> None:
    read = read_html(nin_multi.load("nin")._repr_html_())
    assert read.names.count("details") == read.names.count("summary") == 4
    assert not {"script", "style", "link", "iframe", "input"} & set(read.names)
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    colors = [value for _, name, value in read.attributes if name == "style" and value and "color:" in value]
    assert all("color: inherit" in value for value in colors), "a colour of its own is not read in every theme"
