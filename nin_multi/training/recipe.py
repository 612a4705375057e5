"""What a training run is to do, as data; not how it is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nin_multi.errors import RunError, UsageError, show_name
from nin_multi.randomness import INITIALISATIONS
from nin_multi.spec import Architecture

DROPOUTS = ("shared", "native")
DECAYS = ("none", "cosine")
# By name, what differs from the chapter's. docs/results.md has the study behind "dependable".
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "book": {},
    "dependable": {
        "epochs": 5,
        "batch_size": 64,
        "lr": 0.05,  # at 0.1 every ReLU of one seed in 18 died where the warm-up ended
        "momentum": 0.9,
        "init": "he",
        "warm_up": 300,
        "decay": "cosine",
        "final_relu": False,
        "dropout_rate": 0.2,
    },
}


_KINDS: Mapping[str, tuple[type, ...]] = {  # as annotated -> of the values that a file may have
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
}


@dataclass(frozen=True)
class Recipe:
    """The chapter's recipe by default: plain SGD, learning rate 0.1, 10 epochs, batches of 128.

    Attributes:
        train_examples: how many of the first training images to use; None for all.
        test_examples: likewise for the test images.
        momentum: 0 for plain SGD; as torch defines it, see `Network.train_step`.
        init: "xavier" or "he", see `randomness.initial_parameters`.
        dropout: "shared" (the harness's masks, the same in every framework) or "native" (the framework's own draws).
        warm_up: over how many steps the learning rate rises, in a line, to `lr`; 0 for none.
        decay: "none", or "cosine", which lowers it to 0 at the end of all epochs (Loshchilov and Hutter, 2017).
        final_relu: whether logits come out of a ReLU, as in the chapter, where the architecture has it so.
        dropout_rate: of every dropout layer; None for the architecture's own.

    Raises UsageError for values out of range.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1
    seed: int = 0
    train_examples: int | None = None
    test_examples: int | None = None
    momentum: float = 0.0
    init: str = "xavier"
    dropout: str = "shared"
    warm_up: int = 0
    decay: str = "none"
    final_relu: bool = True
    dropout_rate: float | None = None

    @classmethod
    def named(cls, name: str, **chosen: Any) -> Recipe:
        """One of RECIPES, with what is `chosen` (not None) in place of its own. Raises UsageError."""
        if name not in RECIPES:
            raise UsageError(f"--recipe: expected {' or '.join(RECIPES)}, got {name!r}")
        return cls(**{**RECIPES[name], **{key: value for key, value in chosen.items() if value is not None}})

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "train_examples", "test_examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")
        if not 0 < self.lr < float("inf"):
            raise UsageError(f"--lr: expected a positive number, got {self.lr}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed: expected 0 to 2^63 - 1, got {self.seed}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"--momentum: expected at least 0 and less than 1, got {self.momentum}")
        if self.dropout_rate is not None and not 0 <= self.dropout_rate < 1:
            raise UsageError(f"--dropout-rate: expected at least 0 and less than 1, got {self.dropout_rate}")
        if self.warm_up < 0:
            raise UsageError(f"--warm-up: expected a number of steps, at least 0; got {self.warm_up}")
        for name, choices in (("init", INITIALISATIONS), ("dropout", DROPOUTS), ("decay", DECAYS)):
            if getattr(self, name) not in choices:
                raise UsageError(f"--{name}: expected {' or '.join(choices)}, got {getattr(self, name)!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The reverse of `as_dict`. Raises RunError where a value is missing, unknown or out of range."""
        try:
            recipe = cls(**values)
        except (TypeError, UsageError) as error:
            raise RunError(f"damaged recipe: {show_name(str(error))}") from None
        for field in fields(recipe):
            value = getattr(recipe, field.name)
            if type(value) not in _KINDS[str(field.type)] or (isinstance(value, int) and value >= 2**63):
                raise RunError(f"damaged recipe: {field.name}: got {show_name(repr(value))}")
        return recipe

    def applied_to(self, architecture: Architecture) -> Architecture:
        """The net that is trained: without the ReLU before its logits, with other rates of dropout, if so chosen."""
        if not self.final_relu:
            architecture = architecture.without_last_relu()
        return architecture if self.dropout_rate is None else architecture.with_dropout_rate(self.dropout_rate)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of the step that follows `step` of all the `steps`.

        >>> recipe = Recipe(lr=0.1, warm_up=2, decay="cosine")
        >>> [round(recipe.rate(step, 4), 4) for step in range(4)]
        [0.05, 0.0854, 0.05, 0.0146]
        """
        rate = self.lr * min((step + 1) / self.warm_up, 1.0) if self.warm_up else self.lr
        return rate * (1.0 + math.cos(math.pi * step / steps)) / 2.0 if self.decay == "cosine" else rate

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        return asdict(self)
