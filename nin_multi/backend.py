"""The `Backend` and `Network` protocols and what both sides of them share; it names no framework and imports none.

NumPy stands at the border: arrays go in and come out, x is (N, C, H, W) float32 in [0, 1], y is (N,) int.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nin_multi.book import BookRound
from nin_multi.errors import BackendUnavailable, CheckpointError, SpecError, UnsupportedLayer
from nin_multi.knobs import Knob, Tuning
from nin_multi.named_arrays import list_misfits
from nin_multi.spec import Architecture, TracedLayer
from nin_multi.workers.group import Group
from nin_multi.workers.launch import Adoption, Launch, Place, Role, Task

Params = Mapping[str, NDArray[np.float32]]  # "block1.conv.weight": (out, in, kh, kw); ".bias": (out,)
Images = NDArray[np.float32]  # (N, C, H, W)
Labels = NDArray[np.int32]  # (N,)
Masks = Mapping[str, NDArray[np.float32]]  # dropout layer's name -> (N, ...), 0 or 1 / (1 - rate)


@dataclass(frozen=True)
class StepResult:
    """Sums over one batch, before the parameters moved: loss, correctly classified images, images.

    `logits` are the batch's (N, classes) in training mode; None where they stayed on the device.
    """

    loss: float
    correct: int
    count: int
    logits: NDArray[Any] | None = field(default=None, compare=False, repr=False)


class Network(Protocol):
    """A net of one framework, on one device, with its parameters."""

    @property
    def module(self) -> Any:
        """The framework's own net, for notebooks and for loops of one's own."""

    def activations(self, x: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        """Output of every layer in evaluation mode, keyed by the names of `Architecture.walk`."""

    def logits(self, x: Images) -> NDArray[Any]:
        """(N, classes), in evaluation mode."""

    def loss_and_gradients(self, x: Images, y: Labels, masks: Masks | None) -> tuple[float, Params]:
        """Mean cross-entropy over the batch in training mode, and its gradient for every parameter.

        `masks` stand in place of the framework's dropout; with None it draws its own.
        """

    def train_step(self, x: Images, y: Labels, masks: Masks | None, lr: float, momentum: float = 0.0) -> StepResult:
        """One step of SGD on the mean cross-entropy: v <- momentum * v + gradient, p <- p - lr * v.

        This is torch's definition: the learning rate of a step acts on the whole velocity v, which begins as 0.
        Where the loss is not finite, parameters and velocities stay as they are: they show where it began.
        """

    def params(self) -> Params:
        """Copies of the parameters, named and shaped as `Architecture.parameter_shapes`."""

    def velocities(self) -> Params:
        """Copies of the velocities, named and shaped as the parameters; empty before the first step with momentum."""

    def restore(self, params: Params, velocities: Params) -> None:
        """Put parameters and velocities (empty: all 0) in place of the net's own, bit for bit."""


class Resampling(NamedTuple):
    """How one axis of images is resized, exactly: each output is a weighted sum of a few inputs.

    The sum, in units of 2**-bits, is divided by 2**bits with halves rounded up, and is at most 255; everything fits
    int32. Of two axes the horizontal one comes first, rounded to uint8 in between.
    """

    rows: NDArray[np.intp]  # (taps, out): which inputs
    weights: NDArray[Any]  # (taps, out), whole numbers, never negative
    bits: int  # at least 1


