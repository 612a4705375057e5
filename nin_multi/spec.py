"""Layer types and `Architecture`: shapes, parameter shapes and multiply-adds; nothing here computes with pixels.

Shape letters: N batch, C channels, H height, W width, F features. Shapes carry the batch axis,
(N, C, H, W) or (N, F); counts of multiply-adds are per example.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from nin_multi.errors import SpecError

Shape = tuple[int, ...]

LARGEST_NUMBER = 2**31 - 1  # frameworks count in int32; and no product of a few such numbers grows without end
MOST_LAYERS = 10_000  # those inside blocks too: whatever is done once per layer stays quick
Count = Annotated[int, Strict(), Field(ge=1, le=LARGEST_NUMBER)]
Pad = Annotated[int, Strict(), Field(ge=0, le=LARGEST_NUMBER)]
Rate = Annotated[float, Strict(), Field(ge=0.0, lt=1.0)]
# No dots and no digits in front: the name is also a child's name in the frameworks' own nets.
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]


def _pair(value: object) -> object:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


Size = Annotated[tuple[Count, Count], BeforeValidator(_pair)]
Padding = Annotated[tuple[Pad, Pad], BeforeValidator(_pair)]


@dataclass(frozen=True)
class TracedLayer:
    """One layer in its place: what goes in, what comes out, what it holds.

    Attributes:
        name: the dotted name, "block1.conv" inside a block.
        layer: the specification.
        input: (N, C, H, W) or (N, F).
        output: likewise.
        parameters: full name -> shape, "block1.conv.weight": (out, in, kh, kw).
        multiply_adds: per example.
        inner: the layers inside a block, in order; empty elsewhere.
    """

    name: str
    layer: Layer
    input: Shape
    output: Shape
    parameters: Mapping[str, Shape]
    multiply_adds: int
    inner: tuple[TracedLayer, ...] = ()

    @property
    def child_name(self) -> str:
        """The last part of the name, "conv" for "block1.conv"."""
        return self.name.rpartition(".")[2]

    def walk(self) -> Iterator[TracedLayer]:
        """The layers inside a block, then the layer itself: the order in which values appear."""
        yield from self.inner
        yield self


class LayerBase(BaseModel):
    """What all layers share: a name, and rules for shapes. Subclasses are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prefix: ClassVar[str]
    name: Name = ""

    def output_shape(self, shape: Shape) -> Shape:
        """Shape after this layer. Raises ValueError (without the layer's name) where it does not fit."""
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Parameter name -> shape, for an input of this shape."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-accumulates per example."""
        return 0

    def inner(self) -> tuple[Layer, ...]:
        """The named layers inside a block; empty for a plain layer."""
        return ()


def _image(shape: Shape, what: str) -> Shape:
    if len(shape) != 4:
        raise ValueError(f"{what} needs an input (N, C, H, W), got {_show(shape)}; it must stand before flatten")
    return shape


def _show(shape: Shape) -> str:
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ")"


def _positions(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, axis: str) -> int:
    """How many windows fit. Ceil mode keeps only windows that begin inside the image or its left padding."""
    room = size + 2 * padding - kernel
    if room < 0:
        raise ValueError(
            f"kernel does not fit: expected a padded {axis} of at least {kernel}, "
            f"got {size + 2 * padding} ({size} + 2 x {padding})"
        )
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


class Conv2d(LayerBase):
    """2-D convolution (cross-correlation), weight (out, in, kh, kw)."""

    prefix: ClassVar[str] = "conv"
    type: Literal["conv2d"] = "conv2d"
    out_channels: Count
    kernel_size: Size
    stride: Size = (1, 1)
    padding: Padding = (0, 0)
    bias: Annotated[bool, Strict()] = True

    def output_shape(self, shape: Shape) -> Shape:
        n, _, h, w = _image(shape, "conv2d")
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        rows = _positions(h, kh, sh, ph, False, "height")
        return (n, self.out_channels, rows, _positions(w, kw, sw, pw, False, "width"))

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        weight = (self.out_channels, shape[1], *self.kernel_size)
        return {"weight": weight, "bias": (self.out_channels,)} if self.bias else {"weight": weight}

    def multiply_adds(self, shape: Shape) -> int:
        _, c, h, w = self.output_shape(shape)
        return c * h * w * shape[1] * math.prod(self.kernel_size)


