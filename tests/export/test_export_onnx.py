"""The ONNX graph computes what the oracle does, under onnxruntime; what is in the file, and what it is called."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from strategies import architectures, refused

from nin_multi import load, machine, randomness, registry
from nin_multi.checks.values import relative_error
from nin_multi.errors import BackendUnavailable, CheckpointError, UnsupportedLayer, UsageError
from nin_multi.export.onnx_file import IR_VERSION, OPSET, check_length, logits_error, onnx_model, run_model
from nin_multi.randomness import Purpose
from nin_multi.spec import Architecture, LayerBase

Params = dict[str, np.ndarray]


def net_of(*layers: dict[str, Any], size: tuple[int, int, int] = (2, 9, 12), name: str = "drawn") -> Architecture:
    entries = [*layers, {"type": "flatten"}, {"type": "linear", "out_features": 3}]
    return Architecture.model_validate({"name": name, "input": size, "layers": entries})


def beginning(architecture: Architecture) -> Params:
    """Weights, and biases that are not zero: a bias that is left out has to show."""
    params = randomness.initial_parameters(architecture, 3)
    draws = {name: randomness.uniform(value.shape, seed=3, purpose=Purpose.INPUT) for name, value in params.items()}
    return {name: np.float32(draws[name] - 0.4) if value.ndim == 1 else value for name, value in params.items()}


def images(architecture: Architecture, count: int) -> np.ndarray:
    """Of both signs: padding that counts as 0 must not win against negative values."""
    draw = randomness.uniform((count, *architecture.input), seed=1, purpose=Purpose.INPUT)
    return (draw - 0.7).astype(np.float32)


def difference(architecture: Architecture, count: int = 3) -> float:
    params, x = beginning(architecture), images(architecture, count)
    oracle = registry.load("numpy").build(architecture, params, device="cpu", precision="fp64")
    # A net may give nothing but zeros: then its logits are held to what goes into a float32.
    return relative_error(run_model(onnx_model(architecture, params, "drawn"), x), oracle.logits(x), least=1e-3)


@settings(max_examples=100, deadline=None)
@given(architecture=architectures())
def test_random_architectures(architecture: Architecture) -> None:
    assert difference(architecture) <= 1e-5


POOLS = [
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {
        "kernel_size": [3, 2],
        "stride": [2, 3],
        "padding": [0, 1],
        "ceil_mode": True,
    },
    {"kernel_size": [2, 5], "stride": [3, 4], "padding": [1, 2], "ceil_mode": True},
    {"kernel_size": 4, "stride": 3, "padding": 2},
    {"kernel_size": 2, "stride": 5, "ceil_mode": True},
]


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("window", POOLS, ids=str)
@pytest.mark.parametrize("size", [(2, 9, 12), (1, 8, 7), (3, 5, 6)], ids=str)
def test_pooling(kind: str, window: dict[str, Any], size: tuple[int, int, int]) -> None:
    assert difference(net_of({"type": kind, **window}, size=size)) <= 1e-6


def test_every_window_of_small_pools() -> None:
    """A pool of 2 to 3 by 1 to 4 over rows and columns of 3 to 7, rounded up and down: overhangs of all kinds."""
    seen = set()
    for height in range(3, 8):
        for kernel, stride, padding in ((2, 1, 1), (2, 3, 0), (2, 3, 1), (3, 2, 1), (3, 4, 0), (3, 4, 1)):
            window = {"kernel_size": [kernel, 2], "stride": [stride, 2], "padding": [padding, 0], "ceil_mode": True}
            for kind in ("max_pool2d", "avg_pool2d"):
                architecture = net_of({"type": kind, **window}, size=(1, height, 5))
                pool: Any = architecture.layers[0]
                seen.add((pool.overhang((1, *architecture.input))[0] > 0, padding > 0))
                assert difference(architecture, 2) <= 1e-6, (kind, window, height)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "layer",
    [
        {"type": "maxout", "pieces": 2},
        {"type": "maxout", "pieces": 6},
        {"type": "local_response_norm"},
        {"type": "local_response_norm", "size": 3, "alpha": 0.5, "beta": 0.6, "k": 1.0},
        {"type": "local_response_norm", "size": 9, "alpha": 2.0, "beta": 0.75, "k": 0.5},
        {"type": "se_block", "reduction": 2},
        {"type": "se_block"},
        {"type": "sk_block", "out_channels": 5},
        {"type": "sk_block", "out_channels": 4, "kernel_sizes": [1, 3, 7], "stride": [2, 3], "min_channels": 3},
    ],
    ids=lambda layer: " ".join(map(str, layer.values())),
)
def test_newer_layers(layer: dict[str, Any]) -> None:
    assert difference(net_of(layer, size=(6, 9, 7))) <= 1e-6


def test_maxout_of_features() -> None:
    architecture = Architecture.model_validate(
        {
            "name": "features",
            "input": [1, 3, 4],
            "layers": [{"type": "flatten"}, {"type": "maxout", "pieces": 3}, {"type": "relu"}],
        }
    )
    assert difference(architecture) <= 1e-6


def test_any_number_of_images() -> None:
    architecture = load("nin-mnist")
    content, x = onnx_model(architecture, beginning(architecture), "drawn"), images(architecture, 5)
    together = run_model(content, x)
    assert (together.shape, together.dtype) == ((5, 10), np.float32)
    for i in range(5):
        assert relative_error(run_model(content, x[i : i + 1]), together[i : i + 1]) < 1e-6


def test_names_and_shapes_are_the_specs() -> None:
    architecture, params = load("nin-mnist"), beginning(load("nin-mnist"))
    model = onnx.load_from_string(onnx_model(architecture, params, "drawn"))
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert {name: value.shape for name, value in held.items()} == architecture.parameter_shapes()
    assert all(held[name].tobytes() == params[name].tobytes() for name in params)
    computed = [row for row in architecture.walk() if row.layer.type not in ("dropout", "nin_block")]
    assert [node.name for node in model.graph.node] == [row.name for row in computed]
    assert [list(node.output) for node in model.graph.node] == [[row.name] for row in computed]
    told = {value.name: shape(value) for value in [*model.graph.value_info, *model.graph.output]}
    assert told == {row.name: ["N", *row.output[1:]] for row in computed}
    assert [(value.name, shape(value)) for value in model.graph.input] == [("images", ["N", 1, 28, 28])]
    assert [value.name for value in model.graph.output] == ["flatten1"]


def shape(value: onnx.ValueInfoProto) -> list[Any]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_what_onnx_infers_is_what_the_spec_says() -> None:
    """Shapes by ONNX's own rules, from the input alone."""
    for arch in ("nin-imagenet", "nin-mnist", "alexnet"):
        architecture = load(arch)
        model = onnx.load_from_string(onnx_model(architecture, randomness.initial_parameters(architecture, 0), ""))
        del model.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        told = {value.name: shape(value) for value in inferred.value_info}
        rows = {row.name: row for row in architecture.walk()}
        assert len(told) > 5
        for name in told:
            assert told[name][1:] == [*rows[name].output[1:]], (arch, name)


