"""The harness's draws: the published generator, values that may never change, and independence of one another."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures

from nin_multi import load
from nin_multi.randomness import _PIECE, Purpose, dropout_masks, initial_parameters, order, uniform, words
from nin_multi.spec import Architecture

MASK64 = 2**64 - 1


def philox4x64(counter: int, key: tuple[int, int]) -> list[int]:
    """One block of Philox4x64-10 as Salmon et al. (SC 2011) and Random123's philox.h have it; 256-bit counter."""
    c = [counter >> shift & MASK64 for shift in (0, 64, 128, 192)]
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], 2**64)
        c = [high1 ^ c[1] ^ k0, low1, high0 ^ c[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK64, (k1 + 0xBB67AE8584CAA73B) & MASK64
    return c


def test_our_philox_gives_the_known_answers() -> None:
    # Random123, tests/kat_vectors: philox4x64 10, all zeros and all ones.
    zeros = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox4x64(0, (0, 0)) == zeros
    ones = [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]
    assert philox4x64(2**256 - 1, (MASK64, MASK64)) == ones


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**63),
    st.sampled_from(Purpose),
    st.integers(0, 2**40),
    st.text(max_size=20),
    st.integers(1, 10),
)
def test_words_are_philox(seed: int, purpose: Purpose, step: int, part: str, count: int) -> None:
    label = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    start = label << 128 | step << 192
    # NumPy counts up before each block: the first has counter 1.
    blocks = (philox4x64(start + i, (seed, purpose)) for i in itertools.count(1))
    expected = list(itertools.islice(itertools.chain.from_iterable(blocks), count))
    found = words(count, seed=seed, purpose=purpose, step=step, part=part)
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, np.array(expected, np.uint64))


# --- values that may never change ------------------------------------------------------------------------------------


