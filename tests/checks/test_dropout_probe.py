"""Masks of a dropout that shows none, read off a gradient, and what is said of them; not the framework's own draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nin_multi.checks.dropout import SIDE, drawn_mask, dropout_probe, fault_of
from nin_multi.oracle import NumpyBackend, NumpyNetwork
from nin_multi.spec import Dropout

Array = NDArray[np.float64]
RATES = [0.0, 0.1, 0.2, 0.5, 0.9]


def draw(rate: float, seed: int, kept: float | None = None, share: float | None = None) -> Array:
    """A mask that drops a share (the rate if none is given) and multiplies the rest (by 1 / (1 - rate))."""
    drops = np.random.RandomState(seed).random_sample(SIDE * SIDE) < (rate if share is None else share)
    return np.where(drops, 0.0, 1 / (1 - rate) if kept is None else kept)


def twice(rate: float, **how: Any) -> list[Array]:
    return [draw(rate, seed, **how) for seed in (1, 2)]


class TestProbe:
    @pytest.mark.parametrize("rate", RATES)
    def test_the_net(self, rate: float) -> None:
        probe, params = dropout_probe(rate)
        first = probe.layers[0]
        assert isinstance(first, Dropout)
        assert first.rate == rate
        assert {name: value.shape for name, value in params.items()} == probe.parameter_shapes()
        assert not any(value.any() for value in params.values())

    @pytest.mark.parametrize("rate", RATES)
    def test_the_mask_is_the_one_that_was_drawn(self, rate: float) -> None:
        shown: list[Array] = []

        class Showing(NumpyNetwork):
            def _draw(self, batch: int) -> Any:
                masks = super()._draw(batch)
                shown.append(masks["dropout1"])
                return masks

        network = Showing(*dropout_probe(rate), seed=3)
        for index in range(2):
            mask = drawn_mask(network)
            assert mask.shape == (SIDE * SIDE,)
            np.testing.assert_allclose(mask, shown[index].ravel(), rtol=1e-6)
        assert np.array_equal(shown[0], shown[1]) == (rate == 0)


class TestFault:
    @pytest.mark.parametrize("rate", RATES)
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_none_in_the_oracles_own(self, rate: float, seed: int) -> None:
        network = NumpyBackend().build(*dropout_probe(rate), device="cpu", precision="fp64", seed=seed)
        assert fault_of([drawn_mask(network), drawn_mask(network)], rate) is None

    @pytest.mark.parametrize("rate", RATES)
    def test_float32_and_a_little_of_rounding_are_no_fault(self, rate: float) -> None:
        rounded = [np.float32(1 + 1e-3) * mask.astype(np.float32) for mask in twice(rate)]
        assert fault_of(rounded, rate) is None

    @pytest.mark.parametrize(
        ("rate", "masks", "cause"),
        [
            (0.2, twice(0.2, kept=5.0, share=0.8), "taken for the share that is kept"),
            (0.9, twice(0.9, kept=1 / 0.9, share=0.1), "taken for the share that is kept"),
            (0.2, twice(0.2, kept=1.0), "not divided by 1 - rate"),
            (0.5, twice(0.5, kept=1.0), "not divided by 1 - rate"),
            (0.2, twice(0.2, kept=1.0, share=0.0), "does nothing in training"),
            (0.5, twice(0.5, kept=1.0, share=0.0), "does nothing in training"),
            (0.5, [draw(0.5, 1)] * 2, "begin anew in each step"),
            (0.2, twice(0.2, share=0.25), None),
            (0.2, twice(0.2, share=0.15), None),
            (0.2, twice(0.2, kept=1.3), None),
            (0.5, twice(0.5, kept=4.0), None),
            (0.5, twice(0.5, share=1.0), None),
        ],
    )
    def test_of_a_wrong_dropout(self, rate: float, masks: list[Array], cause: str | None) -> None:
        fault = fault_of(masks, rate)
        assert fault is not None
        expected, observed, causes = fault
        assert f"{rate:.3f} dropped" in expected
        assert f"times {1 / (1 - rate):.4g}" in expected
        assert observed
        if cause is None:
            assert causes == ()
        else:
            assert len(causes) == 1
            assert cause in causes[0]

    def test_what_was_seen_is_told(self) -> None:
        mask = np.array([0.0] * 25 + [3.0] * 75)
        fault = fault_of([mask, mask], 0.5)
        assert fault is not None
        assert fault[:2] == ("a share of 0.500 dropped, the rest times 2", "a share of 0.250 dropped, the rest times 3")

    @pytest.mark.parametrize("number", [np.nan, np.inf])
    def test_numbers_that_are_none(self, number: float) -> None:
        masks = twice(0.5)
        masks[0][np.flatnonzero(masks[0])[0]] = number
        assert fault_of(masks, 0.5) is not None
