"""A named list of layers and the size of one input, checked to fit together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nin_multi.errors import SpecError
from nin_multi.spec.base import LayerBase, show_shape
from nin_multi.spec.blocks import NinBlock
from nin_multi.spec.fields import MOST_LAYERS, Count, Shape
from nin_multi.spec.layer_types import LAYER_TYPES, Layer
from nin_multi.spec.plain import Dropout, Flatten, GlobalAvgPool2d, LocalResponseNorm, Maxout, ReLU
from nin_multi.spec.tracing import TracedLayer, trace_layer
from nin_multi.spec.units import SEBlock
from nin_multi.spec.windows import Pool2d

# What leaves a channel at 0 that a ReLU before it has cut off everywhere.
_KEEPS_ZEROS = Pool2d | Dropout | GlobalAvgPool2d | Flatten | Maxout | LocalResponseNorm | SEBlock


def _check_count(layers: list[Any] | tuple[Any, ...]) -> None:
    """Before anything is made of them: raises SpecError where there are too many, blocks counting by what is inside."""
    total = len(layers) + sum(2 * _length(layer, "mlp_channels") + _length(layer, "kernel_sizes") for layer in layers)
    if total > MOST_LAYERS:
        raise SpecError(f"expected at most {MOST_LAYERS:,} layers, those inside blocks too, got {total:,}")


def _length(layer: Any, field: str) -> int:
    """How long a layer's list is, 0 where there is none."""
    listed = layer.get(field) if isinstance(layer, Mapping) else getattr(layer, field, None)
    return len(listed) if isinstance(listed, (list, tuple)) else 0


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
                f"architecture {self.name!r} ends with {show_shape(last.output)} after {last.name!r}, expected "
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
                rows.append(trace_layer(layer, shape, layer.name))
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
            if not isinstance(layer, _KEEPS_ZEROS):
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
