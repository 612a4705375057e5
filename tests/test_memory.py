"""The estimate by hand, what would fit, what is said; and what a container or a limit leaves."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nin_multi import machine, memory
from nin_multi.architecture_file import load_architecture
from nin_multi.cli.summary import summarise
from nin_multi.errors import OutOfMemory
from nin_multi.memory import Demand, Room, check, explained, largest_batch, ran_out
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Architecture

NIN = load_architecture("nin")
WHOLE = {"micro_batch": "all"}


@pytest.fixture
def tiny() -> Architecture:
    """10 numbers in, 10 out of dropout and 5 out of linear; 55 parameters."""
    layers = [{"type": "flatten"}, {"type": "dropout", "rate": 0.2}, {"type": "linear", "out_features": 5}]
    return Architecture.model_validate({"name": "tiny", "input": (1, 2, 5), "layers": layers})


# --- the estimate ----------------------------------------------------------------------------------------------------


def test_by_hand(tiny: Architecture) -> None:
    kernels, parameters, values, batches = 200e6, 5 * 4 * 55, 2 * 4 * 25 * 8, 4 * 4 * (10 + 10) * 8
    assert memory.step_bytes(tiny, 8) == 2 * 4 * 55 + 8 * 4 * 25
    assert Demand(tiny, 8).bytes() == kernels + parameters + values + batches
    assert Demand(tiny, 8, draws_masks=False).bytes() == kernels + parameters + values + batches // 2
    assert Demand(tiny, 8, has_momentum=True).bytes() == kernels + 8 * 4 * 55 + values + batches
    assert Demand(tiny, 8, tuning={"micro_batch": "2"}).bytes() == kernels + parameters + values // 4 + batches
    assert Demand(tiny, 8, tuning={"micro_batch": "16"}).bytes() == Demand(tiny, 8).bytes()
    assert Demand(tiny, 8, "fp64").bytes() == kernels + 2 * (parameters + values) + batches
    assert Demand(tiny, 8).least_bytes() == 2 * 4 * 55 + 0.4 * 4 * 25 * 8 + batches // 4


def test_pixels_gathered_for_products() -> None:
    """Block 2 of the chapter's net: 5 x 5 windows of 96 channels at 26 x 26 places, there twice."""
    plain, products = Demand(NIN, 16), Demand(NIN, 16, tuning={"convolution": "products"})
    assert products.bytes() - plain.bytes() == 2 * 16 * 4 * (5 * 5 * 96) * (26 * 26)
    assert Demand(NIN, 16, tuning={"convolution": "conv2d"}).bytes() == plain.bytes()


def test_a_block_counts_all_its_layers() -> None:
    rows = list(NIN.trace())
    inside = sum(4 * math.prod(part.output) for part in rows[0].inner)
    assert memory.activation_bytes(rows[0]) == inside == 6 * 4 * 96 * 54 * 54


def test_summary_says_the_same() -> None:
    assert summarise(NIN, 128, expand=False)["training_bytes"] == memory.step_bytes(NIN, 128)


@pytest.mark.parametrize("tuning", [WHOLE, {"micro_batch": "32"}, {"micro_batch": "16", "convolution": "products"}])
def test_more_images_never_need_less(tuning: dict[str, str]) -> None:
    needed = [Demand(NIN, size, tuning=tuning) for size in (1, 2, 16, 31, 32, 33, 512)]
    assert [each.bytes() for each in needed] == sorted({each.bytes() for each in needed})
    assert all(each.least_bytes() < each.bytes() for each in needed)


# --- what would fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [1, 2, 100, 128, 4096])
def test_the_largest_batch(asked: int) -> None:
    demand = Demand(NIN, asked, tuning=WHOLE)
    assert largest_batch(demand, demand.bytes()) == asked
    assert largest_batch(demand, 0) == 0
    assert largest_batch(demand, demand.with_batch(1).bytes()) == 1
    below = 2 ** math.ceil(math.log2(asked) - 1) if asked > 1 else 0
    assert largest_batch(demand, demand.bytes() - 1) == below


