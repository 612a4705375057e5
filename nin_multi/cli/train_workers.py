"""`train --workers`: whether this command has workers started, is one of them, or trains alone; options for that."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nin_multi.cli.common import note

if TYPE_CHECKING:
    from nin_multi.backend import Backend
    from nin_multi.training.recipe import Recipe
    from nin_multi.training.run_directory import RunDirectory
    from nin_multi.workers.group import Group

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes that share every batch, through the framework's own launcher; within torchrun or msrun as many "
        "as that has started; as many tasks of Slurm's srun are workers if it is given there. 1 if not given.",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", metavar="N", min=1, max=65535, help="Where workers meet; a free one if not given."),
]
JoinOption = Annotated[
    float, typer.Option("--join-timeout", metavar="SECONDS", min=1.0, help="How long workers wait for one another.")
]
RestartsOption = Annotated[
    int,
    typer.Option(
        "--restarts",
        metavar="N",
        min=0,
        help="How often all workers start again from the last checkpoint after one has died (torch).",
    ),
]


class Joining:
    """The part that this command has in a run of `size` workers. Raises UsageError where it can have none."""

    def __init__(self, backend: str, workers: int | None, seconds: float, port: int | None, restarts: int) -> None:
        from nin_multi import registry
        from nin_multi.errors import UsageError
        from nin_multi.workers.seat import Seat
        from nin_multi.workers.slurm import take_in

        self.backend = backend
        self._beside = take_in(backend, workers, port, seconds)
        self.place = registry.load(backend).place()
        self.size = workers or 1
        self.seconds, self.port, self.restarts = seconds, port, restarts
        self._seat: Seat | None = None
        self._group: Group | None = None
        if self.place is not None:
            if workers not in (None, self.place.size):
                raise UsageError(
                    f"--workers {workers}: this process is one of {self.place.size} by its launcher's word"
                )
            self.size = self.place.size
            self._seat = Seat(self.size) if self.place.is_worker else None

    @property
    def leads(self) -> bool:
        """Whether the workers are still to be started."""
        return self.size > 1 and self.place is None

    def check(self, recipe: Recipe) -> None:
        """What can be wrong with starting workers, before anything is made for them. Raises UsageError."""
        from nin_multi import registry
        from nin_multi.training.job import check_workers
        from nin_multi.workers.conductor import free_port
        from nin_multi.workers.launch import Launch

        check_workers(self.size, recipe, recipe.train_examples or recipe.batch_size)
        port = free_port(self.port)
        registry.load(self.backend).launch(Launch((), self.size, port, self.seconds, self.restarts, Path()))

    @property
    def has_restarted(self) -> bool:
        return self.place is not None and self.place.restart > 0

    @property
    def writes(self) -> bool:
        """Whether it is this process that says what came of it."""
        is_watched = self._seat is not None and self._seat.is_watched
        return not is_watched and (self._group is None or self._group.rank == 0)

    def check_tune(self, tune: str) -> str:
        """How knobs are set: nothing is measured where several would have to measure the same. Raises UsageError."""
        from nin_multi.errors import UsageError

        if self.size > 1 and tune == "now":
            raise UsageError("--tune now: several workers measure nothing; --set chooses knobs for all of them")
        return "off" if self.size > 1 else tune

    def settle(self, framework: Backend) -> None:
        """The process is the one that trains. One that only serves the others does so now, and ends."""
        if self._seat is not None:
            self._seat.settle()
        elif self.place is not None:
            from nin_multi.launcher import end_with_parent

            end_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it waits in native code, where Python answers nothing
            framework.join("cpu", self.seconds)

    def device(self, framework: Backend) -> str:
        """Where nobody has named one: the best, or among several GPUs each worker's own."""
        devices = framework.devices()
        gpus = [device for device in devices if device != "cpu"]
        return gpus[self.place.local % len(gpus)] if self.place is not None and gpus else devices[0]

    def group(self, framework: Backend, device: str) -> Group:
        """Those who train together. Raises WorkerLost, UsageError."""
        from nin_multi.workers.group import Alone

        if self.place is None:
            return Alone()
        from nin_multi.workers.group import WorkerLost

        self._beside.start()
        try:
            self._group = group = framework.join(device, self.seconds)
        except WorkerLost as error:
            raise WorkerLost(f"{error}\nStart all {self.size} of them; --join-timeout waits longer.") from None
        if self._seat is not None:
            self._seat.sit(group.rank)
        return group

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """A block whose error is told to who watches the workers."""
        try:
            yield
        except BaseException as error:
            if self._seat is not None:
                status = getattr(error, "exit_status", 1)
                kind = type(error).__name__
                text = str(error) if hasattr(error, "exit_status") else f"{kind}: {error}"
                self._seat.end({"error": {"type": kind, "message": text, "exit_status": status}})
            raise

    def end(self, result: dict[str, Any]) -> None:
        """Tell who watches the workers what came of it."""
        self._beside.end()
        if self._seat is not None:
            self._seat.end(result)


def lead(joining: Joining, directory: RunDirectory, more: list[str]) -> dict[str, Any]:
    """Have the workers started with this command's own words and `more`; the result of worker 0."""
    from nin_multi.training.run_directory import RUN
    from nin_multi.workers.conductor import Crew, conduct

    words = (*(word for word in sys.argv[1:] if word != "--json"), *more)
    crew = Crew(joining.backend, words, directory, joining.size, joining.port, joining.seconds, joining.restarts)
    try:
        return conduct(crew, note)
    finally:
        if not (directory.path / RUN).exists():
            directory.abandon()
