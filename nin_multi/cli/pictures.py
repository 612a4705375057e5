"""`pictures`: what a run's net sees and how its layers behaved, drawn; or the blocks of architectures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi import heartbeat
from nin_multi.cli.common import DataDirOption, JsonOption, load_architecture, note, one_backend, print_json

if TYPE_CHECKING:
    from nin_multi.backend import Backend, Network, Params
    from nin_multi.data.dataset import Split
    from nin_multi.inspection import Inspection
    from nin_multi.run_story import Story
    from nin_multi.training.run_directory import RunDirectory

RunArgument = Annotated[Path | None, typer.Argument(metavar="RUN", help="A run directory.")]
BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="Which one looks; the run's own if not given.")
]
ArchitecturesOption = Annotated[
    str | None,
    typer.Option("--arch", metavar="A,B,...", help="Without RUN: the blocks of these, side by side."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR|FILE", help="The run directory, or diagram.svg, if not given.")
]
FILES = {
    "class_maps": "class-maps.svg",
    "filters": "filters.svg",
    "activations": "activations.svg",
    "curve": "curve.svg",
    "diagram": "diagram.svg",
}
IMAGES = 500  # of the test images, from which samples are chosen
MISTAKES = 2  # among the samples
ROWS = 6  # classes of which maps are drawn


def pictures(
    run: RunArgument = None,
    arch: ArchitecturesOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> int:
    """Draw a run as SVG: class maps over test images, the first filters, its layers' values over time, curve, blocks.

    With --arch in place of RUN, the blocks of some architectures alone; that needs no framework.
    """
    from nin_multi.errors import UsageError

    if run is not None and arch is not None:
        raise UsageError("--arch: a RUN has its own architecture; leave one of them out")
    if run is not None:
        found = _of_run(run, backend, data_dir, out)
    elif arch is None:
        raise UsageError("expected a run directory, or --arch with names such as nin,alexnet,vgg11")
    else:
        if backend is not None or data_dir is not None:
            raise UsageError("--backend, --data-dir: blocks are drawn from the architecture alone; leave them out")
        found = _of_architectures(arch, out or Path(FILES["diagram"]))
    if json:
        print_json(found)
    else:
        for path in found["written"]:
            print(path)
        for name, reason in found["not_drawn"].items():
            note(f"not drawn: {FILES[name]}: {reason}")
    return 0


@dataclass
class _Album:
    """What has been drawn, and why the rest was not."""

    drawn: dict[str, bytes] = field(default_factory=dict)
    not_drawn: dict[str, str] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, run: Path | None, backend: str | None, written: Iterable[Path]) -> dict[str, Any]:
        """The command's JSON."""
        return {
            "run": None if run is None else str(run),
            "backend": backend,
            "written": list(map(str, written)),
            "samples": self.samples,
            "pictures": {name: self.drawn.get(name, b"").decode() for name in FILES},
            "not_drawn": self.not_drawn,
        }


def _of_architectures(names: str, path: Path) -> dict[str, Any]:
    from nin_multi.cli.common import split_names
    from nin_multi.drawing.diagram import draw_diagram
    from nin_multi.files import write_bytes

    architectures = [load_architecture(name, None, allow_large=True) for name in split_names(names, "--arch", "nin")]
    album = _Album({"diagram": draw_diagram(architectures)})
    write_bytes(path, album.drawn["diagram"])
    return album.answer(None, None, [path])


def _of_run(path: Path, backend: str | None, data_dir: Path | None, out: Path | None) -> dict[str, Any]:
    """Raises RunError, BackendUnavailable: a run is looked at by its own backend, or by the one that was named."""
    from nin_multi.files import write_bytes
    from nin_multi.run_story import read_story
    from nin_multi.training.run_directory import RunDirectory

    directory = RunDirectory.open(path)
    story, facts = read_story(directory), directory.facts()
    own = str(directory.last_facts()["backend"])
    framework = one_backend(backend or own)
    framework.devices()  # one that cannot start says so now
    heartbeat.beat(heartbeat.STARTING)
    title = f"{story.architecture.name} on {facts['dataset'].get('title', story.dataset.name)}, {own}"
    album = _Album()
    _draw_files(album, directory, story, title)
    _draw_net(album, directory, story, framework, data_dir, title)
    folder = out or path
    folder.mkdir(parents=True, exist_ok=True)
    written = {folder / FILES[name]: album.drawn[name] for name in FILES if name in album.drawn}
    for file, svg in written.items():
        write_bytes(file, svg)
    return album.answer(path, framework.name, written)