class Resident(Protocol):
    """One split of a data set on a network's device, and training and evaluation that need no batches from outside."""

    def train(
        self,
        batches: Sequence[NDArray[np.intp]],
        masks: Iterator[Masks] | None,
        lr: float | Sequence[float],
        momentum: float = 0.0,
    ) -> StepResult:
        """Steps as `Network.train_step` has them, one for each batch of image numbers (n,); sums over all of them.

        `lr` is that of all steps, or one for each. From a step on whose loss is not finite nothing moves any more.

        The host waits for the device once, at the end. Each step takes the next of `masks`; with None the framework
        draws its own.
        """

    def logits(self, count: int | None = None) -> NDArray[Any]:
        """(N, classes) of all images in their stored order, in evaluation mode; or of the first `count`."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """A block in which anything may be trained: parameters, velocities and draws are then as they were before.

        What is compiled, planned or captured within stays. Velocities that there were none of may be zeros after it.
        """


@runtime_checkable
class HoldsImages(Protocol):
    """What a `Network` may offer beside its own methods: to keep the images where it computes."""

    def resident(
        self, images: NDArray[np.uint8], labels: Labels, resampling: tuple[Resampling | None, Resampling | None]
    ) -> Resident | None:
        """The split (N, h, w) on the network's device; None where the network wants its batches from outside.

        Asked again with the very same array, it is the same object, with all that was compiled or captured for it.

        `resampling` says how its vertical and its horizontal axis are resized, None where they stay as they are.
        """


class Backend(Protocol):
    """One framework. Asking for `name`, `precisions` or `environment()` must not import it."""

    @property
    def name(self) -> str:
        """The registry's key."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What `build` takes, the default first."""

    @property
    def bf16_sets(self) -> tuple[str, ...]:
        """The instruction sets, as `machine` names them, any of which makes bf16 fast on a CPU; empty: no bf16."""

    def version(self) -> str:
        """The framework's version. Raises BackendUnavailable where it cannot be imported."""

    def devices(self) -> tuple[str, ...]:
        """Devices usable now, best first, such as ("cuda:0", "cpu")."""

    def facts(self) -> Mapping[str, str]:
        """What the framework says of how it computes here, in its own words, the threads in use under "threads".

        Under a device's name stands what that device is. Raises BackendUnavailable.
        """

    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]:
        """Variables that a fast and correct process must start with; None stands for the defaults."""

    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]:
        """What can be chosen in how this net is computed there; none for a backend that knows one way only."""

    def build(
        self,
        architecture: Architecture,
        params: Params,
        *,
        device: str,
        precision: str,
        seed: int | None = None,
        tuning: Tuning | None = None,
    ) -> Network:
        """The framework's net for an architecture. `seed` sets the framework's own draws; None leaves them alone.

        A knob that `tuning` does not name has its default.

        Raises CheckpointError, UnsupportedLayer, BackendUnavailable, UsageError (tuning).
        """

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error, of this framework or of Python, says that memory could not be had, here or on its device.

        The framework must not be imported for the answer: what it has not raised is no error of its own.
        """

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        """The framework's own training loop on one batch in memory, for `bench`: steps in, seconds out."""

    @property
    def bare_tuning(self) -> Tuning:
        """The knobs whose environment that loop needs to be at its best; empty where it is the harness's own."""

    @property
    def warm_up_steps(self) -> int:
        """After how many steps of a net its speed is its own: until then the framework compiles, plans and tunes."""

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        """Seconds that the framework's product of two (size, size) matrices takes, each time it is called."""

    def layer_times(
        self,
        architecture: Architecture,
        params: Params,
        x: Images,
        *,
        device: str,
        precision: str,
        repeats: int,
        tuning: Tuning | None = None,
    ) -> Iterator[tuple[str, float, float]]:
        """Name, seconds forward and seconds backward of each layer in training mode, each alone, on what comes to it.

        Medians of `repeats`, after warming up. Layers inside a block count one by one; the first layer's backward pass
        leaves out the gradient by the images, which training does not need.
        """

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        """The book's own training, its own loader included, of the images in a folder of the data set's four files.

        The clock runs from asking the loader for the first batch to the end of the last step. Raises
        BackendUnavailable where the book's code is not installed or has none for this framework.
        """

    def source(self, architecture: Architecture) -> str:
        """The net as a program of its own, as a person would write it: Python that needs the framework alone.

        Nothing of the framework is imported for writing it. Its parameters have the names of the spec. Raises
        UnsupportedLayer, or UsageError where the backend writes no programs.
        """

    @property
    def weights_suffixes(self) -> tuple[str, ...]:
        """How the names of the framework's own weights files end, such as (".params",); the first is the usual one."""

    @property
    def relu_takes_an_index(self) -> bool:
        """Whether in nets written by hand a ReLU is a child of its own, and so counts in parameters' names."""

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        """Arrays of float32, float16 or float64 by the file's own names, in its order; bfloat16 comes as float32.

        Never runs what stands in the file. Raises CheckpointError for all that is not a whole file of that kind,
        BackendUnavailable where the framework is needed and missing, UsageError where it has no such files.
        """

    def write_weights(self, path: Path, named: Params) -> None:
        """A file that the framework's own loader reads; what was at `path` is replaced at once. Raises RunError."""

    def place(self) -> Place | None:
        """What its launcher's variables say of this process; None where it was not started as one of several."""

    def launch(self, launch: Launch) -> Sequence[Role]:
        """The processes that several workers are made of, by the framework's own launcher where it has one.

        Nothing of the framework is imported for it. Raises UsageError where one worker is all there can be.
        """

    def adopt(self, task: Task) -> Adoption:
        """What makes a process one of several workers that something else than the framework's launcher has started.

        Nothing of the framework is imported for it. Raises UsageError where one worker is all there can be.
        """

    def join(self, device: str, seconds: float) -> Group:
        """Meet the other workers, for at most so many seconds. A process that is no worker serves them, and ends here.

        Raises WorkerLost for those who do not come, UsageError for a place that cannot be taken.
        """


