"""What is to be compared and how each side of it is trained: its command, and the comparison of what comes of it.

Not how the sides are run, nor where that is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nin_multi.compare.board import Board
from nin_multi.compare.comparison import Comparison, make_comparison
from nin_multi.compare.sides import Side
from nin_multi.data import CLASSES
from nin_multi.knobs import Tuning
from nin_multi.set_by_hand import set_words
from nin_multi.spec import Architecture
from nin_multi.training.recipe import Recipe

PATIENCE = 600.0  # seconds: starting up, compiling a graph, or one step of a huge net take minutes
LEAST_PATIENCE = 5.0  # signs of life come once a second, and a machine under load is slower


@dataclass(frozen=True)
class Plan:
    """Sides, and all that they have in common.

    Attributes:
        architectures: by the name or file that `train` knows each by.
        recipe: that of all sides but for the seed.
        flags: further options of `train`, such as "--device": "cpu"; None for those that it is to choose.
        switches: options without a value.
        tunings: the knobs set by hand, by backend.
        repeat: the command that compares the same once more.
    """

    sides: Sequence[Side]
    architectures: Mapping[str, Architecture]
    recipe: Recipe
    flags: Mapping[str, object] = field(default_factory=dict)
    switches: Sequence[str] = ()
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    repeat: str = ""

    def command(self, side: Side) -> list[str]:
        """The arguments of one side's process."""
        given = {**self.flags, "--arch": side.arch, "--precision": side.precision}
        words = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
        words += recipe_words(replace(self.recipe, seed=side.seed))
        knobs = self.tunings.get(side.backend, {})
        return ["train", "--backend", side.backend, *words, *self.switches, *set_words(knobs)]

    def board(self) -> Board:
        """Where it will be seen how the sides stand."""
        names = {word: architecture.name for word, architecture in self.architectures.items()}
        return Board(self.sides, names, self.recipe.epochs)

    def comparison(self, board: Board, *, over: bool) -> Comparison:
        """Of the runs as they stand there."""
        architectures = list(self.architectures.values())
        classes = CLASSES if architectures[0].classes >= len(CLASSES) else range(architectures[0].classes)
        repeat = [self.repeat] if self.repeat else []
        made = make_comparison(list(board.runs.values()), architectures, list(map(str, classes)), repeat)
        return {**made, "over": over}


def recipe_words(recipe: Recipe) -> list[str]:
    """The arguments that say it to another process."""
    values = {**recipe.as_dict(), "final_relu": "on" if recipe.final_relu else "off"}
    flags = {f"--{key.replace('_', '-')}": value for key, value in values.items() if value is not None}
    return [word for flag, value in flags.items() for word in (flag, str(value))]
