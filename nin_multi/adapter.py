"""What adapters stand on: a backend whose work lies in modules of its own package, imported when it is asked for.

Nobody has to use it: the contract is `nin_multi.backend.Backend`.
"""

from __future__ import annotations

import errno
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from nin_multi import machine
from nin_multi.backend import Images, Labels, Network, Params, check_params, check_request
from nin_multi.book import BookRound
from nin_multi.errors import BackendUnavailable, UsageError
from nin_multi.knobs import Knob, Tuning, complete_tuning
from nin_multi.layer_times import layer_times
from nin_multi.spec import Architecture
from nin_multi.workers.group import Group
from nin_multi.workers.launch import Adoption, Launch, Place, Role, Task

SCARCE = 10**9  # bytes; with more to be had, no thread and no kernel fails for want of memory
_ALSO_SAID = ("can't start new thread", "Resource temporarily unavailable", "could not create a primitive")


class Adapter(ABC):
    """The backend `NAME` of a package `nin_NAME`, whose other modules import the framework at their top.

    What the framework itself knows is left to the subclass; the requests that mean the same for every framework are
    checked here, and handed on to the module whose matter they are: `bare`, `layer_times`, `book`, `source`,
    `weights_file`, `roles` and `group`.
    """

    name: str
    precisions: tuple[str, ...]
    bf16_sets: tuple[str, ...] = ()
    weights_suffixes: tuple[str, ...]
    relu_takes_an_index: bool
    warm_up_steps: int
    memory_words: tuple[str, ...] = ()  # what its errors say where memory could not be had
    weights_need_framework = True  # whether the module `weights_file` works with the framework only

    @abstractmethod
    def devices(self) -> tuple[str, ...]: ...

    @abstractmethod
    def facts(self) -> Mapping[str, str]: ...

    @abstractmethod
    def environment(self, precision: str | None = None, tuning: Tuning | None = None) -> Mapping[str, str]: ...

    @abstractmethod
    def knobs(self, architecture: Architecture, *, device: str, precision: str) -> tuple[Knob, ...]: ...

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Set the framework's own draws."""

    @abstractmethod
    def network(
        self, architecture: Architecture, params: Params, device: str, precision: str, tuning: Tuning
    ) -> Network:
        """The framework's net. All is checked, the framework started, and every knob has its value."""

    def framework(self) -> Any:
        """The framework itself. Raises BackendUnavailable where it cannot be imported."""
        return import_framework(self.name, extra=self.name)

    def start(self, device: str) -> None:
        """Make the framework ready to compute there: for most it is enough to be imported."""
        self.framework()

    @property
    def bare_tuning(self) -> Tuning:
        return {}

    def version(self) -> str:
        return str(self.framework().__version__)

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
        check_request(self, device, precision)
        check_params(architecture, params)
        chosen = complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        self.start(device)
        if seed is not None:
            self.seed(seed)
        return self.network(architecture, params, device, precision, chosen)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """By what is said: frameworks have no class of their own for it, or not for all of it."""
        if isinstance(error, OSError):
            return error.errno == errno.ENOMEM
        said = str(error) if isinstance(error, RuntimeError) else ""
        # These may have other causes: a limit on threads, a computation that a library cannot do.
        doubtful = any(words in said for words in _ALSO_SAID) and machine.available_memory_bytes() < SCARCE
        return isinstance(error, MemoryError) or any(words in said for words in self.memory_words) or doubtful

    def bare_loop(
        self, architecture: Architecture, params: Params, x: Images, y: Labels, *, device: str, precision: str
    ) -> Callable[[int], float]:
        network = self.build(architecture, params, device=device, precision=precision)
        run: Callable[[int], float] = self._module("bare").bare_loop(network, x, y)
        return run

    def matrix_product(self, size: int, *, device: str, precision: str) -> Callable[[], float]:
        check_request(self, device, precision)
        self.start(device)
        run: Callable[[], float] = self._module("bare").product(size, device, precision)
        return run

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
        network = self.build(architecture, params, device=device, precision=precision, tuning=tuning)
        chosen = complete_tuning(self.knobs(architecture, device=device, precision=precision), tuning)
        timed = self._module("layer_times")
        return layer_times(timed, network, x, chosen, warm_up=self.warm_up_steps, repeats=repeats)

    def book_loop(
        self, architecture: Architecture, files: Path, *, device: str, batch_size: int
    ) -> Callable[[], BookRound]:
        check_request(self, device, "fp32")
        run: Callable[[], BookRound] = self._module("book").book_loop(architecture, files, device, batch_size)
        return run

    def source(self, architecture: Architecture) -> str:
        text: str = self._own("source", "writes no programs").source(architecture)
        return text

    def read_weights(self, path: Path) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = self._weights_file().read(path)
        return arrays

    def write_weights(self, path: Path, named: Params) -> None:
        self._weights_file().write(path, named)

    def place(self) -> Place | None:
        try:
            roles = self._own("roles", "trains with one worker")
        except UsageError:
            return None
        found: Place | None = roles.place()
        return found

    def launch(self, launch: Launch) -> Sequence[Role]:
        found: Sequence[Role] = self._own("roles", "trains with one worker").launch(launch)
        return found

    def adopt(self, task: Task) -> Adoption:
        found: Adoption = self._own("roles", "trains with one worker").adopt(task)
        return found

    def join(self, device: str, seconds: float) -> Group:
        roles = self._own("roles", "trains with one worker")
        self.framework()
        group: Group = self._module("group").join(roles.place(), device, seconds)
        return group

    def _own(self, module: str, otherwise: str) -> Any:
        """A module that not every adapter has. Raises UsageError where this one has none."""
        try:
            return self._module(module)
        except ModuleNotFoundError as error:
            if error.name != f"nin_{self.name}.{module}":
                raise
            raise UsageError(f"{self.name} {otherwise}: its adapter has no module `{module}`") from None

    def _weights_file(self) -> Any:
        if not self.weights_suffixes:
            raise UsageError(f"{self.name} has no weights files of its own; take .safetensors")
        if self.weights_need_framework:
            self.framework()
        return self._module("weights_file")

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"nin_{self.name}.{name}")


def allocator_environment() -> dict[str, str]:
    """Keep large blocks in the process: glibc otherwise returns each one, and every step faults them in anew."""
    gigabytes = str(2**32)
    return {
        "MALLOC_MMAP_THRESHOLD_": gigabytes,
        "MALLOC_TRIM_THRESHOLD_": gigabytes,
        "MALLOC_TOP_PAD_": str(64 * 2**20),
    }


def import_framework(module: str, *, extra: str) -> ModuleType:
    """Import a framework by name. Raises BackendUnavailable, saying whether it is missing or broken."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            remedy = f"Install it: pip install -c constraints.txt 'nin-multi[{extra}]'"
            raise BackendUnavailable(f"{extra}: the package {module!r} is not installed.\n{remedy}") from None
        raise _broken(module, extra, error) from error
    except Exception as error:  # a broken framework raises anything: AttributeError, OSError, RuntimeError
        raise _broken(module, extra, error) from error


def _broken(module: str, extra: str, error: Exception) -> BackendUnavailable:
    reason = (str(error).strip().splitlines() or [""])[0]
    return BackendUnavailable(
        f"{extra}: the package {module!r} is installed but breaks on import ({type(error).__name__}: {reason}).\n"
        "Compare your versions with constraints.txt."
    )
