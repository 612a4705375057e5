"""Maxout, local response normalisation and units in the spec: shapes, parameters, counts, limits, and their nets."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import refused, window_count

from nin_multi import load, machine
from nin_multi.architecture_file import format_architecture, parse_architecture
from nin_multi.dead_channels import look_into
from nin_multi.errors import SpecError
from nin_multi.foreign_weights import adopt, book_names
from nin_multi.limits import check_size
from nin_multi.memory import Demand, activation_bytes
from nin_multi.oracle import NumpyNetwork
from nin_multi.randomness import initial_parameters
from nin_multi.spec import (
    MOST_LAYERS,
    Architecture,
    LocalResponseNorm,
    Maxout,
    ReLU,
    SEBlock,
    SKBlock,
    TracedLayer,
)

FLATTEN = {"type": "flatten"}
NORM = {"type": "local_response_norm"}
SE = {"type": "se_block", "reduction": 4}
BLOCK = {"type": "nin_block", "out_channels": 8, "kernel_size": 3}
HEAD = {"type": "global_avg_pool2d"}
SK = {"type": "sk_block", "out_channels": 6, "kernel_sizes": [3, 5], "stride": [2, 1]}


def net(*layers: dict[str, Any], size: tuple[int, ...] = (8, 5, 4)) -> Architecture:
    return Architecture.model_validate({"name": "small", "input": size, "layers": [*layers, FLATTEN]})


def first(*layers: dict[str, Any], **more: Any) -> TracedLayer:
    return net(*layers, **more).trace(2)[0]


# --- shapes, parameters, counts ------------------------------------------------------------------------------------


def test_maxout_leaves_one_of_each_group() -> None:
    row = first({"type": "maxout", "pieces": 4})
    assert (row.name, row.input, row.output) == ("maxout1", (2, 8, 5, 4), (2, 2, 5, 4))
    assert (dict(row.parameters), row.multiply_adds) == ({}, 0)
    flat = net(FLATTEN, {"type": "maxout", "pieces": 5}).trace(2)[1]
    assert (flat.input, flat.output) == ((2, 160), (2, 32))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([{"type": "maxout", "pieces": 3}], ["'maxout1' (maxout)", "channels that 3 pieces divide, got 8"]),
        ([FLATTEN, {"type": "maxout", "pieces": 7}], ["features that 7 pieces divide, got 160"]),
        ([FLATTEN, NORM], ["local_response_norm needs an input (N, C, H, W), got (N, 160)"]),
        ([FLATTEN, SE], ["se_block needs an input (N, C, H, W), got (N, 160)"]),
        ([FLATTEN, SK], ["sk_block needs an input (N, C, H, W), got (N, 160)"]),
    ],
)
def test_what_does_not_fit(layers: list[dict[str, Any]], said: list[str]) -> None:
    with refused(SpecError, *said):
        net(*layers)


def test_local_response_norm_keeps_the_shape_and_has_the_papers_numbers() -> None:
    row = first(NORM)
    assert (row.name, row.output, dict(row.parameters), row.multiply_adds) == ("lrn1", (2, 8, 5, 4), {}, 0)
    assert row.layer == LocalResponseNorm(name="lrn1", size=5, alpha=1e-4, beta=0.75, k=2.0)


def test_se_block_by_hand() -> None:
    row = first(SE)
    assert (row.name, row.output) == ("se1", (2, 8, 5, 4))
    assert list(row.parameters.items()) == [
        ("se1.reduce.weight", (2, 8)),
        ("se1.reduce.bias", (2,)),
        ("se1.expand.weight", (8, 2)),
        ("se1.expand.bias", (8,)),
    ]
    assert row.multiply_adds == 2 * 8 * 2 + 8 * 20
    assert SEBlock().parameter_shapes((1, 8, 5, 4))["reduce.weight"] == (1, 8)  # 8 // 16 would leave none


def test_sk_block_by_hand() -> None:
    row = first(SK)
    assert (row.name, row.output) == ("sk1", (2, 6, 3, 4))
    assert list(row.parameters.items()) == [
        ("sk1.branch1.weight", (6, 8, 3, 3)),
        ("sk1.branch1.bias", (6,)),
        ("sk1.branch2.weight", (6, 8, 5, 5)),
        ("sk1.branch2.bias", (6,)),
        ("sk1.reduce.weight", (32, 6)),
        ("sk1.reduce.bias", (32,)),
        ("sk1.select1.weight", (6, 32)),
        ("sk1.select1.bias", (6,)),
        ("sk1.select2.weight", (6, 32)),
        ("sk1.select2.bias", (6,)),
    ]
    assert row.multiply_adds == 6 * 12 * 8 * (9 + 25) + 32 * 6 + 2 * 6 * 32 + 2 * 6 * 12
    wide = SKBlock(out_channels=64, reduction=2, min_channels=8)
    assert wide.parameter_shapes((1, 8, 5, 4))["reduce.weight"] == (32, 64)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.lists(st.sampled_from((1, 3, 5, 7)), min_size=2, max_size=4),
)
def test_all_branches_of_an_sk_block_have_one_shape(
    size: tuple[int, int], stride: tuple[int, int], kernels: list[int]
) -> None:
    layer = SKBlock(out_channels=3, kernel_sizes=tuple(kernels), stride=stride)
    expected = tuple(window_count(a, kernels[0], b, kernels[0] // 2) for a, b in zip(size, stride, strict=True))
    shapes = {branch.output_shape((1, 2, *size)) for branch in layer.branches()}
    assert shapes == {layer.output_shape((1, 2, *size))} == {(1, 3, *expected)}


# --- what a file may say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{type: maxout}", ["layer 'maxout' needs 'pieces'"]),
        ("{type: maxout, pieces: 1}", ["pieces", "greater than or equal to 2", "got 1"]),
        ("{type: maxout, piece: 2}", ["unknown key 'piece'", "Did you mean 'pieces'?"]),
        ("{type: local_response_norm, size: 4}", ["'local_response_norm'", "expected an odd number, got 4"]),
        ("{type: local_response_norm, k: 0}", ["k:", "greater than 0", "got 0"]),
        ("{type: local_response_norm, alpha: .nan}", ["alpha", "finite number", "got nan"]),
        ("{type: local_response_norm, beta: .inf}", ["beta", "finite number", "got inf"]),
        ("{type: local_response_norm, alpha: small}", ["alpha", "valid number", "got 'small'"]),
        ("{type: lrn}", ["unknown layer type 'lrn'", "local_response_norm"]),
        ("{type: se_blok}", ["unknown layer type 'se_blok'", "Did you mean 'se_block'?"]),
        ("{type: se_block, reduction: 0}", ["reduction", "greater than or equal to 1", "got 0"]),
        ("{type: sk_block}", ["layer 'sk_block' needs 'out_channels'"]),
        ("{type: sk_block, out_channels: 2, kernel_sizes: 3}", ["kernel_sizes: expected a list of two or more odd"]),
        ("{type: sk_block, out_channels: 2, kernel_sizes: [3]}", ["kernel_sizes: expected a list of two or more odd"]),
        ("{type: sk_block, out_channels: 2, kernel_sizes: [3, 4]}", ["expected an odd number, got 4"]),
        ("{type: sk_block, out_channels: 2, kernel_size: 3}", ["'kernel_size'", "Did you mean 'kernel_sizes'?"]),
    ],
)
def test_mistakes_in_a_file_are_told_with_their_line(text: str, said: list[str]) -> None:
    file = f"name: small\ninput: [8, 5, 4]\nlayers:\n  - {{type: relu}}\n  - {text}\n  - {{type: flatten}}\n"
    with refused(SpecError, "net.yaml:5:", *said):
        parse_architecture(file, "net.yaml")


def test_a_file_of_all_four_comes_back() -> None:
    architecture = net(NORM, {**NORM, "size": 3, "k": 1}, SE, {"type": "se_block"}, SK, {"type": "maxout", "pieces": 2})
    assert [layer.name for layer in architecture.layers][:6] == ["lrn1", "lrn2", "se1", "se2", "sk1", "maxout1"]
    text = format_architecture(architecture)
    assert parse_architecture(text) == architecture
    assert "kernel_sizes" not in text  # these are the default


def test_an_sk_block_counts_by_its_branches() -> None:
    kernels = [1] * (MOST_LAYERS // 2)
    with refused(SpecError, "at most 10,000 layers", "those inside blocks too"):
        net(*[{**SK, "kernel_sizes": kernels}] * 2)
    with pytest.raises(ValidationError):
        SKBlock(out_channels=1, kernel_sizes=(1,) * (MOST_LAYERS + 1))


@pytest.mark.parametrize(
    "layer",
    [
        {**SK, "kernel_sizes": [1, 2**31 - 1]},
        {**SK, "out_channels": 1, "kernel_sizes": [1, 20_001], "stride": 1},  # a small image with a wide border
        {**SK, "out_channels": 6000, "kernel_sizes": [1] * 9000, "stride": 1, "reduction": 6000, "min_channels": 1},
        {**SK, "min_channels": 2**31 - 1},
    ],
    ids=["kernel", "padding", "branches", "channels"],
)
def test_what_is_too_large_is_refused_before_it_is_made(layer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "granted_memory_bytes", lambda: 0)
    with refused(SpecError, "'small'", "--allow-large"):
        check_size(net(layer))
    check_size(net(layer), allow_large=True)


# --- what goes by type ---------------------------------------------------------------------------------------------


def test_initial_weights_have_the_fans_of_each_map() -> None:
    architecture = net({"type": "se_block", "reduction": 1}, SK, size=(64, 5, 4))
    xavier, he = (initial_parameters(architecture, 0, init) for init in ("xavier", "he"))
    fans = {"se1.reduce": (64, 64), "sk1.branch2": (64 * 25, 6 * 25), "sk1.select1": (32, 6), "sk1.reduce": (6, 32)}
    for name, (fan_in, fan_out) in fans.items():
        for drawn, variance in ((xavier, 2 / (fan_in + fan_out)), (he, 2 / fan_in)):
            weight = drawn[f"{name}.weight"]
            assert abs(weight).max() <= math.sqrt(3 * variance)
            assert weight.std() == pytest.approx(math.sqrt(variance), rel=0.15)
            assert not drawn[f"{name}.bias"].any()


def test_units_count_what_they_hold_inside() -> None:
    assert activation_bytes(first(SE)) == 4 * (160 + 8 + 2 + 8)
    assert activation_bytes(first(SK)) == 4 * (72 + 2 * 72 + 6 + 32 + 2 * 6)
    assert activation_bytes(first(NORM)) == 4 * 2 * 160
    assert activation_bytes(first({"type": "maxout", "pieces": 2})) == 4 * 80


def test_branches_may_be_computed_as_products_of_gathered_pixels() -> None:
    plain, products = (Demand(net(SK), 16, tuning=tuning) for tuning in ({}, {"convolution": "products"}))
    assert products.bytes() - plain.bytes() == 2 * 16 * 4 * (5 * 5 * 8) * (3 * 4)


def test_the_books_names_of_a_units_parameters() -> None:
    architecture = net({"type": "relu"}, SE, SK)
    names = book_names(architecture, relu_takes_an_index=True)
    assert names["se1.expand.weight"] == "1.expand.weight"
    assert names["sk1.branch2.bias"] == "2.branch2.bias"
    assert len(set(names.values())) == len(names) == 14
    params = initial_parameters(architecture, 0)
    for named in ({names[name]: value for name, value in params.items()}, params):
        found = adopt(named, architecture, "file")
        assert all(found[name].tobytes() == value.tobytes() for name, value in params.items())


def test_dead_channels_of_an_sk_block_are_seen() -> None:
    import numpy as np

    architecture = net({**SK, "out_channels": 3}, size=(1, 5, 4))
    params = initial_parameters(architecture, 0)
    for i in (1, 2):
        params[f"sk1.branch{i}.bias"] = np.array([9, -9, 9], np.float32)
        params[f"sk1.branch{i}.weight"] *= 0.01
    look = look_into(NumpyNetwork(architecture, params), architecture, np.zeros((4, 5, 4), np.uint8), 3)
    assert look.layers == [{"name": "sk1", "channels": 3, "dead": 1}]


class TestWithoutTheLastReLU:
    """What keeps a channel at 0 that a ReLU has cut off stands between no ReLU and the logits any more."""

    @pytest.mark.parametrize("layer", [NORM, SE, {"type": "maxout", "pieces": 2}], ids=lambda layer: layer["type"])
    def test_behind_these_it_is_found(self, layer: dict[str, Any]) -> None:
        found = net(BLOCK, layer, HEAD).without_last_relu()
        assert [row.child_name for row in found.trace()[0].inner] == ["conv", "relu", "mlp1", "relu1", "mlp2"]
        found = net({"type": "relu"}, layer, HEAD).without_last_relu()
        assert not any(isinstance(each, ReLU) for each in found.layers)

    def test_an_sk_block_has_those_it_has(self) -> None:
        architecture = net(BLOCK, {**SK, "stride": 1}, HEAD)
        assert architecture.without_last_relu() == architecture


# --- the zoo -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "millions"),
    [
        # 11,712 + 614,656 + 885,120 + 1,327,488 + 884,992, then 9216 x 4096, 4096 x 4096 and 4096 x 10 with biases.
        ("alexnet-2012", 58_299_082, 1_060.9),
        ("conv-mnist", 341_834, 63.7),
        ("maxout-mnist", 418_714, 30.7),
        ("nin-mnist-se", 349_674 + 2 * (2 * 48 * 12 + 12 + 48), 50.7),
        # 5 x 5 to 128 channels and 1 x 1 to 96 give way to both branches, reduce and two selects, and 1 x 1 to 96.
        ("nin-mnist-sk", 349_674 - 153_728 - 12_384 + (156_672 + 192) + (9_216 + 224) + 9_312, 50.7),
    ],
)
def test_sizes_of_rivals_and_heirs(name: str, parameters: int, millions: float) -> None:
    assert load(name).parameters == parameters
    assert round(load(name).multiply_adds / 1e6, 1) == millions


def test_alexnet_has_the_sizes_of_2012() -> None:
    rows = [row for row in load("alexnet-2012").trace() if row.name.startswith(("conv", "pool", "linear"))]
    assert [row.output[1:] for row in rows] == [
        *((96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13), (256, 13, 13)),
        *((256, 6, 6), (4096,), (4096,), (10,)),
    ]
    order = [layer.type for layer in load("alexnet-2012").layers[:4]]
    assert order == ["conv2d", "relu", "local_response_norm", "max_pool2d"]


def test_maxout_has_the_sizes_of_its_authors() -> None:
    rows = [row.output[1:] for row in load("maxout-mnist").trace() if isinstance(row.layer, Maxout)]
    assert rows == [(48, 21, 21), (48, 9, 9), (24, 6, 6)]


def test_heirs_differ_from_nin_mnist_where_they_say() -> None:
    nin, se = load("nin-mnist"), load("nin-mnist-se")
    assert tuple(layer for layer in se.layers if not isinstance(layer, SEBlock)) == nin.layers
    inside = [(row.name, row.output[1:]) for row in load("nin-mnist-sk").trace() if row.name.startswith("block2")]
    assert inside[0] == ("block2_sk", (96, 14, 14))
    assert inside[-1] == ("block2_relu2", (48, 14, 14))
    assert load("conv-mnist").trace()[-1].output == (1, 10)
