"""Shapes, parameters and multiply-adds: against the book, the authors' files, and formulas from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from pydantic import ValidationError
from strategies import architectures, refused, window_count

from nin_multi import load, zoo
from nin_multi.errors import SpecError
from nin_multi.oracle import NumpyNetwork
from nin_multi.randomness import initial_parameters
from nin_multi.spec import LAYER_TYPES, Architecture, Conv2d, Dropout, NinBlock, Pool2d, ReLU, Shape, TracedLayer

THOROUGH = settings(max_examples=200, deadline=None)


def architecture(*layers: dict[str, Any], size: tuple[int, ...] = (1, 8, 8)) -> Architecture:
    return Architecture.model_validate({"name": "small", "input": size, "layers": layers})


def outputs(net: Architecture, batch: int = 1) -> list[tuple[str, Shape]]:
    return [(row.name, row.output) for row in net.trace(batch)]


# --- the zoo -----------------------------------------------------------------------------------------------------

# Dive into Deep Learning, section "Network in Network (NiN)": the shapes the chapter prints for one 224 x 224 image.
CHAPTER = [
    ("block1", (1, 96, 54, 54)),
    ("pool1", (1, 96, 26, 26)),
    ("block2", (1, 256, 26, 26)),
    ("pool2", (1, 256, 12, 12)),
    ("block3", (1, 384, 12, 12)),
    ("pool3", (1, 384, 5, 5)),
    ("dropout1", (1, 384, 5, 5)),
    ("block4", (1, 10, 5, 5)),
    ("global_avg_pool1", (1, 10, 1, 1)),
    ("flatten1", (1, 10)),
]


def test_nin_has_the_ten_rows_of_the_chapter() -> None:
    assert outputs(load("nin")) == CHAPTER


def test_a_batch_changes_the_first_axis_alone() -> None:
    assert outputs(load("nin"), batch=128) == [(name, (128, *shape[1:])) for name, shape in CHAPTER]
    assert load("nin").trace(128)[0].multiply_adds == load("nin").trace(1)[0].multiply_adds


def test_nin_without_equal_sides() -> None:
    # By hand: (161-11)//4+1 = 38, (193-11)//4+1 = 46, and (n-3)//2+1 for each pool.
    net = load("nin").with_input((1, 161, 193))
    sizes = [shape[2:] for _, shape in outputs(net)]
    assert sizes[:8] == [(38, 46), (18, 22), (18, 22), (8, 10), (8, 10), (3, 4), (3, 4), (3, 4)]
    assert outputs(net)[-1] == ("flatten1", (1, 10))
    assert net.parameters == 1_992_166
    per_position = ((121 + 2 * 96) * 96, (25 * 96 + 2 * 256) * 256, (9 * 256 + 2 * 384) * 384, (9 * 384 + 2 * 10) * 10)
    positions = (38 * 46, 18 * 22, 8 * 10, 3 * 4)
    assert net.multiply_adds == sum(a * b for a, b in zip(per_position, positions, strict=True))


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("block1", 30_336, 87_619_968),
        ("block2", 746_240, 503_939_072),
        ("block3", 1_180_800, 169_869_312),
        ("block4", 34_790, 869_000),
    ],
)
def test_resources_of_each_block(name: str, parameters: int, multiply_adds: int) -> None:
    row = next(row for row in load("nin").trace() if row.name == name)
    assert sum(math.prod(shape) for shape in row.parameters.values()) == parameters
    assert row.multiply_adds == multiply_adds


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("nin", 1_992_166),
        ("nin-mnist", 349_674),
        ("nin-cifar10", 966_986),
        ("nin-cifar100", 984_356),
        ("nin-svhn", 1_986_026),
        # 53,568 + 746,240 + 1,180,800 for the first three blocks, then 3x3/1024, 1x1/1024, 1x1/1000.
        ("nin-imagenet", 1_980_608 + (384 * 9 + 1) * 1024 + 1025 * 1024 + 1025 * 1000),
        ("alexnet", 46_764_746),
        ("vgg11", 128_806_154),
    ],
)
def test_parameters_of_the_zoo(name: str, parameters: int) -> None:
    assert load(name).parameters == parameters


@pytest.mark.parametrize(("name", "multiply_adds"), [("nin", 762_297_352), ("nin-cifar10", 222_486_528)])
def test_multiply_adds_of_the_zoo(name: str, multiply_adds: int) -> None:
    assert load(name).multiply_adds == multiply_adds


@pytest.mark.parametrize(("name", "millions"), [("nin-mnist", 50.7), ("nin-svhn", 274.2)])
def test_multiply_adds_known_in_millions(name: str, millions: float) -> None:
    assert round(load(name).multiply_adds / 1e6, 1) == millions


def test_three_input_channels_and_a_thousand_classes() -> None:
    # Counted by thop in pandalabme/d2l (exercises/ch8) for the chapter's net on colour images.
    assert load("nin").with_input((3, 224, 224)).parameters == 2_015_398
    layers = load("nin").model_dump()["layers"]
    layers[7]["out_channels"] = 1000
    assert architecture(*layers, size=(3, 224, 224)).parameters == 7_439_608


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("nin-mnist", [28, 14, 7]),
        ("nin-cifar10", [32, 16, 8]),
        ("nin-cifar100", [32, 16, 8]),
        ("nin-svhn", [32, 16, 8]),
        ("nin-imagenet", [54, 27, 13, 6]),
        ("nin", [54, 26, 12, 5]),
    ],
)
def test_sizes_of_the_blocks(name: str, sizes: list[int]) -> None:
    found = [row.output[2:] for row in load(name).trace() if isinstance(row.layer, NinBlock)]
    assert found == [(size, size) for size in sizes]


def test_rounding_up_in_the_chapters_net() -> None:
    # chapter-and-paper: 54/27/13/6 instead of 54/26/12/5, with identical weights.
    layers = load("nin").model_dump()["layers"]
    for layer in layers:
        if layer["type"] == "max_pool2d":
            layer["ceil_mode"] = True
    up = architecture(*layers, size=(1, 224, 224))
    assert up.multiply_adds == 831_680_928
    assert up.parameter_shapes() == load("nin").parameter_shapes()


def test_alexnet_and_vgg_have_the_shapes_of_the_book() -> None:
    alexnet = [row.output[1:] for row in load("alexnet").trace() if not isinstance(row.layer, ReLU | Dropout)]
    stages = [(96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12)]
    stages += [(384, 12, 12), (384, 12, 12), (256, 12, 12), (256, 5, 5)]
    assert alexnet == [*stages, (6400,), (4096,), (4096,), (10,)]
    pools = [row.output[1:] for row in load("vgg11").trace() if isinstance(row.layer, Pool2d)]
    assert pools == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]
    assert outputs(load("vgg11"))[-8][1] == (1, 25_088)


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("size", [None, (161, 193)])
def test_the_zoo_against_the_formulas(name: str, size: tuple[int, int] | None) -> None:
    net = load(name)
    if size:
        net = net.with_input((net.input[0], *size))
    assert [row.output for row in net.walk()] == documented_shapes(net)
    assert net.classes == {"nin-cifar100": 100, "nin-imagenet": 1000}.get(name, 10)


def test_every_file_of_the_zoo_is_listed() -> None:
    folder = zoo.path("nin").parent
    assert sorted(zoo.names()) == sorted(file.stem for file in folder.glob("*.yaml"))
    assert [load(name).name for name in zoo.names()] == list(zoo.names())


# --- random architectures ------------------------------------------------------------------------------------------


def documented_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool = False) -> int:
    """H_out as the documentation of torch.nn.Conv2d and torch.nn.MaxPool2d has it, with dilation 1.

    "When ceil_mode=True, sliding windows are allowed to go off-bounds if they start within the left padding or the
    input. Sliding windows that would start in the right padded region are ignored."
    """
    exact = Fraction(size + 2 * padding - 1 * (kernel - 1) - 1, stride) + 1
    count = math.ceil(exact) if ceil_mode else math.floor(exact)
    last_start = (count - 1) * stride - padding
    return count - 1 if ceil_mode and last_start >= size else count


def documented_shapes(net: Architecture) -> list[Shape]:
    """Every shape of `walk`, from the layers' fields and the documentation of torch.nn alone."""
    shape: Shape = (1, *net.input)
    shapes: list[Shape] = []
    for layer in net.layers:
        fields = layer.model_dump()
        match fields["type"]:
            case "relu" | "dropout" | "local_response_norm" | "se_block":
                pass
            case "maxout":
                shape = (1, shape[1] // fields["pieces"], *shape[2:])
            case "sk_block":  # branches of any kernel, padded by half of it, are as those of a single pixel
                sides = [documented_size(shape[2 + i], 1, stride, 0) for i, stride in enumerate(fields["stride"])]
                shape = (1, fields["out_channels"], *sides)
            case "flatten":
                shape = (1, math.prod(shape))
            case "linear":
                shape = (1, fields["out_features"])
            case "global_avg_pool2d":
                shape = (*shape[:2], 1, 1)
            case "conv2d" | "max_pool2d" | "avg_pool2d" | "nin_block":
                windows = zip(fields["kernel_size"], fields["stride"], fields["padding"], strict=True)
                ceil_mode = fields.get("ceil_mode", False)
                sides = [documented_size(shape[2 + i], *window, ceil_mode) for i, window in enumerate(windows)]
                shape = (1, fields.get("out_channels", shape[1]), *sides)
            case other:
                raise AssertionError(f"no formula for {other}")
        if fields["type"] == "nin_block":
            widths = fields["mlp_channels"]
            widths = [fields["out_channels"]] * 2 if widths is None else widths
            inside = [shape, *((1, width, *shape[2:]) for width in widths)]  # convolutions, each followed by a ReLU
            inside = [each for each in inside for _ in range(2)]
            shapes += inside if fields["final_relu"] else inside[:-1]
            shape = inside[-1]
        shapes.append(shape)
    return shapes


@THOROUGH
@given(architectures())
def test_shapes_are_the_documented_ones(net: Architecture) -> None:
    assert [row.output for row in net.walk()] == documented_shapes(net)


@THOROUGH
@given(architectures())
def test_shapes_are_those_of_real_arrays(net: Architecture) -> None:
    network = NumpyNetwork(net, initial_parameters(net, seed=0))
    values = network.activations(np.ones((2, *net.input), np.float32))
    assert [(name, value.shape) for name, value in values] == [(row.name, row.output) for row in net.walk(batch=2)]


@THOROUGH
@given(architectures())
def test_inputs_and_outputs_join(net: Architecture) -> None:
    rows = net.trace(3)
    assert rows[0].input == (3, *net.input)
    assert [row.input for row in rows[1:]] == [row.output for row in rows[:-1]]
    for block in (row for row in rows if row.inner):
        assert [part.input for part in block.inner] == [block.input, *(part.output for part in block.inner[:-1])]
        assert block.inner[-1].output == block.output
        assert all(part.name == f"{block.name}.{part.child_name}" for part in block.inner)


@THOROUGH
@given(architectures())
def test_multiply_adds_are_those_of_the_weights(net: Architecture) -> None:
    # Each weight of a convolution is used once per output position, each weight of a linear layer once; and a unit's
    # values are multiplied once by what it gives their channels, in each of its branches.
    expected = 0
    for row in net.walk():
        for name, shape in row.parameters.items() if not row.inner else ():
            if name.endswith(".weight"):
                expected += math.prod(shape) * (math.prod(row.output[2:]) if len(shape) == 4 else 1)
        scaled = {"se_block": 1, "sk_block": sum(".select" in name for name in row.parameters) // 2}
        expected += scaled.get(row.layer.type, 0) * math.prod(row.output)
    assert net.multiply_adds == expected
    assert net.parameters == sum(value.size for value in initial_parameters(net, 0).values())


@THOROUGH
@given(architectures(max_layers=5))
def test_overhang_is_what_floor_pooling_lacks(net: Architecture) -> None:
    for row in net.trace():
        if isinstance(row.layer, Pool2d):
            sides = zip(row.layer.kernel_size, row.layer.stride, row.layer.padding, strict=True)
            for axis, (kernel, stride, padding) in enumerate(sides):
                extra = row.layer.overhang(row.input)[axis]
                padded = row.input[2 + axis] + 2 * padding + extra
                assert window_count(padded, kernel, stride, 0) == row.output[2 + axis]
                # Not a row more than needed: with one less a window is lost.
                assert not extra or window_count(padded - 1, kernel, stride, 0) == row.output[2 + axis] - 1


# --- names, fields, rules ----------------------------------------------------------------------------------------


def test_default_names_count_by_prefix() -> None:
    net = architecture(
        {"type": "conv2d", "out_channels": 2, "kernel_size": 1},
        {"type": "max_pool2d", "kernel_size": 2, "stride": 1},
        {"type": "avg_pool2d", "kernel_size": 2, "stride": 1},
        {"type": "relu", "name": "mine"},
        {"type": "relu"},
        {"type": "nin_block", "out_channels": 2, "kernel_size": 1},
        {"type": "dropout", "rate": 0.2},
        {"type": "global_avg_pool2d"},
        {"type": "flatten"},
        {"type": "linear", "out_features": 3},
        {"type": "linear", "out_features": 4},
    )
    names = "conv1 pool1 pool2 mine relu2 block1 dropout1 global_avg_pool1 flatten1 linear1 linear2"
    assert [layer.name for layer in net.layers] == names.split()
    assert net.classes == 4


@pytest.mark.parametrize(
    ("fields", "inner"),
    [
        ({}, "conv relu mlp1 relu1 mlp2 relu2"),
        ({"final_relu": False}, "conv relu mlp1 relu1 mlp2"),
        ({"mlp_channels": [3]}, "conv relu mlp1 relu1"),
        ({"mlp_channels": []}, "conv relu"),
        ({"mlp_channels": [], "final_relu": False}, "conv"),
        ({"mlp_channels": [3, 1, 2], "final_relu": False}, "conv relu mlp1 relu1 mlp2 relu2 mlp3"),
    ],
)
def test_names_inside_a_block(fields: dict[str, Any], inner: str) -> None:
    block = {"type": "nin_block", "name": "b", "out_channels": 5, "kernel_size": 3, **fields}
    net = architecture(block, {"type": "flatten"}, size=(2, 8, 8))
    expected = [f"b.{name}" for name in inner.split()]
    assert [row.name for row in net.walk()] == [*expected, "b", "flatten1"]
    assert [row.child_name for row in net.trace()[0].inner] == inner.split()


def test_parameter_names_shapes_and_order() -> None:
    net = architecture(
        {"type": "nin_block", "out_channels": 4, "kernel_size": [3, 5], "mlp_channels": [6, 7]},
        {"type": "conv2d", "name": "plain", "out_channels": 2, "kernel_size": [1, 2], "bias": False},
        {"type": "flatten"},
        {"type": "linear", "out_features": 3},
        {"type": "linear", "name": "last", "out_features": 2, "bias": False},
        size=(3, 4, 6),
    )
    assert list(net.parameter_shapes().items()) == [
        ("block1.conv.weight", (4, 3, 3, 5)),
        ("block1.conv.bias", (4,)),
        ("block1.mlp1.weight", (6, 4, 1, 1)),
        ("block1.mlp1.bias", (6,)),
        ("block1.mlp2.weight", (7, 6, 1, 1)),
        ("block1.mlp2.bias", (7,)),
        ("plain.weight", (2, 7, 1, 2)),
        ("linear1.weight", (3, 2 * 2 * 1)),
        ("linear1.bias", (3,)),
        ("last.weight", (2, 3)),
    ]


def test_dropouts_with_rate_and_shape() -> None:
    net = architecture(
        {"type": "dropout", "rate": 0.2},
        {"type": "max_pool2d", "kernel_size": 2, "stride": 3},
        {"type": "flatten"},
        {"type": "dropout", "name": "late", "rate": 0},
        size=(2, 8, 5),
    )
    assert net.dropouts() == {"dropout1": (0.2, (2, 8, 5)), "late": (0.0, (2 * 3 * 2,))}
    assert load("nin").dropouts() == {"dropout1": (0.5, (384, 5, 5))}


def test_another_input_keeps_the_layers() -> None:
    net = load("nin-mnist")
    other = net.with_input((3, 29, 41))
    assert other.input == (3, 29, 41)
    assert other.layers == net.layers
    assert net.input == (1, 28, 28)
    assert other.with_input((1, 28, 28)) == net


def test_another_input_may_not_fit() -> None:
    with refused(SpecError, "'block1'", "nin_block", "height of at least 11", "got 10"):
        load("nin").with_input((1, 10, 224))
    with refused(SpecError, "'pool3'", "max_pool2d", "width of at least 3", "got 2"):
        load("nin").with_input((1, 224, 63))


def test_nothing_can_be_changed() -> None:
    net = load("nin")
    for target, field, value in (
        (net, "name", "other"),
        (net, "layers", ()),
        (net.layers[0], "out_channels", 1),
        (net.layers[6], "rate", 0.1),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(target, field, value)
    assert isinstance(net.layers, tuple)
    assert net == load("nin")
    assert hash(net) == hash(load("nin"))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"type": "linear", "out_features": 2}, ("'linear1'", "linear needs an input (N, F)", "(N, 1, 8, 8)")),
        ({"type": "conv2d", "out_channels": 1, "kernel_size": 9}, ("'conv1'", "height of at least 9", "got 8")),
        (
            {"type": "max_pool2d", "kernel_size": [2, 11], "stride": 1, "padding": [0, 1]},
            ("'pool1'", "width of at least 11", "got 10 (8 + 2 x 1)"),
        ),
        ({"type": "nin_block", "out_channels": 1, "kernel_size": [9, 1]}, ("'block1'", "height", "9", "8")),
        ({"type": "relu"}, ("'small'", "(N, 1, 8, 8)", "'relu1'", "expected (N, classes)", "flatten or linear")),
    ],
)
def test_what_does_not_fit_is_named(layer: dict[str, Any], words: tuple[str, ...]) -> None:
    with refused(SpecError, *words):
        architecture(layer)


