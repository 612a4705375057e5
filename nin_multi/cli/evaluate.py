"""`evaluate`: stored weights of a run under any backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nin_multi.cli.common import DataDirOption, JsonOption, note, one_backend, print_json
from nin_multi.cli.train import DeviceOption, PrecisionOption, TestOption

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
BackendOption = Annotated[str | None, typer.Option("--backend", help="Which one; the run's own if not given.")]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="The run's own if not given.")]


def evaluate(
    run: RunArgument,
    backend: BackendOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    test_examples: TestOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    json: JsonOption = False,
) -> int:
    """Mean cross-entropy and accuracy of a run's weights on the first N test images."""
    from nin_multi.training.run_directory import WEIGHTS, RunDirectory
    from nin_multi.weights import load_weights

    directory = RunDirectory.open(run)
    facts = directory.facts()
    framework = one_backend(backend or str(facts["backend"]))
    stored = load_weights(run / WEIGHTS)
    network = framework.build(
        stored.architecture,
        stored.params,
        device=device or framework.devices()[0],
        precision=precision or framework.precisions[0],
    )
    from nin_multi.data import load_dataset
    from nin_multi.training import loop

    data = load_dataset(dataset or facts["dataset"]["name"], data_dir, report=note).head(None, test_examples)
    loss, acc = loop.evaluate(network, stored.architecture, data.test, facts["recipe"]["batch_size"])
    result: dict[str, Any] = {
        "run": str(run),
        "backend": framework.name,
        "dataset": data.name,
        "synthetic": data.synthetic,
        "examples": len(data.test),
        "loss": loss,
        "acc": acc,
    }
    if json:
        print_json(result)
    else:
        print(f"{data.title}, {len(data.test):,} test images, {framework.name}: loss {loss:.4f}, acc {acc:.4f}")
    return 0