def test_what_the_file_says_of_itself() -> None:
    architecture = load("nin-mnist")
    content = onnx_model(architecture, beginning(architecture), "drawn for a test")
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)] == [("", 17)]
    assert (model.ir_version, IR_VERSION) == (8, 8)
    assert (model.producer_name, model.producer_version) == ("nin_multi", machine.own_version())
    assert model.graph.name == "nin-mnist"
    for words in ("nin-mnist", "1x28x28", "10 classes", "349,674 parameters", "drawn for a test"):
        assert words in model.doc_string
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["weights"] == "drawn for a test"
    assert Architecture.model_validate(json.loads(said["architecture"])) == architecture
    assert content == onnx_model(architecture, beginning(architecture), "drawn for a test")


def test_dropout_is_left_out() -> None:
    layers = [{"type": "dropout", "rate": 0.9}, {"type": "relu"}, {"type": "dropout", "rate": 0.5}]
    architecture = net_of(*layers)
    last = Architecture.model_validate(
        {**architecture.model_dump(), "layers": [*architecture.model_dump()["layers"], layers[0]]}
    )
    model = onnx.load_from_string(onnx_model(last, beginning(last), ""))
    assert [node.op_type for node in model.graph.node] == ["Relu", "Flatten", "Gemm"]
    assert model.graph.output[0].name == "linear1"
    assert difference(last) <= 1e-6


def test_layers_may_be_called_anything() -> None:
    names = ("images", "images_", "N", "class", "relu1")
    architecture = net_of(*({"type": "relu", "name": name} for name in names), name="images")
    model = onnx.load_from_string(onnx_model(architecture, beginning(architecture), ""))
    assert [value.name for value in model.graph.input] == ["images__"]
    assert difference(architecture) <= 1e-6


def test_the_check_sees_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    from nin_multi.export import onnx_graph

    def unpadded(padding: tuple[int, int], overhang: tuple[int, int] = (0, 0)) -> list[int]:
        return [padding[0] + overhang[0], padding[1] + overhang[1], padding[0], padding[1]]  # read at the wrong end

    architecture = net_of({"type": "max_pool2d", "kernel_size": 3, "stride": 2, "ceil_mode": True}, size=(2, 8, 8))
    params = beginning(architecture)
    assert logits_error(onnx_model(architecture, params, ""), architecture, params, 2) < 1e-6
    monkeypatch.setattr(onnx_graph, "_pads", unpadded)
    assert logits_error(onnx_model(architecture, params, ""), architecture, params, 2) > 1e-3


def test_numbers_that_are_none_agree_with_nothing() -> None:
    architecture = net_of({"type": "relu"})
    params = beginning(architecture)
    params["linear1.bias"][0] = np.nan
    assert math.isinf(logits_error(onnx_model(architecture, params, ""), architecture, params, 2))


def test_unknown_layers_are_refused() -> None:
    class Whiten(LayerBase):
        type: str = "whiten"

    odd = net_of({"type": "relu"})
    odd = odd.model_copy(update={"layers": (Whiten(name="white"), *odd.layers)})
    with refused(UnsupportedLayer, "onnx: no form of layer 'white' (whiten)"):
        onnx_model(odd, beginning(odd), "")


def test_more_than_a_file_can_hold() -> None:
    huge = Architecture.model_validate(
        {
            "name": "huge",
            "input": [1, 8, 8],
            "layers": [{"type": "flatten"}, {"type": "linear", "out_features": 9_000_000}],
        }
    )
    with refused(UsageError, "architecture 'huge'", "at most 536,608,768 parameters", "585,000,000"):
        onnx_model(huge, {}, "")
    check_length(load("vgg11"))


def test_parameters_of_another_net() -> None:
    with refused(CheckpointError, "parameters do not belong to architecture 'nin'", "missing: block1.conv.weight"):
        onnx_model(load("nin"), {}, "")


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = net_of({"type": "relu"})
    content = onnx_model(architecture, beginning(architecture), "")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with refused(BackendUnavailable, "onnx: the package 'onnx' is not installed", "'nin-multi[onnx]'"):
        onnx_model(architecture, beginning(architecture), "")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused(BackendUnavailable, "onnx: the package 'onnxruntime' is not installed", "'nin-multi[onnx]'"):
        run_model(content, images(architecture, 1))
