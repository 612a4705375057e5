"""How much memory training takes: estimated from the spec, what would fit, what to say where it ran out.

The estimate is of the process's memory on the host: on another device that keeps values and gradients too, it says
how much they are, but what is free there is not known here. It errs on the high side, by up to two times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nin_multi import machine
from nin_multi.backend import Backend
from nin_multi.errors import OutOfMemory
from nin_multi.knobs import Tuning, micro_batch_knob
from nin_multi.spec import Architecture, Conv2d, SKBlock, TracedLayer

FLOAT = 4  # bytes
AHEAD = 4  # batches that stand in memory: one in use, two prepared, one in the making
BACKWARD = 2.0  # times all layers' outputs: these, and what a backward pass and its kernels hold beside them
KERNELS = 200e6  # bytes of compiled graphs, kernels and threads, which come with the first step
LEAST = 0.4  # times all layers' outputs: half of what the most frugal held in float32, as bf16 may


def activation_bytes(row: TracedLayer) -> int:
    """A layer's output for one image in float32 and what it is made from, or of a block all its layers' outputs."""
    parts = row.inner or (row,)
    return FLOAT * sum(math.prod(part.output[1:]) + part.layer.hidden_values(part.input) for part in parts)


def step_bytes(architecture: Architecture, images: int) -> int:
    """What a training step holds at least: parameters and gradients once, all layers' outputs for so many images."""
    values = sum(activation_bytes(row) for row in architecture.trace())
    return 2 * FLOAT * architecture.parameters + images * values


@dataclass(frozen=True)
class Demand:
    """A training run, as far as its memory hangs on it."""

    architecture: Architecture
    batch_size: int
    precision: str = "fp32"
    tuning: Tuning = field(default_factory=dict)
    has_momentum: bool = False
    draws_masks: bool = True

    def bytes(self) -> int:
        """What a run takes beside what its process holds before it, evaluation and checkpoints included."""
        return round(KERNELS) + self._parameters() + self._values() + self._batches()

    def least_bytes(self) -> int:
        """What no framework does with less than: parameters, gradients, the values of one pass, one batch."""
        parameters = step_bytes(self.architecture, 0)
        return parameters + round(LEAST * self._outputs()) + self._batches() // AHEAD

    @property
    def images(self) -> int:
        """How many go through the net at once."""
        size = self.tuning.get("micro_batch", "all")
        return self.batch_size if size == "all" else min(int(size), self.batch_size)

    def with_batch(self, batch_size: int) -> Demand:
        return replace(self, batch_size=batch_size)

    def with_micro_batch(self, size: str) -> Demand:
        return replace(self, tuning={**self.tuning, "micro_batch": size})

    def _parameters(self) -> int:
        """The initial ones, the net's, their gradients; then the copy that a checkpoint is, and its file's bytes."""
        moved = 2 if self.has_momentum else 1
        return FLOAT * self.architecture.parameters * (2 + 3 * moved) * self._width // FLOAT

    def _values(self) -> int:
        return round(BACKWARD * self._outputs() + 2 * self.images * self._gathered()) * self._width // FLOAT

    def _outputs(self) -> int:
        return step_bytes(self.architecture, self.images) - step_bytes(self.architecture, 0)

    def _gathered(self) -> int:
        """Bytes of the pixels under all windows of one convolution, for one image, where they are gathered."""
        if self.tuning.get("convolution") != "products":
            return 0
        return max((_rows(row) for row in self.architecture.walk()), default=0)

    def _batches(self) -> int:
        masks = self.architecture.dropouts().values() if self.draws_masks else ()
        numbers = math.prod(self.architecture.input) + sum(math.prod(shape) for _, shape in masks)
        return AHEAD * FLOAT * self.batch_size * numbers

    @property
    def _width(self) -> int:
        """Bytes of a number inside the net; where products are in bf16, parameters are not."""
        return 8 if self.precision == "fp64" else FLOAT


