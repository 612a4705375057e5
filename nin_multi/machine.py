"""What a result was measured on: processor, memory, versions; it names no person and no host."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nin_multi.backend import cores

ROOT = Path("/")
# The files of a group of processes (cgroup) of either version: its limit, what it holds, and of that unused files.
_CGROUP_2 = ("memory.max", "memory.current", "inactive_file")
_CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
# The instruction sets that decide how fast a convolution can be.
_TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


def describe() -> dict[str, object]:
    """Processor, its telling instruction sets, cores we may use, memory in bytes, system."""
    model, flags = _processor()
    return {
        "processor": model,
        "instruction_sets": [name for name in _TELLING if name in flags],
        "cores": cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
    }


def has_any(sets: Iterable[str]) -> bool:
    """Whether the processor has one of these instruction sets."""
    return not _processor()[1].isdisjoint(sets)


def slow_bf16(sets: Iterable[str]) -> str:
    """Why bf16 is not worth choosing, for people, where the processor has none of the sets that make it fast."""
    return f"bf16 is no faster than fp32 on this processor, which has no {' and no '.join(sets)}"


def versions(backend: str, framework_version: str) -> dict[str, str]:
    """Versions of everything that can change a result."""
    found = {"python": platform.python_version(), "nin_multi": own_version(), backend: framework_version}
    for package in ("numpy", "safetensors"):
        found.setdefault(package, version(package))
    return found


def own_version() -> str:
    """This project's version, "0+unknown" where it is not installed."""
    try:
        return version("nin-multi")
    except PackageNotFoundError:
        return "0+unknown"


def chosen_environment(names: Mapping[str, str]) -> dict[str, str]:
    """The variables a backend asks for, as they really are in this process."""
    return {name: os.environ.get(name, "") for name in names}


def peak_memory_bytes() -> int:
    """The most memory this process has held resident."""
    try:
        # Linux hands ru_maxrss of the process that starts another on to it; VmHWM begins anew.
        return _kilobytes(ROOT / "proc/self/status", "VmHWM:")
    except (OSError, IndexError):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def process_age_seconds(root: Path = ROOT) -> float | None:
    """How long ago this process was started, also where it has become another program since; None if nobody says."""
    try:
        # What follows the program's name, which may hold anything; the start is the table's 22nd field.
        fields = (root / "proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(since_boot - int(fields[19]) / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, AttributeError, IndexError, ValueError):  # only Linux has these
        return None


def resident_memory_bytes(root: Path = ROOT) -> int:
    """What this process holds in memory now; 0 where the system does not say."""
    try:
        return _kilobytes(root / "proc/self/status", "VmRSS:")
    except (OSError, IndexError, ValueError):
        return 0


def available_memory_bytes(root: Path = ROOT) -> int:
    """What this process can still have without swapping; where the system does not say, all that it has.

    The least of what the system has left, what a container's limits leave, and what `ulimit -v` leaves.
    """
    try:
        system = _kilobytes(root / "proc/meminfo", "MemAvailable:")
    except (OSError, IndexError, ValueError):
        system = _memory_bytes()
    return max(min((system, *_left_by_containers(root), *_left_by_limits(root))), 0)


def granted_memory_bytes(root: Path = ROOT) -> int:
    """What this machine has, or the container that this process is in; 0 where the system does not say."""
    limits = [_memory_bytes()]
    for folder, files in _groups(root):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            limits.append(int((folder / files[0]).read_text()))
    return min((limit for limit in limits if limit > 0), default=0)


def _left_by_containers(root: Path) -> Iterator[int]:
    """What each group of processes that this one is in may still have: its own, and all above it."""
    for folder, files in _groups(root):
        try:
            yield _left_in_group(folder, files)
        except (OSError, IndexError, ValueError):  # "max" is no number: no limit
            continue


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of the groups of processes (cgroups) with a say on memory, the outermost first, and their files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if "memory" in controllers.split(","):
            version, base = _CGROUP_1, root / "sys/fs/cgroup/memory"
        elif not controllers:
            version, base = _CGROUP_2, root / "sys/fs/cgroup"
        else:
            continue
        # In a container, the path may be the host's, and only its end is there to be seen, or nothing of it.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            yield base.joinpath(*parts[:depth]), version


def _left_in_group(folder: Path, version: tuple[str, str, str]) -> int:
    limit, used, unread = version
    free = int((folder / limit).read_text()) - int((folder / used).read_text())
    # The files it has read count as its own, and are given up when memory is needed.
    return free + int((folder / "memory.stat").read_text().partition(f"{unread} ")[2].split()[0])


def _left_by_limits(root: Path) -> Iterator[int]:
    """What the limits that a shell sets leave: of addresses, whether or not there is memory behind them."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    for limit, field in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            try:
                yield most - _kilobytes(root / "proc/self/status", field)
            except (OSError, IndexError, ValueError):
                yield most


def _kilobytes(path: Path, field: str) -> int:
    """A field of one of Linux's tables, in bytes."""
    return int(path.read_text().partition(field)[2].split()[0]) * 1024


def huge_pages() -> str:
    """The mode of transparent huge pages: "always", "madvise", "never"; empty where there are none of the kind."""
    try:
        modes = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return ""
    return modes.partition("[")[2].partition("]")[0]


def granted_cores() -> float:
    """How many processors' time a container's limit leaves this process; infinite where there is no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # "max" is no number: no limit
        return math.inf


def load() -> float:
    """Processes that have wanted to compute in the last minute, on average; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0


def _processor() -> tuple[str, frozenset[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", platform.machine()), frozenset(flags.split())


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