def test_it_fits_and_twice_as_many_do_not() -> None:
    demand, free = Demand(NIN, 4096, tuning=WHOLE), 5 * 10**9
    size = largest_batch(demand, free)
    assert demand.with_batch(size).bytes() <= free < demand.with_batch(2 * size).bytes()


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 GB that can be had, 1 GB held."""
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 5 * 10**9)
    monkeypatch.setattr(machine, "resident_memory_bytes", lambda: 10**9)


@pytest.mark.usefixtures("free")
def test_a_batch_that_would_fit() -> None:
    told = str(ran_out(Demand(NIN, 1024, tuning=WHOLE), Room.before_a_run("cpu"), "in step 1"))
    assert told.splitlines() == [
        "out of memory in step 1 at batch 1024: about 27.2 GB are needed, 5.0 GB are free.",
        "--batch-size 128 would fit (about 3.6 GB), or the same batch with --set micro_batch=64.",
    ]


@pytest.mark.usefixtures("free")
def test_what_the_run_has_taken_was_free_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room.before_a_run("cpu")
    assert room.now() == 5 * 10**9
    monkeypatch.setattr(machine, "resident_memory_bytes", lambda: 4 * 10**9)
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 10**9)
    assert room.now() == 4 * 10**9  # somebody else has taken 1
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 9 * 10**9)
    assert room.now() == 5 * 10**9


@pytest.mark.usefixtures("free")
def test_an_estimate_that_was_too_low() -> None:
    """It has failed with all the memory it was said to need: less is advised, never the same again."""
    told = str(ran_out(Demand(NIN, 64, tuning=WHOLE), Room.before_a_run("cpu"), "in step 3"))
    assert "--batch-size 32 may fit" in told
    assert "micro_batch=32" in told


def test_not_even_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 10**8)
    room = Room.before_a_run("cpu")
    told = str(ran_out(Demand(NIN, 128, tuning=WHOLE), room, "while building the net"))
    assert "100 MB are free" in told
    assert "Not even one image fits" in told
    assert "--arch or --input" in told
    assert len(told.splitlines()) == 2


@pytest.mark.usefixtures("free")
def test_another_device() -> None:
    """Nothing is known of what is free there; half a batch is what one tries then."""
    room, demand = Room.before_a_run("cuda:0"), Demand(NIN, 1024, tuning=WHOLE)
    assert check(demand, room) is None
    told = str(ran_out(demand, room, "in step 1"))
    assert "are needed.\n--batch-size 512 may fit" in told
    assert "free" not in told


@pytest.mark.usefixtures("free")
def test_before_a_run() -> None:
    room = Room.before_a_run("cpu")
    assert check(Demand(NIN, 128, tuning=WHOLE), room) is None
    warning = check(Demand(NIN, 512, tuning=WHOLE), room)
    assert warning is not None
    assert warning.startswith("batch 512 may not fit: about 13.7 GB are needed, 5.0 GB are free.\n--batch-size 128 ")
    with pytest.raises(OutOfMemory, match=r"(?s)^batch 4096 does not fit: .*--batch-size 128 .*--allow-large\.$"):
        check(Demand(NIN, 4096, tuning=WHOLE), room)
    assert "4096 may not fit" in str(check(Demand(NIN, 4096, tuning=WHOLE), room, allow_large=True))


def test_only_what_the_backend_calls_so_is_explained() -> None:
    room, demand = Room(0, 10**9), Demand(NIN, 64, tuning=WHOLE)
    backend = NumpyBackend()
    told = r"^out of memory in step 7 at batch 64: .* needed, .* free\."
    with pytest.raises(OutOfMemory, match=told), explained(backend, demand, room, lambda: "in step 7"):
        np.empty(2**60, np.uint8)
    with pytest.raises(ValueError, match="odd"), explained(backend, demand, room, lambda: ""):
        raise ValueError("odd")
    with explained(backend, demand, room, lambda: ""):
        pass


# --- what there is ---------------------------------------------------------------------------------------------------

GB = 2**30


def _system(root: Path, groups: str, **files: str) -> Path:
    """Linux's files below a folder: 16 GiB are available."""
    content = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {16 * GB // 1024} kB\n", "proc/self/cgroup": groups}
    for name, text in {**content, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _group_2(folder: str, limit: object, used: int, unread: int) -> dict[str, str]:
    stat = f"anon 1\nfile 2\ninactive_anon 3\nactive_anon 4\ninactive_file {unread}\nactive_file 5\n"
    base = f"sys/fs/cgroup/{folder}"
    return {f"{base}memory.max": f"{limit}\n", f"{base}memory.current": f"{used}\n", f"{base}memory.stat": stat}


def _group_1(folder: str, limit: int, used: int, unread: int) -> dict[str, str]:
    stat = f"inactive_file 1\ntotal_cache 7\ntotal_inactive_file {unread}\n"
    base = f"sys/fs/cgroup/memory/{folder}memory"
    return {
        f"{base}.limit_in_bytes": f"{limit}\n",
        f"{base}.usage_in_bytes": f"{used}\n",
        f"{base}.stat": stat,
    }


def test_no_container(tmp_path: Path) -> None:
    assert machine.available_memory_bytes(_system(tmp_path, "0::/\n")) == 16 * GB


def test_a_container_of_version_2(tmp_path: Path) -> None:
    """It sees its own group as the root."""
    root = _system(tmp_path, "0::/\n", **_group_2("", 4 * GB, 3 * GB, GB // 2))
    assert machine.available_memory_bytes(root) == GB + GB // 2


def test_no_limit_in_version_2(tmp_path: Path) -> None:
    assert machine.available_memory_bytes(_system(tmp_path, "0::/\n", **_group_2("", "max", 3 * GB, 0))) == 16 * GB


def test_groups_above_limit_too(tmp_path: Path) -> None:
    own, above = _group_2("user.slice/job/", 8 * GB, GB, 0), _group_2("user.slice/", 6 * GB, 4 * GB, 0)
    assert machine.available_memory_bytes(_system(tmp_path, "0::/user.slice/job\n", **own, **above)) == 2 * GB


def test_version_1(tmp_path: Path) -> None:
    groups = "9:name=systemd:/\n4:cpu,memory:/docker/abc\n3:cpuset:/\n0::/\n"
    none = _group_1("", 9223372036854771712, 5 * GB, 0)
    own = _group_1("docker/abc/", 3 * GB, 2 * GB, GB // 4)
    assert machine.available_memory_bytes(_system(tmp_path, groups, **none, **own)) == GB + GB // 4


def test_version_1_where_the_hosts_path_is_not_to_be_seen(tmp_path: Path) -> None:
    root = _system(tmp_path, "4:memory:/docker/abc\n", **_group_1("", 3 * GB, GB, 0))
    assert machine.available_memory_bytes(root) == 2 * GB


def test_more_than_the_limit_is_used(tmp_path: Path) -> None:
    assert machine.available_memory_bytes(_system(tmp_path, "0::/\n", **_group_2("", GB, 2 * GB, 0))) == 0


@pytest.mark.parametrize("groups", ["", "\n", "odd", "4:memory", "0::/../..", "4:memory:relative/../path\n:::\n"])
def test_odd_lines(tmp_path: Path, groups: str) -> None:
    root = _system(tmp_path, groups, **{"sys/fs/cgroup/memory.max": "12 GB\n", "sys/fs/cgroup/memory.stat": ""})
    assert machine.available_memory_bytes(root) == 16 * GB


@pytest.mark.parametrize(
    ("groups", "files", "granted"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", _group_2("", "max", 0, 0), None),
        (
            "0::/user.slice/job\n",
            _group_2("user.slice/", GB // 8, 0, 0) | _group_2("user.slice/job/", GB, 0, 0),
            GB // 8,
        ),
        (
            "4:cpu,memory:/docker/abc\n",
            _group_1("", 2**63 - 4096, 0, 0) | _group_1("docker/abc/", GB // 4, 0, 0),
            GB // 4,
        ),
    ],
)
def test_what_is_granted(tmp_path: Path, groups: str, files: dict[str, str], granted: int | None) -> None:
    """The least of the machine's memory and all limits, whatever is used of it."""
    found = machine.granted_memory_bytes(_system(tmp_path, groups, **files))
    assert found == (granted or machine.describe()["memory_bytes"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_limit_of_the_shell() -> None:
    code = "import numpy; from nin_multi.machine import available_memory_bytes as a; print(a()); "
    code += "x = numpy.ones(10**8, 'u1'); print(a())"
    command = ["bash", "-c", 'ulimit -v 2000000; exec "$0" -c "$1"', sys.executable, code]
    lines = subprocess.check_output(command, text=True).split()
    before, after = map(int, lines)
    assert 0 < after < before < 2_000_000 * 1024
    assert before - after == pytest.approx(10**8, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_this_process_holds() -> None:
    assert 10**7 < machine.resident_memory_bytes() <= machine.peak_memory_bytes()