def _rows(row: TracedLayer) -> int:
    """Bytes of the pixels under all windows of the layer's largest convolution, for one image; 0 where it has none."""
    kernels: list[tuple[int, ...]] = []
    if isinstance(row.layer, Conv2d):
        kernels = [row.layer.kernel_size]
    if isinstance(row.layer, SKBlock):
        kernels = [branch.kernel_size for branch in row.layer.branches()]
    return max((FLOAT * row.input[1] * math.prod(kernel) * math.prod(row.output[2:]) for kernel in kernels), default=0)


def largest_batch(demand: Demand, free: int) -> int:
    """The batch asked for, or else the largest power of two below it, whose estimate fits; 0 where not even 1 does."""
    below = 2 ** (demand.batch_size - 1).bit_length()
    sizes = [demand.batch_size, *(below >> shift for shift in range(1, below.bit_length()))]
    return next((size for size in sizes if demand.with_batch(size).bytes() <= free), 0)


@dataclass(frozen=True)
class Room:
    """What was there for a run before it began."""

    held: int  # by its process
    free: int | None  # beside that; None on a device of which it is not known

    @classmethod
    def before_a_run(cls, device: str) -> Room:
        """Ask for it when the framework is there and nothing of the run is."""
        return cls(machine.resident_memory_bytes(), machine.available_memory_bytes() if device == "cpu" else None)

    def now(self) -> int | None:
        """What is there for the run now, what it has taken included: others may have taken some of it meanwhile."""
        if self.free is None:
            return None
        taken = max(machine.resident_memory_bytes() - self.held, 0)
        return min(self.free, machine.available_memory_bytes() + taken)


def check(demand: Demand, room: Room, *, allow_large: bool = False) -> str | None:
    """A warning where a run may not fit. Raises OutOfMemory where it cannot: where the least it needs is not there."""
    if room.free is None or demand.bytes() <= room.free:
        return None
    text = f"batch {demand.batch_size} may not fit: {_needed(demand, room.free)}\n{_remedy(demand, room.free)}"
    # What the process holds may be free within it: what was needed to draw or read images, say.
    if demand.least_bytes() > room.free + room.held and not allow_large:
        text = text.replace("may not fit", "does not fit", 1)
        raise OutOfMemory(f"{text} To try it anyway: --allow-large.")
    return text


def ran_out(demand: Demand, room: Room, where: str) -> OutOfMemory:
    """The error of a run whose memory ran out; `where` is such as "in step 1". Call it before anything is freed."""
    free = room.now()
    text = f"out of memory {where} at batch {demand.batch_size}: {_needed(demand, free)}"
    if free is not None and free < demand.bytes():
        return OutOfMemory(f"{text}\n{_remedy(demand, free)}")
    # It has failed, whatever the estimate says: only less than it asked for can do.
    return OutOfMemory(f"{text}\n{_remedy(demand, demand.bytes() - 1).replace('would fit', 'may fit')}")


@contextmanager
def explained(backend: Backend, demand: Demand, room: Room, where: Callable[[], str]) -> Iterator[None]:
    """A block in which memory may run out. Raises OutOfMemory for whatever the backend says that is."""
    try:
        yield
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
        raise ran_out(demand, room, where()) from error


def _needed(demand: Demand, free: int | None) -> str:
    needed = f"about {_show(demand.bytes())} are needed"
    return f"{needed}." if free is None else f"{needed}, {_show(free)} are free."


def _remedy(demand: Demand, free: int) -> str:
    """What would fit, in one sentence."""
    size = largest_batch(demand, free)
    if not size:
        least = _show(demand.with_batch(1).bytes())
        return f"Not even one image fits (about {least}): a smaller --arch or --input may, or a larger machine."
    batch = f"--batch-size {size} would fit (about {_show(demand.with_batch(size).bytes())})"
    pieces = _smaller_pieces(demand, free)
    return f"{batch}, or the same batch with --set micro_batch={pieces}." if pieces else f"{batch}."


def _smaller_pieces(demand: Demand, free: int) -> str:
    """The largest value of the knob with which the same batch fits; empty where there is none."""
    if "micro_batch" not in demand.tuning:
        return ""
    sizes = sorted((value for value in micro_batch_knob().values if value.isdecimal()), key=int, reverse=True)
    smaller = (value for value in sizes if int(value) < demand.images)
    return next((value for value in smaller if demand.with_micro_batch(value).bytes() <= free), "")


def _show(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
