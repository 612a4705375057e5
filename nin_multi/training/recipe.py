"""What a training run is to do, as data; not how it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nin_multi.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """The chapter's recipe by default: plain SGD, learning rate 0.1, 10 epochs, batches of 128.

    Attributes:
        train_examples: how many of the first training images to use; None for all.
        test_examples: likewise for the test images.

    Raises UsageError for values out of range.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1
    seed: int = 0
    train_examples: int | None = None
    test_examples: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "train_examples", "test_examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")
        if not 0 < self.lr < float("inf"):
            raise UsageError(f"--lr: expected a positive number, got {self.lr}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed: expected 0 to 2^63 - 1, got {self.seed}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        return asdict(self)
