"""`evaluate`: stored weights under any backend."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from nin_multi.cli.common import DataDirOption, JsonOption, LargeOption, note, print_json
from nin_multi.cli.recipe_options import TestOption
from nin_multi.cli.stored import StoredBackendOption, WeightsArgument, read_stored
from nin_multi.cli.train import DeviceOption, PrecisionOption

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME", help="The one they were trained on if not given.")
]


def evaluate(
    run: WeightsArgument,
    backend: StoredBackendOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    test_examples: TestOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    allow_large: LargeOption = False,
    json: JsonOption = False,
) -> int:
    """Mean cross-entropy and accuracy of stored weights on the first N test images."""
    from nin_multi.errors import UsageError

    stored = read_stored(run, allow_large)
    name = dataset or stored.dataset
    if name is None:
        raise UsageError(f"--dataset: {run} does not say what it was trained on; name one, such as fashion-mnist")
    framework = stored.start(backend, precision)
    network = stored.build(framework, device, precision)
    from nin_multi.data import load_dataset
    from nin_multi.training import loop, scores

    data = load_dataset(name, data_dir, train_examples=1, test_examples=test_examples, report=note)  # none is looked at
    loop.check_classes(stored.architecture, data)
    found = scores.evaluate(network, stored.architecture, data.test, stored.batch_size)
    loss, acc = found.loss, found.accuracy
    result: dict[str, Any] = {
        "run": str(run),
        "backend": framework.name,
        "dataset": data.name,
        "synthetic": data.synthetic,
        "examples": len(data.test),
        "loss": loss if math.isfinite(loss) else None,  # weights of a run that diverged
        "acc": acc,
    }
    if json:
        print_json(result)
    else:
        print(f"{data.title}, {len(data.test):,} test images, {framework.name}: loss {loss:.4f}, acc {acc:.4f}")
    return 0