def digest(*arrays: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_first_words() -> None:
    found = words(4, seed=0, purpose=Purpose.WEIGHTS, part="block1.conv.weight")
    assert [hex(int(word)) for word in found] == [
        "0x600d04ecf45770b6",
        "0xa979001fc82a9efa",
        "0x260ede42fa0b9d6f",
        "0x98b383bdfa669be",
    ]


def test_initial_parameters_are_pinned() -> None:
    params = initial_parameters(load("nin-mnist"), seed=0)
    assert digest(*params.values()) == "858e518e723fa6db10c24a88f7f7d6d499ab5a0802009c5e1dfdfded55f9e31e"


def test_order_is_pinned() -> None:
    assert order(10, seed=0, epoch=0).tolist() == [0, 8, 9, 2, 6, 7, 4, 5, 3, 1]
    assert order(10, seed=0, epoch=1).tolist() == [8, 6, 2, 3, 1, 4, 0, 9, 5, 7]
    assert digest(order(60_000, seed=0, epoch=3).astype("<i8")) == (
        "99cd16c23400f4a79bd88f203eb0130b8efc98ca647588b39c8cd722ccc418de"
    )


def test_masks_are_pinned() -> None:
    masks = dropout_masks(load("nin-mnist"), batch=3, seed=5, step=7)
    assert {name: digest(mask) for name, mask in masks.items()} == {
        "dropout1": "160290ad8ba8c42de4fc5d087e0871c83a1489cbd62009c915cf7888f02a43ac",
        "dropout2": "da7b4480d4e2a67845a6ea8104a5ea9c7fbd574a937c242c260de0d5c78ecd4c",
    }


def test_uniform_is_the_upper_53_bits() -> None:
    raw = words(6, seed=3, purpose=Purpose.INPUT)
    expected = [[int(word) // 2**11 / 2**53 for word in raw[:3]], [int(word) // 2**11 / 2**53 for word in raw[3:]]]
    np.testing.assert_array_equal(uniform((2, 3), seed=3, purpose=Purpose.INPUT), expected)


# --- initial weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fan_in", "fan_out"),
    [
        ("block1.conv.weight", 1 * 11 * 11, 96 * 11 * 11),
        ("block2.mlp1.weight", 256, 256),
        ("block3.conv.weight", 256 * 9, 384 * 9),
        ("block4.conv.weight", 384 * 9, 10 * 9),
    ],
)
def test_weights_are_xavier_uniform(name: str, fan_in: int, fan_out: int) -> None:
    values = initial_parameters(load("nin"), seed=1)[name].astype(np.float64).ravel()
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert abs(values).max() <= bound * (1 + 1e-7)
    assert abs(values).max() > bound * 0.999
    # Glorot and Bengio: variance 2 / (fan_in + fan_out). Six standard errors; that of a square is sqrt(4/45) bound^2.
    error = 6 / math.sqrt(len(values))
    np.testing.assert_allclose(values.mean(), 0, atol=error * bound / math.sqrt(3))
    np.testing.assert_allclose((values**2).mean(), 2 / (fan_in + fan_out), atol=error * bound**2 * math.sqrt(4 / 45))


def test_linear_weights_are_xavier_uniform() -> None:
    layers = [{"type": "flatten"}, {"type": "linear", "out_features": 300}]
    net = Architecture.model_validate({"name": "x", "input": [1, 10, 20], "layers": layers})
    weight = initial_parameters(net, seed=0)["linear1.weight"]
    assert weight.shape == (300, 200)
    bound = math.sqrt(6 / 500)
    assert bound * 0.999 < abs(weight).max() <= bound * (1 + 1e-7)


@pytest.mark.parametrize(
    ("name", "fan_in"),
    [("block1.conv.weight", 1 * 11 * 11), ("block2.mlp1.weight", 256), ("block3.conv.weight", 256 * 9)],
)
def test_he_is_the_same_draw_with_a_bound_of_its_own(name: str, fan_in: int) -> None:
    values = initial_parameters(load("nin"), 1, "he")[name].astype(np.float64).ravel()
    bound = math.sqrt(6 / fan_in)
    assert bound * 0.999 < abs(values).max() <= bound * (1 + 1e-7)
    # He et al.: variance 2 / fan_in, in six standard errors.
    error = 6 / math.sqrt(len(values)) * bound**2 * math.sqrt(4 / 45)
    np.testing.assert_allclose((values**2).mean(), 2 / fan_in, atol=error)
    other = initial_parameters(load("nin"), 1)[name].astype(np.float64).ravel()
    np.testing.assert_allclose(values / abs(values).max(), other / abs(other).max(), rtol=1e-5, atol=1e-7)


def test_he_of_a_linear_layer_and_biases() -> None:
    layers = [{"type": "flatten"}, {"type": "linear", "out_features": 300}]
    net = Architecture.model_validate({"name": "x", "input": [1, 10, 20], "layers": layers})
    params = initial_parameters(net, 0, "he")
    bound = math.sqrt(6 / 200)
    assert bound * 0.999 < abs(params["linear1.weight"]).max() <= bound * (1 + 1e-7)
    assert params["linear1.weight"].dtype == np.float32
    assert not params["linear1.bias"].any()


@settings(max_examples=100, deadline=None)
@given(architectures(), st.integers(0, 2**32))
def test_parameters_have_names_shapes_types_and_zero_biases(net: Architecture, seed: int) -> None:
    params = initial_parameters(net, seed)
    assert {name: value.shape for name, value in params.items()} == net.parameter_shapes()
    for name, value in params.items():
        assert value.dtype == np.float32
        assert value.any() == name.endswith(".weight")


def test_a_layers_weights_hang_on_its_name_alone() -> None:
    whole = initial_parameters(load("nin"), seed=2)
    layers = load("nin").model_dump()["layers"][2:]
    net = Architecture.model_validate({"name": "rest", "input": [96, 50, 50], "layers": layers})
    for name, value in initial_parameters(net, seed=2).items():
        np.testing.assert_array_equal(value, whole[name])
    assert digest(whole["block2.mlp1.weight"]) != digest(whole["block2.mlp2.weight"])


# --- independence ----------------------------------------------------------------------------------------------------


def test_no_two_streams_share_words() -> None:
    choices = itertools.product((0, 1, 2**40), Purpose, (0, 1, 2, 500), ("", "a", "b", "block1.conv.weight"))
    drawn = [
        words(16, seed=seed, purpose=purpose, step=step, part=part).tolist() for seed, purpose, step, part in choices
    ]
    assert len(drawn) == 3 * len(Purpose) * 16
    assert len(set(itertools.chain.from_iterable(drawn))) == 16 * len(drawn)


def test_a_stream_does_not_hang_on_what_was_drawn_before_or_how_much() -> None:
    first = words(3, seed=0, purpose=Purpose.ORDER)
    words(1000, seed=0, purpose=Purpose.ORDER)
    np.testing.assert_array_equal(words(9, seed=0, purpose=Purpose.ORDER)[:3], first)


def test_neighbouring_streams_are_not_correlated() -> None:
    draws = [uniform((20_000,), seed=seed, purpose=Purpose.INPUT, step=step) for seed in (0, 1) for step in (0, 1)]
    correlation = np.corrcoef(draws) - np.eye(4)
    np.testing.assert_allclose(correlation, 0, atol=6 / math.sqrt(20_000))


# --- batch order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [0, 1, 2, 10, 1000])
def test_order_is_a_permutation(examples: int) -> None:
    np.testing.assert_array_equal(np.sort(order(examples, seed=0, epoch=0)), np.arange(examples))


def test_order_differs_by_epoch_and_seed() -> None:
    orders = {tuple(order(100, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(5)}
    assert len(orders) == 15
    assert tuple(range(100)) not in orders


def test_every_image_comes_to_every_place() -> None:
    # 6 images have 720 orders; 7200 draws give each place to each image 1200 times, give or take six errors.
    seen = np.array([order(6, seed=0, epoch=epoch) for epoch in range(7200)])
    counts = np.array([[(seen[:, place] == image).sum() for image in range(6)] for place in range(6)])
    np.testing.assert_allclose(counts, 1200, atol=6 * math.sqrt(7200 * 5 / 36))


# --- dropout masks ---------------------------------------------------------------------------------------------------


def net_with_dropout(rate: float, size: tuple[int, int, int] = (3, 5, 7)) -> Architecture:
    layers = [{"type": "dropout", "rate": rate}, {"type": "flatten"}, {"type": "dropout", "rate": rate}]
    return Architecture.model_validate({"name": "x", "input": size, "layers": layers})


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_masks_drop_their_rate_and_scale_the_rest(rate: float) -> None:
    masks = dropout_masks(net_with_dropout(rate), batch=600, seed=0, step=0)
    assert {name: mask.shape for name, mask in masks.items()} == {"dropout1": (600, 3, 5, 7), "dropout2": (600, 105)}
    for mask in masks.values():
        assert mask.dtype == np.float32
        np.testing.assert_array_equal(np.unique(mask), np.array([0, 1 / (1 - rate)], np.float32))
        error = 6 * math.sqrt(rate * (1 - rate) / mask.size)
        np.testing.assert_allclose((mask == 0).mean(), rate, atol=error)
        np.testing.assert_allclose(mask.mean(), 1, atol=error / (1 - rate))
        # No place is dropped more often than another.
        np.testing.assert_allclose((mask == 0).mean(0), rate, atol=6 * math.sqrt(rate * (1 - rate) / 600))


def test_rate_zero_keeps_all() -> None:
    for mask in dropout_masks(net_with_dropout(0.0), batch=50, seed=0, step=0).values():
        np.testing.assert_array_equal(mask, np.ones(mask.shape))


@pytest.mark.parametrize("rate", [1e-12, 1 - 1e-12, float(np.nextafter(1, 0))])
def test_rates_at_the_edge(rate: float) -> None:
    mask = dropout_masks(net_with_dropout(rate), batch=50, seed=0, step=0)["dropout1"]
    assert (mask == 0).mean() == round(rate)
    assert np.isfinite(mask).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000), st.tuples(*[st.integers(1, 4)] * 3))
def test_an_images_mask_does_not_hang_on_the_batch(
    small: int, more: int, step: int, size: tuple[int, int, int]
) -> None:
    # Odd sizes too: two draws come out of each word.
    net = net_with_dropout(0.5, size)
    few, many = (dropout_masks(net, batch, seed=1, step=step) for batch in (small, small + more))
    for name, mask in few.items():
        np.testing.assert_array_equal(many[name][:small], mask)


def test_masks_differ_by_seed_step_and_layer() -> None:
    net = net_with_dropout(0.5)
    drawn = [dropout_masks(net, 10, seed, step) for seed in range(3) for step in range(3)]
    assert len({digest(mask) for masks in drawn for mask in masks.values()}) == 18


def test_the_low_half_of_a_word_comes_first() -> None:
    net = Architecture.model_validate(
        {"name": "x", "input": [1, 1, 6], "layers": [{"type": "flatten"}, {"type": "dropout", "rate": 0.2}]}
    )
    raw = [int(word) for word in words(3, seed=4, purpose=Purpose.DROPOUT, step=9, part="dropout1")]
    halves = [half for word in raw for half in (word % 2**32, word // 2**32)]
    expected = [[0.0 if half < 0.2 * 2**32 else 1.25 for half in halves]]
    np.testing.assert_array_equal(dropout_masks(net, 1, seed=4, step=9)["dropout1"], expected)


@pytest.mark.parametrize("size", [2 * _PIECE, 2 * _PIECE + 1, 5 * _PIECE - 3])
def test_masks_longer_than_one_piece_go_on_in_the_same_words(size: int) -> None:
    net = Architecture.model_validate(
        {"name": "x", "input": [1, 1, size], "layers": [{"type": "flatten"}, {"type": "dropout", "rate": 0.2}]}
    )
    raw = words(3 * size, seed=4, purpose=Purpose.DROPOUT, step=9, part="dropout1")
    halves = np.stack([raw & np.uint64(2**32 - 1), raw >> np.uint64(32)], axis=1).ravel()[: 3 * size]
    expected = np.where(halves < 0.2 * 2**32, np.float32(0), np.float32(1.25)).reshape(3, size)
    np.testing.assert_array_equal(dropout_masks(net, 3, seed=4, step=9)["dropout1"], expected)
