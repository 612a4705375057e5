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


_norms = st.fixed_dictionaries(
    {"size": st.sampled_from((1, 3, 5, 7))},
    optional={
        "alpha": st.sampled_from((1e-4, 0.5, 2)),
        "beta": st.sampled_from((0.5, 0.75, 1)),
        "k": st.sampled_from((1, 2.0)),
    },
)
_selective_kernels = st.fixed_dictionaries(
    {
        "out_channels": st.integers(1, WIDEST),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "min_channels": st.integers(1, WIDEST),
    },
    optional={
        "kernel_sizes": st.lists(st.sampled_from((1, 3, 5)), min_size=2, max_size=3),
        "reduction": st.integers(1, WIDEST),
    },
)


def _pieces(channels: int) -> st.SearchStrategy[int]:
    """A number of pieces that divides so many channels."""
    return st.sampled_from([pieces for pieces in range(2, channels + 1) if channels % pieces == 0])


@st.composite
def _image_layer(draw: st.DrawFn, channels: int, height: int, width: int) -> tuple[Entry, int, int, int]:
    """A layer for an image, and the channels, height and width after it."""
    kinds = ["conv2d", "nin_block", "max_pool2d", "avg_pool2d", "relu", "dropout", "global_avg_pool2d"]
    kinds += ["local_response_norm", "se_block", "sk_block", *(["maxout"] if channels > 1 else [])]
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
        case "local_response_norm":
            entry |= draw(_norms)
        case "se_block":
            entry["reduction"] = draw(st.integers(1, 2 * WIDEST))
        case "maxout":
            entry["pieces"] = draw(_pieces(channels))
            channels //= entry["pieces"]
        case "sk_block":
            entry |= draw(_selective_kernels)
            channels, (down, right) = entry["out_channels"], entry["stride"]
            height, width = -(-height // down), -(-width // right)
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


@st.composite
def _flat_layer(draw: st.DrawFn, features: int) -> tuple[Entry, int]:
    """A layer for rows of numbers, and how many there are after it."""
    kinds = ["linear", "relu", "dropout", "flatten", *(["maxout"] if features > 1 else [])]
    entry: Entry = {"type": draw(st.sampled_from(kinds))}
    match entry["type"]:
        case "linear":
            features = entry["out_features"] = draw(st.integers(1, 2 * WIDEST))
            entry["bias"] = draw(st.booleans())
        case "dropout":
            entry["rate"] = draw(st.sampled_from(RATES))
        case "maxout":
            entry["pieces"] = draw(_pieces(features))
            features //= entry["pieces"]
    return entry, features


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
    features = channels * height * width
    for _ in range(draw(st.integers(0, min(3, max_layers - len(layers))))):
        entry, features = draw(_flat_layer(features))
        layers.append(entry)
    for index, named in enumerate(draw(st.lists(st.booleans(), min_size=len(layers), max_size=len(layers)))):
        layers[index] = {**layers[index], **({"name": f"my_{index}"} if named else {})}
    return Architecture.model_validate({"name": "drawn", "input": size, "layers": layers})
