"""What several tests share: random valid architectures for Hypothesis, and the contract every error message keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st

from nin_multi.errors import NinMultiError
from nin_multi.spec import Architecture

TINY_BLOCK = """
name: tiny
input: [1, 8, 8]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3, stride: 2}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""

Pair = tuple[int, int]
Entry = dict[str, Any]  # one layer, as a file has it
RATES = (0.0, 0.1, 0.2, 0.5, 0.9)
WIDEST = 4  # channels


@contextmanager
def refused(error: type[NinMultiError], *fragments: str) -> Iterator[None]:
    """Demands this error, in one or two lines that hold all the fragments."""
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    text = str(caught.value)
    assert 1 <= len(text.splitlines()) <= 2, text
    for fragment in fragments:
        assert fragment in text, f"{fragment!r} is not in: {text}"


def window_count(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool = False) -> int:
    """How many windows there are, counted one by one; 0 where not even the first fits."""
    padded = size + 2 * padding
    if kernel > padded:
        return 0
    full = [start for start in range(0, padded, stride) if start + kernel <= padded]
    following = full[-1] + stride
    rest_is_unread = full[-1] + kernel < padded
    return len(full) + int(ceil_mode and rest_is_unread and following < size + padding)


@st.composite
def _kernels(draw: st.DrawFn, height: int, width: int, *, pool: bool) -> tuple[Pair, Pair]:
    """A kernel and a padding that fit an image of this size; in a pool, padding of at most half the kernel."""
    if pool:
        kernel = (draw(st.integers(1, min(5, 2 * height))), draw(st.integers(1, min(5, 2 * width))))
        lowest = tuple(max(0, -(-(k - size) // 2)) for k, size in zip(kernel, (height, width), strict=True))
        padding = (draw(st.integers(lowest[0], kernel[0] // 2)), draw(st.integers(lowest[1], kernel[1] // 2)))
        return kernel, padding
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    kernel = (
        draw(st.integers(1, min(5, height + 2 * padding[0]))),
        draw(st.integers(1, min(5, width + 2 * padding[1]))),
    )
    return kernel, padding


@st.composite
def _windows(draw: st.DrawFn, height: int, width: int, *, pool: bool) -> Entry:
    kernel, padding = draw(_kernels(height, width, pool=pool))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if draw(st.integers(0, 3)) == 0:  # a stride that leaves pixels out
        stride = (kernel[0] + draw(st.integers(0, 2)), kernel[1] + draw(st.integers(0, 2)))
    fields = {"kernel_size": kernel, "stride": stride, "padding": padding}
    # A square is written as one number as often as a file would.
    return {key: pair[0] if pair[0] == pair[1] else list(pair) for key, pair in fields.items()}


def _size_after(entry: Entry, height: int, width: int) -> Pair:
    (kh, kw), (sh, sw), (ph, pw) = (
        (value, value) if isinstance(value, int) else value
        for value in (entry["kernel_size"], entry["stride"], entry["padding"])
    )
    ceil_mode = entry.get("ceil_mode", False)
    return window_count(height, kh, sh, ph, ceil_mode), window_count(width, kw, sw, pw, ceil_mode)


@st.composite
def _image_layer(draw: st.DrawFn, channels: int, height: int, width: int) -> tuple[Entry, int, int, int]:
    """A layer for an image, and the channels, height and width after it."""
    kinds = ("conv2d", "nin_block", "max_pool2d", "avg_pool2d", "relu", "dropout", "global_avg_pool2d")
    entry: Entry = {"type": draw(st.sampled_from(kinds))}
    match entry["type"]:
        case "relu":
            pass
        case "dropout":
            entry["rate"] = draw(st.sampled_from(RATES))
        case "global_avg_pool2d":
            height = width = 1
        case "max_pool2d" | "avg_pool2d":
            entry |= draw(_windows(height, width, pool=True))
            entry["ceil_mode"] = draw(st.booleans())
            height, width = _size_after(entry, height, width)
        case _:
            channels = entry["out_channels"] = draw(st.integers(1, WIDEST))
            entry |= draw(_windows(height, width, pool=False))
            height, width = _size_after(entry, height, width)
            if entry["type"] == "conv2d":
                entry["bias"] = draw(st.booleans())
            else:
                entry["mlp_channels"] = draw(st.none() | st.lists(st.integers(1, WIDEST), max_size=3))
                entry["final_relu"] = draw(st.booleans())
                channels = [channels, *(entry["mlp_channels"] or ())][-1]
    return entry, channels, height, width


_flat_layers = st.one_of(
    st.builds(
        lambda width, bias: {"type": "linear", "out_features": width, "bias": bias},
        st.integers(1, 2 * WIDEST),
        st.booleans(),
    ),
    st.just({"type": "relu"}),
    st.sampled_from(RATES).map(lambda rate: {"type": "dropout", "rate": rate}),
    st.just({"type": "flatten"}),
)


@st.composite
def architectures(draw: st.DrawFn, max_layers: int = 8, max_size: int = 20) -> Architecture:
    """A valid architecture of at most `max_layers` layers (1 or more), for images of at most `max_size` a side.

    Every layer type, rectangular windows, strides larger than kernels, and few channels: a forward pass of one
    takes milliseconds. Whatever is drawn fits, so nothing is rejected.
    """
    channels, height, width = size = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, max_size)),
        draw(st.integers(1, max_size)),
    )
    layers: list[Entry] = []
    for _ in range(draw(st.integers(0, max_layers - 1))):
        entry, channels, height, width = draw(_image_layer(channels, height, width))
        layers.append(entry)
    layers.append({"type": "flatten"})
    layers += draw(st.lists(_flat_layers, max_size=min(3, max_layers - len(layers))))
    for index, named in enumerate(draw(st.lists(st.booleans(), min_size=len(layers), max_size=len(layers)))):
        layers[index] = {**layers[index], **({"name": f"my_{index}"} if named else {})}
    return Architecture.model_validate({"name": "drawn", "input": size, "layers": layers})
