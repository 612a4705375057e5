"""What would make training slow or wrong here: machine, variables, threads, versions; it measures nothing.

A finding is "ok", "slow" (what to do stands beside it), "wrong", or "absent": a framework that nobody has asked for.
Those about a run (`nin_multi.diagnosis`) may be a "note" too: worth knowing, and nothing wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement

from nin_multi import launcher, machine, tuning_store
from nin_multi.backend import Backend, cores
from nin_multi.tuning_store import Entry

SCARCE = 2e9  # bytes of memory below which the chapter's batch will not fit
BUSY = 0.5  # of the cores, wanted by somebody else

# What else is known to change speed, where a user has set it.
_TELLING = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
_WHY = {
    "OMP_NUM_THREADS": "threads of every product",
    "MALLOC_MMAP_THRESHOLD_": "large blocks stay in the process",
    "MALLOC_TRIM_THRESHOLD_": "freed blocks stay in the process",
    "MALLOC_TOP_PAD_": "the heap grows in large steps",
    "MALLOC_ARENA_MAX": "all threads share one heap",
    "ONEDNN_MAX_CPU_ISA": "which of its kernels oneDNN takes",
    "GLOG_v": "errors only, no warnings",
}


@dataclass(frozen=True)
class Finding:
    """One line: how it is, about what ("machine", a backend), what was seen, and what to do (empty: nothing)."""

    verdict: str
    about: str
    what: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def describe_machine() -> dict[str, Any]:
    """What hangs on no framework."""
    granted = machine.granted_cores()
    return {
        **machine.describe(),
        "processors": os.cpu_count() or cores(),
        "granted_cores": granted if granted < cores() else None,
        "available_memory_bytes": machine.available_memory_bytes(),
        "huge_pages": machine.huge_pages(),
        "load": machine.load(),
    }


def judge_machine(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """What is good and bad about it."""
    sets = " ".join(facts["instruction_sets"]) or "no vector instructions that are known here"
    yield Finding("ok", "machine", f"{facts['processor']}, {_cores(facts)}, {sets}")
    if facts["granted_cores"] is not None:
        granted = facts["granted_cores"]
        what = f"a container's limit grants {granted:g} of {facts['cores']} cores"
        yield Finding("slow", "machine", what, f"set OMP_NUM_THREADS={max(int(granted), 1)}, or raise the limit")
    if facts["load"] > BUSY * facts["processors"]:
        what = f"{facts['load']:.1f} processes have been computing on {facts['processors']} cores in the last minute"
        yield Finding("slow", "machine", what, "let them end first: speeds and stored choices would be wrong")
    yield _judge_memory(facts)
    if facts["huge_pages"] == "never":
        what, remedy = "transparent huge pages are off: large tensors fault in 4 kB at a time", "have them on madvise"
        yield Finding("slow", "machine", what, remedy)
    elif facts["huge_pages"]:
        yield Finding("ok", "machine", f"transparent huge pages: {facts['huge_pages']}")


def _cores(facts: Mapping[str, Any]) -> str:
    used, there = facts["cores"], facts["processors"]
    return f"{there} cores" if used == there else f"{used} of its {there} cores (taskset, or a container)"


def _judge_memory(facts: Mapping[str, Any]) -> Finding:
    free, whole = facts["available_memory_bytes"], facts["memory_bytes"]
    what = f"{free / 1e9:.1f} of {whole / 1e9:.1f} GB of memory are free"
    if free < SCARCE:
        return Finding("slow", "machine", what, "end what holds it, or take a smaller --batch-size")
    return Finding("ok", "machine", what)


def describe_backend(backend: Backend) -> dict[str, Any]:
    """One backend, asked in its own process. Raises BackendUnavailable."""
    return {
        "name": backend.name,
        "status": "ok",
        "reason": "",
        "version": backend.version(),
        "devices": list(backend.devices()),
        "bf16": {"sets": list(backend.bf16_sets), "here": machine.has_any(backend.bf16_sets)},
        "environment": list(_variables(backend)),
        "facts": dict(backend.facts()),
        "requirements": list(_requirements(backend.name)),
        "tunings": [_row(entry, backend) for entry in tuning_store.entries() if _is_of_this_machine(entry, backend)],
    }


def unavailable(name: str, reason: str) -> dict[str, Any]:
    """As `describe_backend`, for one that cannot start."""
    nothing: dict[str, Any] = {
        "bf16": {"sets": [], "here": False},
        "environment": [],
        "facts": {},
        "requirements": list(_requirements(name)),
        "tunings": [],
    }
    return {"name": name, "status": "unavailable", "reason": reason, "version": None, "devices": [], **nothing}


def _variables(backend: Backend) -> Iterator[dict[str, Any]]:
    """What the backend asks for, and what a user has set beside that; "asked" is None there."""
    asked = backend.environment()
    ours = os.environ.get(launcher.ADDED, "").split(",")
    beside = sorted(name for name in os.environ if name.startswith(_TELLING) and name not in asked)
    for name in (*asked, *beside):
        yield {
            "name": name,
            "asked": asked.get(name),
            "actual": os.environ.get(name),
            "set_by_user": name in os.environ and name not in ours,
            "why": _WHY.get(name, ""),
        }


def _requirements(backend: str) -> Iterator[dict[str, Any]]:
    """What the extra of that name asks for, and what is there."""
    try:
        lines = requires("nin-multi") or []
    except PackageNotFoundError:
        return
    for wanted in map(Requirement, lines):
        marker = wanted.marker
        if marker is not None and marker.evaluate({"extra": backend}) and not marker.evaluate({"extra": ""}):
            there = _installed(wanted.name)
            fits = there is not None and wanted.specifier.contains(there, prereleases=True)
            yield {"name": wanted.name, "wanted": str(wanted.specifier), "installed": there, "fits": fits}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_of_this_machine(entry: Entry, backend: Backend) -> bool:
    here = machine.describe()
    same = all(entry.key.get(name) == here[name] for name in ("processor", "instruction_sets", "cores"))
    return same and entry.key.get("backend") == backend.name


def _row(entry: Entry, backend: Backend) -> dict[str, Any]:
    """A stored choice; "current" is False where it was made for other versions, and so is not used."""
    key, found = entry.key, entry.found
    now = {"framework_version": backend.version(), "nin_multi": machine.own_version()}
    return {
        "arch": entry.arch,
        **{name: key.get(name) for name in ("batch_size", "device", "precision", "framework_version", "fixed")},
        "tuning": found.tuning,
        "gain": found.gain,
        "complete": found.complete,
        "when": found.when,
        "current": all(key.get(name) == value for name, value in now.items()),
    }


def judge_backend(row: Mapping[str, Any], *, named: bool) -> Iterator[Finding]:
    """What is good and bad about one backend."""
    name = row["name"]
    if row["status"] != "ok":
        reason, _, remedy = row["reason"].partition("\n")
        is_absent = not named and "is not installed" in reason
        yield Finding("absent" if is_absent else "wrong", name, reason.removeprefix(f"{name}: "), remedy)
        return
    yield Finding("ok", name, f"{row['version']} starts; devices: {', '.join(row['devices'])}")
    for needed in row["requirements"]:
        if not needed["fits"]:
            wanted = f"; asked for is {needed['wanted']}" if needed["wanted"] else ""
            what = f"{needed['name']} {needed['installed'] or 'is not installed'}{wanted}"
            yield Finding("wrong", name, what, f"pip install -c constraints.txt 'nin-multi[{name}]'")
    yield from _judge_variables(row)
    yield from _judge_threads(row)
    if row["bf16"]["here"]:
        yield Finding("ok", name, "--precision bf16 may be faster: the processor has the instructions for it")
    elif row["bf16"]["sets"]:
        yield Finding("ok", name, machine.slow_bf16(row["bf16"]["sets"]))
    for library in ("oneDNN",):
        if row["facts"].get(library) == "no":
            yield Finding("slow", name, f"built without {library}", "install a build that has it")


def _judge_variables(row: Mapping[str, Any]) -> Iterator[Finding]:
    different = [v for v in row["environment"] if v["asked"] is not None and v["actual"] != v["asked"]]
    for variable in different:
        name, why = variable["name"], f" ({variable['why']})" if variable["why"] else ""
        what = f"{name}={variable['actual'] or ''} is set by you; asked for is {variable['asked']}{why}"
        yield Finding("slow", row["name"], what, f"unset {name}")
    if row["environment"] and not different:
        yield Finding("ok", row["name"], "all variables that it asks for are as it asks")


def _judge_threads(row: Mapping[str, Any]) -> Iterator[Finding]:
    text = row["facts"].get("threads", "")
    if not text.isdecimal():
        return
    threads, here = int(text), cores()
    words = f"threads it computes with: {threads}, cores it may use: {here}"
    if threads == here:
        yield Finding("ok", row["name"], words)
    else:
        remedy = "look for what limits it: OMP_NUM_THREADS, taskset, a container" if threads < here else "fewer do more"
        yield Finding("slow", row["name"], words, remedy)
