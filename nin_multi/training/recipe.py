"""What a training run is to do, as data; not how it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nin_multi.errors import RunError, UsageError
from nin_multi.randomness import INITIALISATIONS

DROPOUTS = ("shared", "native")


@dataclass(frozen=True)
class Recipe:
    """The chapter's recipe by default: plain SGD, learning rate 0.1, 10 epochs, batches of 128.

    Attributes:
        train_examples: how many of the first training images to use; None for all.
        test_examples: likewise for the test images.
        momentum: 0 for plain SGD; as torch defines it, see `Network.train_step`.
        init: "xavier" or "he", see `randomness.initial_parameters`.
        dropout: "shared" (the harness's masks, the same in every framework) or "native" (the framework's own draws).

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
        for name, choices in (("init", INITIALISATIONS), ("dropout", DROPOUTS)):
            if getattr(self, name) not in choices:
                raise UsageError(f"--{name}: expected {' or '.join(choices)}, got {getattr(self, name)!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The reverse of `as_dict`. Raises RunError where a value is missing, unknown or out of range."""
        try:
            return cls(**values)
        except (TypeError, UsageError) as error:
            raise RunError(f"damaged recipe: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        return asdict(self)
