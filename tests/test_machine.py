"""What a result was measured on: facts against the system's own tools, and no name of a person or host."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nin_multi import machine


def test_describe_has_the_facts_of_this_machine() -> None:
    facts = machine.describe()
    assert set(facts) == {"processor", "instruction_sets", "cores", "memory_bytes", "system"}
    assert facts["cores"] == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert facts["system"] == f"{os.uname().sysname} {os.uname().release}"
    assert facts["processor"]
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")
def test_memory_and_instruction_sets_are_the_kernels() -> None:
    facts = machine.describe()
    kilobytes = int(re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text()).group(1))
    assert facts["memory_bytes"] == pytest.approx(kilobytes * 1024, rel=0.01)
    words = set(Path("/proc/cpuinfo").read_text().split())
    assert set(facts["instruction_sets"]) == words & {
        "avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve"
    }  # fmt: skip


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc")
def test_instruction_sets() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    for sets in (("avx512_bf16", "amx_bf16"), ("amx_bf16",), ("fpu", "amx_bf16"), ("asimd",)):
        assert machine.has_any(sets) is any(name in words for name in sets), sets
    assert not machine.has_any(())


def test_it_names_no_person_and_no_host() -> None:
    text = json.dumps([machine.describe(), machine.versions("numpy", "1")])
    assert socket.gethostname() not in text
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", text)


def test_cores_are_those_the_process_may_use() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from nin_multi import machine; print(machine.describe()['cores'])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


def test_versions() -> None:
    assert machine.versions("torch", "9.8.7") == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "nin_multi": importlib.metadata.version("nin-multi"),
        "torch": "9.8.7",
        "numpy": np.__version__,
        "safetensors": importlib.metadata.version("safetensors"),
    }
    assert platform.python_version() == machine.versions("torch", "9.8.7")["python"]


def test_chosen_environment_is_what_the_process_really_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    asked = {"OMP_NUM_THREADS": "2", "MALLOC_TOP_PAD_": "1"}
    assert machine.chosen_environment(asked) == {"OMP_NUM_THREADS": "7", "MALLOC_TOP_PAD_": ""}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_peak_memory_is_this_processes_own() -> None:
    """Linux hands the peak of the process that starts another on to it: here the parent holds the most."""
    held = np.ones(400_000_000, np.uint8)
    code = """if True:
        import re, numpy
        from nin_multi import machine
        numpy.ones(150_000_000, 'u1')
        kilobytes = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)
        print(machine.peak_memory_bytes(), 1024 * int(kilobytes))"""
    peak, kernel = map(int, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert held.all()
    assert 150e6 < kernel < 300e6
    assert peak == pytest.approx(kernel, rel=0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_s_age_counts_on_where_it_becomes_another_program() -> None:
    code = "import os, sys, time; time.sleep(0.5); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    then = "from nin_multi import machine; print(machine.process_age_seconds())"
    began = time.monotonic()
    age = float(subprocess.check_output([sys.executable, "-c", code, then], text=True))
    assert 0.49 <= age <= time.monotonic() - began + 0.02  # the kernel counts in hundredths


def test_a_name_with_spaces_and_brackets(tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    fields = " ".join(str(number) for number in range(3, 53))
    (tmp_path / "proc" / "self" / "stat").write_text(f"7 (a) 9 (b) S {fields.partition(' ')[2]}\n")
    age = machine.process_age_seconds(tmp_path)
    if age is not None:
        assert age == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME) - 22 / os.sysconf("SC_CLK_TCK"), abs=5)
    assert machine.process_age_seconds(tmp_path / "elsewhere") is None


def test_what_doctor_asks() -> None:
    free = machine.available_memory_bytes()
    assert 0 < free <= machine.describe()["memory_bytes"]
    assert machine.huge_pages() in ("", "always", "madvise", "never")
    assert machine.granted_cores() > 0
    assert machine.load() >= 0


def _files(monkeypatch: pytest.MonkeyPatch, **content: str) -> None:
    """From here on every file is the one whose name ends so, or none."""

    def read(path: Path, *_: object, **__: object) -> str:
        if path.name.replace(".", "_") not in content:
            raise FileNotFoundError
        return content[path.name.replace(".", "_")]

    monkeypatch.setattr(Path, "read_text", read)


def test_on_another_system_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    _files(monkeypatch)
    assert machine.huge_pages() == ""
    assert machine.granted_cores() == math.inf
    assert machine.available_memory_bytes() == machine.describe()["memory_bytes"]


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000\n", math.inf), ("150000 100000\n", 1.5), ("odd", math.inf)]
)
def test_a_containers_limit(monkeypatch: pytest.MonkeyPatch, text: str, expected: float) -> None:
    _files(monkeypatch, cpu_max=text)
    assert machine.granted_cores() == expected


def test_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    _files(monkeypatch, enabled="always [madvise] never\n", meminfo="MemTotal: 9 kB\nMemAvailable:  7 kB\n")
    assert machine.huge_pages() == "madvise"
    assert machine.available_memory_bytes() == 7 * 1024
