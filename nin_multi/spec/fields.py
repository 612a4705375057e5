"""What the fields of layers may hold: counts, sizes, rates and names, and how large they may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, Strict

Shape = tuple[int, ...]

LARGEST_NUMBER = 2**31 - 1  # frameworks count in int32; and no product of a few such numbers grows without end
MOST_LAYERS = 10_000  # those inside blocks too: whatever is done once per layer stays quick


def _pair(value: object) -> object:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"expected an odd number, got {value}")
    return value


Count = Annotated[int, Strict(), Field(ge=1, le=LARGEST_NUMBER)]
Odd = Annotated[Count, AfterValidator(_odd)]
Pad = Annotated[int, Strict(), Field(ge=0, le=LARGEST_NUMBER)]
Rate = Annotated[float, Strict(), Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Strict(), Field(gt=0.0, le=LARGEST_NUMBER, allow_inf_nan=False)]
# No dots and no digits in front: the name is also a child's name in the frameworks' own nets.
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
Size = Annotated[tuple[Count, Count], BeforeValidator(_pair)]
Padding = Annotated[tuple[Pad, Pad], BeforeValidator(_pair)]
