"""What a net does with pictures: probabilities, mistakes, and class maps whose means are the logits."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import TINY_BLOCK, refused

from nin_multi import randomness, zoo
from nin_multi.architecture_file import load_architecture, parse_architecture
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.data.batches import prepare
from nin_multi.errors import CheckpointError
from nin_multi.inspection import Inspection, inspect, map_layer, softmax
from nin_multi.oracle import NumpyNetwork
from nin_multi.spec import Architecture

FLAT = """
name: flat
input: [1, 8, 8]
layers:
  - {type: flatten}
  - {type: linear, out_features: 10}
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic_dataset(1, 120)


def _network(architecture: Architecture) -> NumpyNetwork:
    return NumpyNetwork(architecture, randomness.initial_parameters(architecture, 3, "he"))


def _inspect(architecture: Architecture, data: Dataset, **how: bool) -> Inspection:
    return inspect(_network(architecture), architecture, data.test.images, data.test.labels, **how)


def test_the_mean_of_a_class_s_map_is_its_logit(data: Dataset) -> None:
    tiny = parse_architecture(TINY_BLOCK)
    found = _inspect(tiny, data)
    logits = _network(tiny).logits(prepare(data.test.images, tiny))
    assert found.class_maps is not None
    assert found.class_maps.shape == (120, 10, 3, 3)
    np.testing.assert_allclose(found.class_maps.mean((2, 3)), logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, softmax(logits), rtol=1e-12)
    np.testing.assert_array_equal(found.predicted, logits.argmax(1))
    assert found.class_maps.any()


def test_without_maps_the_rest_is_the_same(data: Dataset) -> None:
    tiny = parse_architecture(TINY_BLOCK)
    whole, quick = _inspect(tiny, data), _inspect(tiny, data, maps=False)
    assert quick.class_maps is None
    np.testing.assert_allclose(quick.probabilities, whole.probabilities, rtol=1e-12)


def test_a_net_without_maps(data: Dataset) -> None:
    flat = parse_architecture(FLAT)
    found = _inspect(flat, data)
    assert found.class_maps is None
    np.testing.assert_allclose(found.probabilities.sum(1), 1)


def test_it_says_where_it_stands(data: Dataset) -> None:
    flat, told = parse_architecture(FLAT), []
    inspect(_network(flat), flat, data.test.images, data.test.labels, tell=lambda: told.append(1))
    assert len(told) == 3  # 50 images at a time


@pytest.mark.parametrize("name", zoo.names())
def test_which_layer_has_the_maps(name: str) -> None:
    expected = {"nin": "block4", "nin-imagenet": "block4", "conv-mnist": "relu3"}
    expected |= dict.fromkeys(("alexnet", "vgg11", "alexnet-2012", "maxout-mnist"))
    assert map_layer(load_architecture(name)) == expected.get(name, "block3")


def test_means_that_are_no_logits_have_no_maps() -> None:
    layers = [
        {"type": "nin_block", "out_channels": 4, "kernel_size": 3},
        {"type": "global_avg_pool2d"},
        {"type": "flatten"},
    ]
    mixed = {"name": "mixed", "input": (1, 8, 8), "layers": [*layers, {"type": "linear", "out_features": 10}]}
    assert map_layer(Architecture.model_validate(mixed)) is None
    at_once = {"name": "at-once", "input": (10, 8, 8), "layers": layers[1:]}
    assert map_layer(Architecture.model_validate(at_once)) is None


def _seen(labels: list[int], shares: list[tuple[float, ...]]) -> Inspection:
    probabilities = np.array(shares)
    return Inspection(np.array(labels, np.uint8), probabilities.argmax(1), probabilities)


def test_mistakes_and_samples() -> None:
    sure, unsure, other = (0.9, 0.1, 0.0), (0.5, 0.4, 0.1), (0.1, 0.1, 0.8)
    seen = _seen([2, 0, 0, 1, 1, 2, 0], [sure, sure, other, unsure, sure, other, unsure])
    assert seen.mistakes() == [0, 4, 2, 3]
    assert seen.samples(0) == [1, 3, 0]
    assert seen.samples(2) == [1, 3, 0, 4, 2]
    assert seen.samples(9) == [1, 3, 0, 4, 2]
    # Whatever the net says, the first of each class are the same images.
    assert _seen([2, 0, 0, 1, 1, 2, 0], [other] * 7).samples(0) == [1, 3, 0]


def test_softmax_of_large_logits_and_of_none() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e5, 1e5, -1e5]], np.float32)), [[0.5, 0.5, 0.0]])
    for bad in (np.nan, np.inf):
        with refused(CheckpointError, "no number", "diverged"):
            softmax(np.array([[0.0, bad]]))
