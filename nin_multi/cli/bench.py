"""`bench`: training throughput, our harness against the framework's own loop."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nin_multi.cli.common import (
    ArchOption,
    DataDirOption,
    DatasetOption,
    JsonOption,
    console,
    load_architecture,
    named_backends,
    note,
    one_backend,
    print_json,
    table,
)
from nin_multi.cli.train import BatchOption, DeviceOption, PrecisionOption

BackendsOption = Annotated[str, typer.Option("--backend", metavar="A,B,...", help="Backends to measure.")]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Steps per round.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Counted rounds, after one that is not.")]


def bench(
    backend: BackendsOption = "torch,mindspore,mxnet",
    arch: ArchOption = "nin",
    batch_size: BatchOption = 128,
    steps: StepsOption = 3,
    rounds: RoundsOption = 5,
    dataset: DatasetOption = "auto",
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    json: JsonOption = False,
) -> int:
    """Images per second in training: the harness and the framework's own bare loop, in alternating rounds."""
    from nin_multi import launcher
    from nin_multi.errors import raise_again

    names = named_backends(backend)
    flags = {"--arch": arch, "--batch-size": batch_size, "--steps": steps, "--rounds": rounds, "--dataset": dataset}
    flags |= {"--data-dir": data_dir, "--device": device, "--precision": precision}
    arguments = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    if len(names) == 1:
        found = _measure(names[0], arch, batch_size, steps, rounds, dataset, data_dir, device, precision)
    else:
        found = {"machine": {}, "rows": []}
        for name in names:
            note(f"--- {name}")
            result = launcher.Child(name, ["bench", "--backend", name, *arguments], quiet=False).result()
            if result.answer is None or "rows" not in result.answer:
                raise_again(result.answer, result.failure())
            found = {"machine": result.answer["machine"], "rows": found["rows"] + result.answer["rows"]}
    if json:
        print_json(found)
    else:
        _print_table(found)
    return 0


def _measure(
    name: str,
    arch: str,
    batch_size: int,
    steps: int,
    rounds: int,
    dataset: str,
    data_dir: Any,
    device: Any,
    precision: Any,
) -> dict[str, Any]:
    """One backend, in this process."""
    architecture = load_architecture(arch, None)
    framework = one_backend(name, precision)
    from nin_multi.bench import bench as measure
    from nin_multi.data import load_dataset

    return measure(
        framework,
        architecture,
        load_dataset(dataset, data_dir, report=note),
        device=device or framework.devices()[0],
        precision=precision or framework.precisions[0],
        batch_size=batch_size,
        steps=steps,
        rounds=rounds,
        report=note,
    )


def _print_table(found: dict[str, Any]) -> None:
    peak = found["machine"]["matmul_gflops"]["fp32"]
    rows = found["rows"]
    title = f"{rows[0]['arch']}, batch {rows[0]['batch_size']}, {rows[0]['precision']}"
    grid = table(title, "framework", "what", right=("images/s", "spread", "share of peak"))
    for row in rows:
        cells = (f"{row['examples_per_sec']:.1f}", f"{row['spread']:.0%}", f"{row['peak_share']:.0%}")
        grid.add_row(f"{row['backend']} {row['framework_version']}", row["what"], *cells)
    console().print(grid)
    console().print(
        f"{found['machine']['processor']}, {found['machine']['cores']} cores, matrix peak {peak:.0f} GFLOP/s in fp32."
    )
