"""`predict`: what stored weights say of picture files; how a picture becomes an image is defined elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import JsonOption, LargeOption, note, print_json
from nin_multi.cli.stored import BATCH, StoredBackendOption, WeightsArgument, read_stored
from nin_multi.cli.train import DeviceOption, PrecisionOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nin_multi.backend import Network
    from nin_multi.cli.stored import Stored
    from nin_multi.data.pictures import Picture

    Probabilities = NDArray[np.float64]  # (N, classes)

PicturesArgument = Annotated[
    list[Path], typer.Argument(metavar="PICTURE...", help="PNG, JPEG, GIF, BMP, TIFF, WebP or PPM.")
]
InvertOption = Annotated[
    bool | None,
    typer.Option("--invert/--no-invert", help="Dark on light, or not; by the border's brightness if not given."),
]
TopOption = Annotated[int, typer.Option("--top", metavar="K", help="How many classes to tell.")]


def predict(
    weights: WeightsArgument,
    pictures: PicturesArgument,
    backend: StoredBackendOption = None,
    invert: InvertOption = None,
    top: TopOption = 3,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """What garment is on a picture, by stored weights: the likeliest classes. It should fill the picture.

    A picture is made grey, bright on dark and 28 x 28, as Fashion-MNIST's images are.
    """
    from nin_multi.data.pictures import read_picture
    from nin_multi.errors import UsageError

    if top < 1:
        raise UsageError(f"--top: expected at least 1, got {top}")
    stored = read_stored(weights, allow_large)
    images = [read_picture(path, invert) for path in pictures]
    framework = stored.start(backend, precision)
    network = stored.build(framework, device, precision)
    found = _probabilities(network, stored, images)
    told = zip(pictures, images, found, strict=True)
    result: dict[str, Any] = {
        "weights": str(weights),
        "backend": framework.name,
        "predictions": [_prediction(path, image, row, _names(stored), top) for path, image, row in told],
    }
    if json:
        print_json(result)
    else:
        _print(result, stored, " (inverted)" if invert else " (inverted: its ground is light)")
    return 0


def _probabilities(network: Network, stored: Stored, pictures: list[Picture]) -> Probabilities:
    """Softmax of the logits, in float64. Raises CheckpointError where they are no numbers."""
    import numpy as np

    from nin_multi.data.batches import prepare
    from nin_multi.errors import CheckpointError

    images = np.stack([picture.image for picture in pictures])
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    logits = np.concatenate([network.logits(prepare(batch, stored.architecture)) for batch in batches])
    if not np.isfinite(logits).all():
        raise CheckpointError(f"{stored.path}: what the net gives is no number; its training diverged")
    shares = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    result: Probabilities = shares / shares.sum(1, keepdims=True)
    return result


def _names(stored: Stored) -> list[str]:
    """The data set's own, where it is one that we know and the net has its classes; else "class 3"."""
    from nin_multi.data import CLASSES

    if stored.dataset in ("fashion-mnist", "synthetic") and stored.architecture.classes == len(CLASSES):
        return list(CLASSES)
    return [f"class {label}" for label in range(stored.architecture.classes)]


def _prediction(path: Path, picture: Picture, row: Probabilities, names: list[str], top: int) -> dict[str, Any]:
    labels = (-row).argsort(kind="stable")[:top].tolist()
    return {
        "image": str(path),
        "inverted": picture.inverted,
        "top": [{"label": label, "name": names[label], "probability": float(row[label])} for label in labels],
        "probabilities": row.tolist(),
    }


def _print(result: dict[str, Any], stored: Stored, inverted: str) -> None:
    if stored.dataset == "synthetic":
        note("these weights were trained on synthetic images: they know real garments by chance at best")
    for found in result["predictions"]:
        print(_shorten(found["image"]) + (inverted if found["inverted"] else ""))
        for choice in found["top"]:
            print(f"  {choice['name']:<14}{100 * choice['probability']:6.2f} %")


def _shorten(name: str) -> str:
    """On one line beside its remark: of a long path the end."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= 46 else f"...{shown[-43:]}"