def cores() -> int:
    """Processors this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_request(backend: Backend, device: str, precision: str) -> None:
    """Raises BackendUnavailable unless the backend offers this device and precision here."""
    if precision not in backend.precisions:
        offered = ", ".join(backend.precisions)
        raise BackendUnavailable(f"{backend.name}: no precision {precision!r} here; it offers {offered}")
    if device not in backend.devices():
        usable = ", ".join(backend.devices())
        remedy = _device_remedy(backend, device)
        raise BackendUnavailable(f"{backend.name}: device {device!r} is not here; usable now: {usable}\n{remedy}")


def _device_remedy(backend: Backend, asked: str) -> str:
    """What to do where a device is not there."""
    gpus = [device for device in backend.devices() if device != "cpu"]
    if gpus:
        return f"Its GPUs are called {', '.join(gpus)} here; without --device it takes {backend.devices()[0]}."
    if asked.partition(":")[0].lower() in ("cuda", "gpu"):
        return (
            f"{backend.name} {backend.version()} sees no GPU: leave --device out for the CPU, or install a build of it "
            "with CUDA, and NVIDIA's driver."
        )
    return f"Leave --device out for {backend.devices()[0]}."


def check_params(architecture: Architecture, params: Params) -> None:
    """Raises CheckpointError unless the parameters have the architecture's names and shapes."""
    expected = architecture.parameter_shapes()
    missing, unexpected = [n for n in expected if n not in params], [n for n in params if n not in expected]
    misshapen = [
        f"{n} {tuple(params[n].shape)} for {shape}"
        for n, shape in expected.items()
        if n in params and tuple(params[n].shape) != shape
    ]
    if problems := list_misfits(missing, unexpected, misshapen):
        raise CheckpointError(f"parameters do not belong to architecture {architecture.name!r}: {problems}")


def unsupported(backend: str, traced: TracedLayer) -> UnsupportedLayer:
    """The error for a layer type that an adapter has no form of."""
    return UnsupportedLayer(f"{backend}: no form of layer {traced.name!r} ({traced.layer.type})")


def refuse_taken_names(backend: str, container: object, layers: Iterable[TracedLayer]) -> None:
    """Raises SpecError for a layer called what the framework's own container of layers has already, such as `train`."""
    for traced in layers:
        if hasattr(container, traced.child_name):
            text = f"{backend}: layer {traced.name!r}: {type(container).__name__} has a {traced.child_name!r} already"
            raise SpecError(f"{text}; choose another name")
