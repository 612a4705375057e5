"""What a run's net is looked at with: its last parameters, test images that are here already; nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nin_multi.backend import Params
    from nin_multi.data.dataset import Split
    from nin_multi.run_story import Story
    from nin_multi.training.run_directory import RunDirectory

NOTHING_LEFT = "it has left no weights, and no checkpoint"


def stored_test_images(story: Story, data_dir: Path | None, count: int) -> Split | str:
    """The first test images of the run's data set; why not, where its files are not here."""
    import os

    from nin_multi.data import Split, read_fashion_mnist, synthetic_dataset
    from nin_multi.data.download import cache_folder
    from nin_multi.data.sources import DATA_VARIABLE
    from nin_multi.errors import DataError

    if story.dataset.name == "synthetic":
        return synthetic_dataset(1, count).test
    if story.dataset.name != "fashion-mnist":
        return f"the images of {story.dataset.name!r} are not known here"
    named = data_dir or Path(os.environ.get(DATA_VARIABLE) or cache_folder())
    try:
        test = read_fashion_mnist(named.expanduser()).test
    except DataError as error:
        return f"no test images: {first_line(error).rstrip('.')} (--data-dir DIR names their folder)"
    return Split(test.images[:count], test.labels[:count])


def last_parameters(directory: RunDirectory, story: Story) -> Params | str:
    """The run's weights, or of its checkpoints the last that is whole; why not, where none is there."""
    from nin_multi.errors import CheckpointError
    from nin_multi.training.run_directory import WEIGHTS
    from nin_multi.weights import load_weights

    ended, kept = [directory.path / WEIGHTS], directory.checkpoints()[::-1]
    why = NOTHING_LEFT
    for path in ended + kept if story.status in ("done", "interrupted") else kept + ended:
        if path.exists():
            try:
                return load_weights(path, story.architecture).params
            except CheckpointError as error:
                why = first_line(error)
    return why


def first_line(error: Exception) -> str:
    """Without what to do."""
    return str(error).partition("\n")[0]