@pytest.mark.parametrize("kind", ["conv2d", "nin_block", "max_pool2d", "avg_pool2d", "global_avg_pool2d"])
def test_layers_for_images_do_not_stand_after_flatten(kind: str) -> None:
    fields: dict[str, Any] = {"type": kind, "name": "late"}
    fields |= {} if kind.startswith("global") else {"kernel_size": 1}
    fields |= {"stride": 1} if kind.endswith("_pool2d") and not kind.startswith("global") else {}
    fields |= {"out_channels": 1} if kind in ("conv2d", "nin_block") else {}
    with refused(SpecError, "'late'", "(N, C, H, W)", "got (N, 64)", "before flatten"):
        architecture({"type": "flatten"}, fields)


def test_the_failing_layers_place_is_kept() -> None:
    with pytest.raises(SpecError) as caught:
        architecture({"type": "relu"}, {"type": "linear", "out_features": 2})
    assert caught.value.layer_index == 1


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
def test_pool_padding_is_at_most_half_the_kernel(kind: str) -> None:
    def pool(padding: list[int]) -> Callable[[], Architecture]:
        layer = {"type": kind, "kernel_size": [4, 3], "stride": 1, "padding": padding}
        return lambda: architecture(layer, {"type": "flatten"})

    pool([2, 1])()
    for padding, got in (([3, 0], 3), ([0, 2], 2)):
        with pytest.raises(ValidationError, match=rf"at most half the kernel .*got {got}"):
            pool(padding)()