class ReLU(LayerBase):
    """max(x, 0); its gradient at 0 is 0."""

    prefix: ClassVar[str] = "relu"
    type: Literal["relu"] = "relu"


class Pool2d(LayerBase):
    """What max and average pooling share. Padding is at most half the kernel, so no window is all padding."""

    prefix: ClassVar[str] = "pool"
    kernel_size: Size
    stride: Size
    padding: Padding = (0, 0)
    ceil_mode: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _padding_fits(self) -> Pool2d:
        for pad, kernel in zip(self.padding, self.kernel_size, strict=True):
            if 2 * pad > kernel:
                raise ValueError(f"padding must be at most half the kernel ({kernel}), got {pad}")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        n, c, h, w = _image(shape, "pooling")
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        rows = _positions(h, kh, sh, ph, self.ceil_mode, "height")
        return (n, c, rows, _positions(w, kw, sw, pw, self.ceil_mode, "width"))

    def overhang(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns that ceil mode reads past the padded image: floor pooling needs just this much more.

        Frameworks disagree about ceil mode, and agree about floor mode on an image so extended.
        """
        _, _, rows, columns = self.output_shape(shape)
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        down = (rows - 1) * sh + kh - (shape[2] + 2 * ph)
        return (max(down, 0), max((columns - 1) * sw + kw - (shape[3] + 2 * pw), 0))

    def window_sizes(self, shape: Shape) -> tuple[list[int], list[int]]:
        """For each row and each column of the output, how much of its window lies on the padded image."""
        _, _, rows, columns = self.output_shape(shape)
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        down = [min(kh, shape[2] + 2 * ph - i * sh) for i in range(rows)]
        return down, [min(kw, shape[3] + 2 * pw - i * sw) for i in range(columns)]


class MaxPool2d(Pool2d):
    """Largest value of each window; padding never wins. Of equal values the first passes the gradient on."""

    type: Literal["max_pool2d"] = "max_pool2d"


class AvgPool2d(Pool2d):
    """Mean of each window. Padding counts as zeros; what ceil mode reads past the padding does not count."""

    type: Literal["avg_pool2d"] = "avg_pool2d"


class Dropout(LayerBase):
    """In training: a share `rate` of the values is dropped, the rest is divided by 1 - rate."""

    prefix: ClassVar[str] = "dropout"
    type: Literal["dropout"] = "dropout"
    rate: Rate


class GlobalAvgPool2d(LayerBase):
    """Mean over height and width, kept as 1 x 1."""

    prefix: ClassVar[str] = "global_avg_pool"
    type: Literal["global_avg_pool2d"] = "global_avg_pool2d"

    def output_shape(self, shape: Shape) -> Shape:
        n, c, _, _ = _image(shape, "global_avg_pool2d")
        return (n, c, 1, 1)


class Flatten(LayerBase):
    """(N, C, H, W) to (N, C*H*W), channels slowest."""

    prefix: ClassVar[str] = "flatten"
    type: Literal["flatten"] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], math.prod(shape[1:]))


class Linear(LayerBase):
    """Fully connected layer, weight (out, in)."""

    prefix: ClassVar[str] = "linear"
    type: Literal["linear"] = "linear"
    out_features: Count
    bias: Annotated[bool, Strict()] = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise ValueError(f"linear needs an input (N, F), got {_show(shape)}; put a flatten before it")
        return (shape[0], self.out_features)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        weight = (self.out_features, shape[1])
        return {"weight": weight, "bias": (self.out_features,)} if self.bias else {"weight": weight}

    def multiply_adds(self, shape: Shape) -> int:
        return self.out_features * shape[1]


class NinBlock(LayerBase):
    """A convolution and 1x1 convolutions, each followed by a ReLU (arXiv:1312.4400, section 3.1: "mlpconv").

    `mlp_channels` says how many 1x1 layers there are and how wide; the last is the block's output.
    `final_relu: false` leaves out the ReLU after the last of them.
    """

    prefix: ClassVar[str] = "block"
    type: Literal["nin_block"] = "nin_block"
    out_channels: Count
    kernel_size: Size
    stride: Size = (1, 1)
    padding: Padding = (0, 0)
    mlp_channels: Annotated[tuple[Count, ...], Field(max_length=MOST_LAYERS)] | None = None
    final_relu: Annotated[bool, Strict()] = True

    def inner(self) -> tuple[Layer, ...]:
        widths = (self.out_channels,) * 2 if self.mlp_channels is None else self.mlp_channels
        convolution = Conv2d(
            name="conv",
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
        )
        layers: list[Layer] = [convolution, ReLU(name="relu")]
        for i, width in enumerate(widths, start=1):
            layers += [Conv2d(name=f"mlp{i}", out_channels=width, kernel_size=(1, 1)), ReLU(name=f"relu{i}")]
        return tuple(layers if self.final_relu else layers[:-1])

    def output_shape(self, shape: Shape) -> Shape:
        for layer in self.inner():
            shape = layer.output_shape(shape)
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        found: dict[str, Shape] = {}
        for layer in self.inner():
            found |= {f"{layer.name}.{key}": value for key, value in layer.parameter_shapes(shape).items()}
            shape = layer.output_shape(shape)
        return found

    def multiply_adds(self, shape: Shape) -> int:
        total = 0
        for layer in self.inner():
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total


Layer = Annotated[
    Union[  # noqa: UP007  (pydantic reads the discriminator from the union object)
        Conv2d, ReLU, MaxPool2d, AvgPool2d, Dropout, GlobalAvgPool2d, Flatten, Linear, NinBlock
    ],
    Field(discriminator="type"),
]
LAYER_TYPES: dict[str, type[LayerBase]] = {
    cls.model_fields["type"].default: cls
    for cls in (Conv2d, ReLU, MaxPool2d, AvgPool2d, Dropout, GlobalAvgPool2d, Flatten, Linear, NinBlock)
}


def _trace_layer(layer: Layer, shape: Shape, name: str) -> TracedLayer:
    parts: list[TracedLayer] = []
    for part in layer.inner():
        parts.append(_trace_layer(part, parts[-1].output if parts else shape, f"{name}.{part.name}"))
    if parts:  # not asked of the block, which would make all its layers anew for each answer
        inside = {key: value for part in parts for key, value in part.parameters.items()}
        counted = sum(part.multiply_adds for part in parts)
        return TracedLayer(name, layer, shape, parts[-1].output, inside, counted, tuple(parts))
    output = layer.output_shape(shape)
    held = {f"{name}.{key}": value for key, value in layer.parameter_shapes(shape).items()}
    return TracedLayer(name, layer, shape, output, held, layer.multiply_adds(shape))


def _check_count(layers: list[Any] | tuple[Any, ...]) -> None:
    """Before anything is made of them: raises SpecError where there are too many, blocks counting by what is inside."""
    total = len(layers)
    for layer in layers:
        widths = layer.get("mlp_channels") if isinstance(layer, Mapping) else getattr(layer, "mlp_channels", None)
        total += 2 * len(widths) if isinstance(widths, (list, tuple)) else 0
    if total > MOST_LAYERS:
        raise SpecError(f"expected at most {MOST_LAYERS:,} layers, those inside blocks too, got {total:,}")


class Architecture(BaseModel):
    """A named list of layers and the size of one input, checked to fit together.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or out of range.
        SpecError: the layers do not fit, `layer_index` says which; or there are more than 10,000.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    input: tuple[Count, Count, Count]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _name_layers(cls, data: Any) -> Any:
        """Default names: type and number, counted per prefix, pool1 then pool2 whether max or average."""
        if not isinstance(data, Mapping) or not isinstance(data.get("layers"), (list, tuple)):
            return data
        _check_count(data["layers"])
        counts: Counter[str] = Counter()
        named: list[Any] = []
        for layer in data["layers"]:
            entry = dict(layer) if isinstance(layer, Mapping) else layer
            if isinstance(entry, LayerBase):
                entry = entry.model_dump()
            word = entry.get("type") if isinstance(entry, dict) else None
            kind = LAYER_TYPES.get(word) if isinstance(word, str) else None
            if kind is not None and isinstance(entry, dict):
                counts[kind.prefix] += 1
                if entry.get("name", "") == "":
                    entry["name"] = f"{kind.prefix}{counts[kind.prefix]}"
            named.append(entry)
        return {**data, "layers": named}

    @model_validator(mode="after")
    def _fits(self) -> Architecture:
        repeated = [name for name, count in Counter(layer.name for layer in self.layers).items() if count > 1]
        if repeated:
            index = max(i for i, layer in enumerate(self.layers) if layer.name == repeated[0])
            raise SpecError(f"two layers are called {repeated[0]!r}; every name must be its own", layer_index=index)
        last = self.trace()[-1]
        if len(last.output) != 2:
            raise SpecError(
                f"architecture {self.name!r} ends with {_show(last.output)} after {last.name!r}, expected "
                "(N, classes); end with flatten or linear",
                layer_index=len(self.layers) - 1,
            )
        return self

    def trace(self, batch: int = 1) -> tuple[TracedLayer, ...]:
        """Every layer with its shapes for a batch of N = `batch`. Raises SpecError naming what does not fit."""
        rows: list[TracedLayer] = []
        shape: Shape = (batch, *self.input)
        for index, layer in enumerate(self.layers):
            try:
                rows.append(_trace_layer(layer, shape, layer.name))
            except ValueError as error:
                text = f"layer {layer.name!r} ({layer.type}): {error}"
                raise SpecError(text, layer_index=index) from None
            shape = rows[-1].output
        return tuple(rows)

    def walk(self, batch: int = 1) -> Iterator[TracedLayer]:
        """As `trace`, with the layers inside each block before the block itself."""
        for row in self.trace(batch):
            yield from row.walk()

    def with_input(self, size: tuple[int, int, int]) -> Architecture:
        """The same layers for another input (C, H, W). Raises SpecError where they do not fit it."""
        return Architecture.model_validate({**self.model_dump(), "input": size})

    def without_last_relu(self) -> Architecture:
        """The same layers with logits that no ReLU has cut off; unchanged where none does.

        A class whose channel gives 0 for every image has no gradient any more, and is lost for good.
        """
        layers = list(self.layers)
        for index in reversed(range(len(layers))):
            layer = layers[index]
            if isinstance(layer, NinBlock):
                layers[index] = layer.model_copy(update={"final_relu": False})
            if isinstance(layer, ReLU):
                del layers[index]
            if not isinstance(layer, Pool2d | Dropout | GlobalAvgPool2d | Flatten):
                break
        return Architecture.model_validate({**self.model_dump(), "layers": [layer.model_dump() for layer in layers]})

    def with_dropout_rate(self, rate: float) -> Architecture:
        """The same layers, every dropout with this rate."""
        layers = [
            {**layer.model_dump(), "rate": rate} if isinstance(layer, Dropout) else layer for layer in self.layers
        ]
        return Architecture.model_validate({**self.model_dump(), "layers": layers})

    def parameter_shapes(self) -> dict[str, Shape]:
        """Full parameter name -> shape, in the order of the layers."""
        return {name: shape for row in self.trace() for name, shape in row.parameters.items()}

    def dropouts(self) -> dict[str, tuple[float, Shape]]:
        """Name of each dropout layer -> its rate, and the shape it works on for one example (without N)."""
        rows = ((row.name, row.layer, row.output[1:]) for row in self.trace())
        return {name: (layer.rate, shape) for name, layer, shape in rows if isinstance(layer, Dropout)}

    @property
    def classes(self) -> int:
        """How many logits one example gets."""
        return self.trace()[-1].output[1]

    @property
    def parameters(self) -> int:
        """How many numbers the net learns."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    @property
    def multiply_adds(self) -> int:
        """Multiply-accumulates of one example's forward pass."""
        return sum(row.multiply_adds for row in self.trace())

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from nin_multi.notebook.layers import layer_table

        return layer_table(self)
