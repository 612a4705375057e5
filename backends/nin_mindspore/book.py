"""The chapter's training as MindSpore people write it, who have no tab in the book: its speed; not our training.

The net is of plain `nn.Conv2d`, the data set and its transforms are MindSpore's, and the loop is that of its own
tutorial, in the mode that MindSpore starts in. Nothing is set in the environment, and there oneDNN runs such
convolutions hundreds of times slower than it could (docs/performance.md); so one batch of few images has to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore
from mindspore import dataset as ds
from mindspore import nn
from mindspore.common.initializer import XavierUniform, initializer
from mindspore.dataset import transforms, vision

from nin_mindspore.layers import compile_architecture
from nin_multi.book import BookRound, image_size
from nin_multi.spec import Architecture

FEW = 8


def book_loop(architecture: Architecture, files: Path, device: str, batch_size: int) -> Callable[[], BookRound]:
    """A function that trains for a step of up to 8 images, shuffled and prepared by MindSpore's own loader."""
    images = load_data(files, min(batch_size, FEW), image_size(architecture)).take(1)
    net = compile_architecture(architecture)
    for parameter in net.trainable_params():
        if parameter.ndim > 1:
            parameter.set_data(initializer(XavierUniform(), parameter.shape, parameter.dtype))
    step = _step(net)

    def run() -> BookRound:
        net.set_train(True)
        count, began = 0, time.perf_counter()
        for x, y in images.create_tuple_iterator():
            step(x, y).asnumpy()
            count += len(y)
        return BookRound(count, time.perf_counter() - began)

    return run


def _step(net: Any) -> Callable[[Any, Any], Any]:
    loss_function = nn.CrossEntropyLoss()
    optimizer = nn.SGD(net.trainable_params(), learning_rate=0.1)

    def forward(x: Any, y: Any) -> Any:
        return loss_function(net(x), y)

    differentiate = mindspore.value_and_grad(forward, None, optimizer.parameters)

    def step(x: Any, y: Any) -> Any:
        loss, gradients = differentiate(x, y)
        optimizer(gradients)
        return loss

    return step


def load_data(files: Path, batch_size: int, size: int | None) -> Any:
    """MindSpore's own loader of the training images in a folder of the four files."""
    images = ds.FashionMnistDataset(str(files), usage="train", shuffle=True)
    resized = [] if size is None else [vision.Resize(size)]
    images = images.map([*resized, vision.ToTensor()], "image")
    return images.map(transforms.TypeCast(mindspore.int32), "label").batch(batch_size)
