"""The options a recipe is made of, for `train` and `compare`; what a recipe is says nin_multi.training.recipe."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nin_multi.training.recipe import Recipe

RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="book|dependable",
        help="The chapter's, or one that loses no class; the options below change single values of it.",
    ),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Passes over the training images; book: 10.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="Images per step; book: 128.")]
LrOption = Annotated[float | None, typer.Option("--lr", help="Learning rate of SGD; book: 0.1.")]
MomentumOption = Annotated[
    float | None, typer.Option("--momentum", help="As torch defines it; book: 0, which is plain SGD.")
]
InitOption = Annotated[str | None, typer.Option("--init", metavar="xavier|he", help="Initial weights; book: xavier.")]
WarmUpOption = Annotated[
    int | None,
    typer.Option("--warm-up", metavar="STEPS", help="Over which the learning rate rises to its value; book: 0."),
]
DecayOption = Annotated[
    str | None,
    typer.Option("--decay", metavar="none|cosine", help="How the learning rate falls to the end; book: none."),
]
FinalReluOption = Annotated[
    str | None,
    typer.Option(
        "--final-relu",
        metavar="on|off",
        help="Whether the ReLU before the logits stays; off: no class can die in it. book: on.",
    ),
]
DropoutRateOption = Annotated[
    float | None,
    typer.Option("--dropout-rate", metavar="SHARE", help="Of every dropout layer; book: the architecture's own, 0.5."),
]
DropoutOption = Annotated[
    str | None,
    typer.Option(
        "--dropout",
        metavar="shared|native",
        help="Masks alike in all frameworks, or each one's own draw; shared, and native where images stay on a GPU.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of initial weights, order and dropout masks.")]
TrainOption = Annotated[int | None, typer.Option("--train-examples", metavar="N", help="Only the first N.")]
TestOption = Annotated[int | None, typer.Option("--test-examples", metavar="N", help="Only the first N.")]


def make_recipe(options: Mapping[str, Any]) -> Recipe:
    """The recipe named `recipe` among a command's options, with what the others change of it. Raises UsageError."""
    from nin_multi.errors import UsageError
    from nin_multi.training.recipe import Recipe

    chosen = {field.name: options[field.name] for field in fields(Recipe)}
    final_relu = chosen.pop("final_relu")
    if final_relu not in (None, "on", "off"):
        raise UsageError(f"--final-relu: expected on or off, got {final_relu!r}")
    return Recipe.named(options["recipe"], final_relu=None if final_relu is None else final_relu == "on", **chosen)