def test_the_vocabulary_is_complete() -> None:
    words = "conv2d relu max_pool2d avg_pool2d dropout global_avg_pool2d flatten linear nin_block "
    words += "maxout local_response_norm se_block sk_block"
    assert list(LAYER_TYPES) == words.split()


def test_a_block_asked_by_itself_answers_as_its_parts_do() -> None:
    block = NinBlock(name="b", out_channels=4, kernel_size=(3, 3), stride=(2, 2), mlp_channels=(6, 7))
    row = architecture(block.model_dump(), {"type": "flatten"}).trace()[0]
    assert block.output_shape((1, 1, 8, 8)) == row.output == (1, 7, 3, 3)
    assert block.multiply_adds((1, 1, 8, 8)) == row.multiply_adds == 9 * (9 * 4 + 4 * 6 + 6 * 7)
    held = {f"b.{name}": shape for name, shape in block.parameter_shapes((1, 1, 8, 8)).items()}
    assert held == dict(row.parameters)


def test_layers_may_be_objects_too() -> None:
    layer = Conv2d(out_channels=2, kernel_size=(3, 3))
    net = Architecture.model_validate({"name": "x", "input": (1, 4, 4), "layers": (layer, {"type": "flatten"})})
    assert [row.name for row in net.trace()] == ["conv1", "flatten1"]
    assert isinstance(net.trace()[0], TracedLayer)


class TestWithoutTheLastReLU:
    """What stands between the last ReLU and the logits must keep values from being negative, or it is left alone."""

    def test_of_the_last_block(self) -> None:
        found = load("nin").without_last_relu()
        assert [layer.final_relu for layer in found.layers if isinstance(layer, NinBlock)] == [True, True, True, False]
        assert found.parameter_shapes() == load("nin").parameter_shapes()
        assert found.without_last_relu() == found

    def test_of_a_relu_by_itself(self) -> None:
        layers = [{"type": "flatten"}, {"type": "linear", "out_features": 3}, {"type": "relu"}]
        net = Architecture.model_validate({"name": "net", "input": (1, 4, 4), "layers": layers})
        found = net.without_last_relu()
        assert [layer.type for layer in found.layers] == ["flatten", "linear"]
        assert found.without_last_relu() == found

    @pytest.mark.parametrize("name", ["vgg11", "alexnet"])
    def test_of_nets_whose_logits_come_out_of_none(self, name: str) -> None:
        assert load(name).without_last_relu() == load(name)
