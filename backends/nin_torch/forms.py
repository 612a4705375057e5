"""Which convolutions of a spec get another form than `nn.Conv2d`; torch is not needed for telling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nin_multi.spec import Conv2d, SKBlock, TracedLayer


def convolutions(traced: TracedLayer) -> Iterator[tuple[str, Conv2d]]:
    """Those that one layer is or holds, by their names in the net."""
    if isinstance(traced.layer, Conv2d):
        yield traced.name, traced.layer
    if isinstance(traced.layer, SKBlock):
        yield from ((f"{traced.name}.{branch.name}", branch) for branch in traced.layer.branches())


def has_space(layer: Conv2d) -> bool:
    """Whether it has pixels to take as channels: its stride, in both directions."""
    return layer.stride[0] == layer.stride[1] > 1


def has_slices(layer: Conv2d, size: Sequence[int]) -> bool:
    """Whether a stride over an image of (height, width) goes by leaving pixels out: single ones, or one place."""
    sides = zip(size, layer.kernel_size, layer.stride, layer.padding, strict=True)
    has_one_place = any(step > 1 and n + 2 * padding < kernel + step for n, kernel, step, padding in sides)
    return has_one_place or (tuple(layer.kernel_size) == (1, 1) and tuple(layer.stride) != (1, 1))


def is_large(layer: Conv2d) -> bool:
    """Whether its windows are larger than 3 x 3."""
    height, width = layer.kernel_size
    return height * width > 9