def _draw_files(album: _Album, directory: RunDirectory, story: Story, title: str) -> None:
    """What needs no net."""
    from nin_multi.drawing.activations import draw_activations
    from nin_multi.drawing.curve import draw_curve
    from nin_multi.drawing.diagram import draw_diagram

    events = directory.events()
    album.drawn["diagram"] = draw_diagram([story.architecture])
    if any(event.get("event") == "step" for event in events):
        album.drawn["curve"] = draw_curve(events, story.recipe.epochs, title)
    else:
        album.not_drawn["curve"] = "no step of it has been recorded"
    layers = draw_activations(events, f"{title}: what the layers give")
    if layers is not None:
        album.drawn["activations"] = layers
    else:
        album.not_drawn["activations"] = "its events say nothing of its layers: an older run, or one that has not begun"


def _draw_net(
    album: _Album, directory: RunDirectory, story: Story, framework: Backend, data_dir: Path | None, title: str
) -> None:
    """Filters, class maps and samples, as far as parameters and images are here."""
    from nin_multi.looking import last_parameters, stored_test_images

    params = last_parameters(directory, story)
    if isinstance(params, str):
        album.not_drawn |= dict.fromkeys(("filters", "class_maps"), params)
        return
    if story.status == "running":
        note(f"{directory.path}: another process is writing this run; its net is seen as in its last checkpoint")
    _draw_filters(album, params, story, title)
    images = stored_test_images(story, data_dir, IMAGES)
    if isinstance(images, str):
        album.not_drawn["class_maps"] = images
        return
    device, precision = framework.devices()[0], framework.precisions[0]
    _look(album, framework.build(story.architecture, params, device=device, precision=precision), story, images, title)


def _draw_filters(album: _Album, params: Params, story: Story, title: str) -> None:
    from nin_multi.drawing.filters import draw_filters
    from nin_multi.spec import Conv2d

    first = next((row.name for row in story.architecture.walk() if isinstance(row.layer, Conv2d)), None)
    if first is None:
        album.not_drawn["filters"] = "the net has no convolution"
    else:
        said = f"{title}: weights of the first convolution"
        album.drawn["filters"] = draw_filters(params[f"{first}.weight"], first, said)


def _look(album: _Album, network: Network, story: Story, images: Split, title: str) -> None:
    """The samples, and the class maps of some of them."""
    from nin_multi.errors import CheckpointError
    from nin_multi.inspection import inspect, map_layer

    def tell() -> None:
        heartbeat.beat(heartbeat.EVALUATING)

    try:
        seen = inspect(network, story.architecture, images.images, images.labels, maps=False, tell=tell)
    except CheckpointError as error:  # weights that are no numbers
        album.not_drawn["class_maps"] = str(error)
        return
    chosen = seen.samples(MISTAKES)
    album.samples = [_sample(index, seen, images) for index in chosen]
    if map_layer(story.architecture) is None:
        why = "the net has no map for each class: it does not end with global average pooling"
        album.not_drawn["class_maps"] = why
        return
    shown = _rows(chosen, len(set(images.labels.tolist())))
    mapped = inspect(network, story.architecture, images.images[shown], images.labels[shown], tell=tell)
    album.drawn["class_maps"] = _draw_maps(mapped, images.images[shown], story.names, title)


def _rows(samples: list[int], classes: int) -> list[int]:
    """Of the first images of the classes some, evenly, and the surest mistake."""
    import numpy as np

    places = np.unique(np.linspace(0, classes - 1, ROWS).round().astype(int)).tolist()
    return [samples[place] for place in places] + samples[classes : classes + 1]


def _draw_maps(mapped: Inspection, images: Any, names: list[str], title: str) -> bytes:
    from nin_multi.drawing.class_maps import Example, draw_class_maps

    assert mapped.class_maps is not None
    found = zip(images, mapped.labels, mapped.probabilities, mapped.class_maps, strict=True)
    examples = [Example(image, int(label), shares.tolist(), maps) for image, label, shares, maps in found]
    return draw_class_maps(examples, names, f"{title}: where each class is seen")


def _sample(index: int, seen: Inspection, images: Split) -> dict[str, Any]:
    return {
        "index": index,
        "label": int(seen.labels[index]),
        "predicted": int(seen.predicted[index]),
        "probabilities": [round(share, 6) for share in seen.probabilities[index].tolist()],
        "image": _as_png(images.images[index]),
    }


def _as_png(image: Any) -> str:
    """As a data URI."""
    import base64
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
