"""What a run will cost before it starts, and what would cost less; measured speed in, words out."""

from __future__ import annotations

from nin_multi.architecture_file import load_architecture
from nin_multi.spec import Architecture
from nin_multi.training.recipe import Recipe

WORTH_A_WORD = 600.0  # seconds; a shorter run needs no advice
SMALLER = "nin-mnist"
FEWER = 2560  # 20 batches of the chapter's size: enough to see the loss move


def seconds_needed(images_per_sec: float, train: int, test: int, recipe: Recipe) -> float:
    """Training is counted as measured; a test image needs the forward pass only, a third of a training image."""
    return recipe.epochs * (train + test / 3) / images_per_sec


def duration(seconds: float) -> str:
    """A duration for people: "25 s", "12 min", "3.4 h", "2.1 days"; nothing but nothing takes 0 s."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else "1 s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def faster_choices(
    architecture: Architecture,
    recipe: Recipe,
    seconds: float,
    train: int,
) -> list[str]:
    """Flags that make a long run short, each with what it would take; empty where the run is short."""
    if seconds < WORTH_A_WORD:
        return []
    choices = []
    smaller = load_architecture(SMALLER)
    if smaller.multiply_adds < architecture.multiply_adds / 2:
        share = smaller.multiply_adds / architecture.multiply_adds
        choices.append(f"--arch {SMALLER} (about {duration(seconds * share)})")
    if recipe.train_examples is None and train > FEWER:
        choices.append(
            f"--train-examples {FEWER} --epochs 1 (about {duration(seconds * FEWER / train / recipe.epochs)})"
        )
    return choices
