"""From stored images to batches: order and content of an epoch, pixels, and the thread that works ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from nin_multi import randomness
from nin_multi.data.batches import Ahead, evaluation_batches, prepare, steps_per_epoch, training_batches
from nin_multi.data.dataset import Split
from nin_multi.spec import Architecture

HEAD = [{"type": "global_avg_pool2d"}, {"type": "flatten"}]


def _architecture(*size: int) -> Architecture:
    layers = [{"type": "dropout", "rate": 0.2}, {"type": "conv2d", "out_channels": 10, "kernel_size": 1}, *HEAD]
    return Architecture.model_validate({"name": "tiny", "input": size, "layers": layers})


def _by_pillow(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, h, w) uint8 to (N, H, W) float32 in [0, 1], one image at a time."""
    pictures = [Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(picture) for picture in pictures]).astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def split() -> Split:
    """23 noisy images, so that no two are alike; labels in no order."""
    random = np.random.RandomState(3)
    images = random.randint(0, 256, (23, 28, 28)).astype(np.uint8)
    return Split(images, random.randint(0, 10, 23).astype(np.uint8))


class TestPrepare:
    @pytest.mark.parametrize("size", [(8, 8), (28, 28), (33, 19), (56, 64)])
    def test_pixels_are_those_of_pillow(self, split: Split, size: tuple[int, int]) -> None:
        x = prepare(split.images, _architecture(1, *size))
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, _by_pillow(split.images, *size)[:, None])

    def test_grey_is_repeated_in_every_channel(self, split: Split) -> None:
        x = prepare(split.images, _architecture(3, 9, 11))
        assert x.shape == (23, 3, 9, 11)
        for channel in range(3):
            np.testing.assert_array_equal(x[:, channel], _by_pillow(split.images, 9, 11))


class TestTrainingBatches:
    @pytest.mark.parametrize(("size", "lengths"), [(10, [10, 10, 3]), (23, [23]), (50, [23]), (1, [1] * 23)])
    def test_last_partial_batch_is_kept(self, split: Split, size: int, lengths: list[int]) -> None:
        batches = list(training_batches(split, _architecture(1, 8, 8), size, seed=0, epoch=0))
        assert [len(batch.y) for batch in batches] == [len(batch.x) for batch in batches] == lengths
        assert steps_per_epoch(23, size) == len(lengths)

    @pytest.mark.parametrize("epoch", [0, 4])
    def test_order_and_content(self, split: Split, epoch: int) -> None:
        batches = list(training_batches(split, _architecture(1, 8, 8), 10, seed=7, epoch=epoch))
        order = randomness.order(23, 7, epoch)
        np.testing.assert_array_equal(np.concatenate([batch.y for batch in batches]), split.labels[order])
        expected = _by_pillow(split.images[order], 8, 8)[:, None]
        np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches]), expected)
        assert {batch.y.dtype for batch in batches} == {np.dtype(np.int32)}

    def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(self, split: Split) -> None:
        def seen(seed: int, epoch: int) -> list[bytes]:
            batches = training_batches(split, _architecture(1, 28, 28), 10, seed=seed, epoch=epoch)
            return [image.tobytes() for batch in batches for image in batch.x]

        orders = [seen(0, 0), seen(0, 1), seen(1, 0)]
        stored = sorted(image.tobytes() for image in _by_pillow(split.images, 28, 28))
        for order in orders:
            assert sorted(order) == stored
        assert orders[0] != orders[1] != orders[2] != orders[0]
        assert seen(0, 0) == orders[0]

    def test_masks_hang_on_the_step_of_the_whole_run(self, split: Split) -> None:
        architecture = _architecture(1, 8, 8)
        for epoch in (0, 2):
            batches = training_batches(split, architecture, 10, seed=5, epoch=epoch)
            for place, batch in enumerate(batches):
                expected = randomness.dropout_masks(architecture, len(batch.y), 5, 3 * epoch + place)
                assert batch.masks.keys() == expected.keys() == {"dropout1"}
                np.testing.assert_array_equal(batch.masks["dropout1"], expected["dropout1"])


def test_evaluation_keeps_the_stored_order_and_draws_no_masks(split: Split) -> None:
    batches = list(evaluation_batches(split, _architecture(1, 8, 8), 10))
    assert [len(batch.y) for batch in batches] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([batch.y for batch in batches]), split.labels)
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches])[:, 0], _by_pillow(split.images, 8, 8))
    assert all(batch.masks == {} for batch in batches)


def _wait_until(condition) -> None:
    until = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < until, "waited 5 s in vain"
        time.sleep(0.01)


class TestAhead:
    def test_order_is_kept(self) -> None:
        assert list(Ahead(range(100))) == list(range(100))
        assert list(Ahead([])) == []

    def test_items_are_made_ahead_in_another_thread_but_not_without_end(self) -> None:
        made: list[int] = []
        makers: set[int] = set()

        def items() -> Iterator[int]:
            for number in range(50):
                made.append(number)
                makers.add(threading.get_ident())
                yield number

        reader = iter(Ahead(items(), depth=2))
        assert next(reader) == 0
        _wait_until(lambda: len(made) >= 3)  # two wait in the queue, though nobody asked for them
        time.sleep(0.3)
        assert len(made) <= 4  # the one read, two in the queue, one in the thread's hand
        assert list(reader) == list(range(1, 50))
        assert threading.get_ident() not in makers

    def test_an_error_comes_after_the_items_before_it(self) -> None:
        def items() -> Iterator[int]:
            yield from (1, 2, 3)
            raise OSError("the disk is gone")

        reader = iter(Ahead(items()))
        assert [next(reader), next(reader), next(reader)] == [1, 2, 3]
        with pytest.raises(OSError, match=r"^the disk is gone$"):
            next(reader)

    def test_a_reader_that_leaves_early_stops_the_thread(self) -> None:
        started: list[threading.Thread] = []

        def endless() -> Iterator[int]:
            started.append(threading.current_thread())
            number = 0
            while True:
                yield number
                number += 1

        for item in Ahead(endless()):
            if item == 3:
                break
        (thread,) = started
        thread.join(5.0)
        assert not thread.is_alive()
