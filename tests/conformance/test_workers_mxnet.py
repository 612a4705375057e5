"""Several workers train one net over MXNet's key-value store, in real processes: as one does, and as each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from nin_multi.backend import Backend
from nin_multi.errors import UsageError
from nin_multi.launcher import environment_for
from nin_multi.workers.conductor import free_port
from nin_multi.workers.group import WorkerLost
from nin_multi.workers.launch import Launch, Place

STEPS = 20
PATIENCE = 300.0  # seconds for all processes of a run: the import alone takes some where the machine is busy

# Its last batches are uneven, one of them with fewer rows than there are workers.
TRAIN = f"""
import sys
from pathlib import Path
import numpy as np
from nin_multi import randomness, registry
from nin_multi.architecture_file import parse_architecture
from nin_multi.workers.group import Alone, agree, gather

ARCHITECTURE = parse_architecture('''
name: workers
input: [2, 9, 9]
layers:
  - {{type: nin_block, out_channels: 8, kernel_size: 3}}
  - {{type: max_pool2d, kernel_size: 3, stride: 2}}
  - {{type: dropout, rate: 0.5}}
  - {{type: nin_block, out_channels: 4, kernel_size: 3, final_relu: false}}
  - {{type: global_avg_pool2d}}
  - {{type: flatten}}
''')
folder = Path(sys.argv[1])
backend = registry.load("mxnet")
group = backend.join("cpu", {PATIENCE}) if backend.place() else Alone()
params = randomness.initial_parameters(ARCHITECTURE, 0)
network = backend.build(ARCHITECTURE, params, device="cpu", precision="fp32", tuning={{"micro_batch": "8"}})
network.share(group)
random = np.random.default_rng(0)
losses, logits = [], []
for step in range({STEPS}):
    count = {{{STEPS} - 2: 13, {STEPS} - 1: 1}}.get(step, 32)
    x = random.random((count, *ARCHITECTURE.input), np.float32)
    y = random.integers(0, 4, count).astype(np.int32)
    masks = randomness.dropout_masks(ARCHITECTURE, count, seed=0, step=step)
    result = network.train_step(x, y, masks, 0.05, 0.9)
    losses.append(result.loss / result.count)
    logits.append(result.logits)
loss, gradients = network.loss_and_gradients(x, y, masks)
arrays = {{
    "losses": np.array([*losses, loss]),
    "training logits": np.concatenate(logits),
    "logits": network.logits(random.random((5, *ARCHITECTURE.input), np.float32)),
    **{{f"gradient of {{name}}": value for name, value in gradients.items()}},
    **network.params(),
    **{{f"velocity of {{name}}": value for name, value in network.velocities().items()}},
}}
huge = np.array([1e300, -1e-300, np.nan, -np.inf, group.rank])
assert np.array_equal(gather(group, huge)[group.rank], huge, equal_nan=True)
differs = agree(group, {{"same": 1, "rank": group.rank}})
assert differs == (None if group.size == 1 else "rank: worker 0 has 0, worker 1 has 1"), differs
np.savez(folder / f"{{group.rank}} of {{group.size}}.npz", **arrays)
group.close()
"""

COME = """
import sys
import time
from nin_multi import registry
from nin_multi.workers.conductor import free_port
from nin_multi.workers.group import WorkerLost

backend = registry.load("mxnet")
backend.framework()
print("here", flush=True)
began = time.monotonic()
try:
    group = backend.join("cpu", float(sys.argv[1]))
except WorkerLost as error:
    print(f"{error}; {time.monotonic() - began:.1f}", flush=True)
    sys.exit(error.exit_status)
if group.rank == 0:
    raise RuntimeError("worker 0 fails")
group.sum(__import__("numpy").ones(3))
"""


pytestmark = pytest.mark.backend("mxnet")


def asked(command: tuple[str, ...], workers: int, folder: Path, restarts: int = 0) -> Launch:
    return Launch(command, workers, free_port(None), PATIENCE, restarts, folder)


@contextmanager
def started(
    backend: Backend, launch: Launch, without: tuple[str, ...] = (), said: IO[str] | None = None
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The processes of a launch; those that are still there at the end are killed."""
    processes = {}
    try:
        for role in backend.launch(launch):
            if role.name not in without:
                environment = {**environment_for(backend.name), "OMP_NUM_THREADS": "1", **role.environment}
                command = list(role.command)
                processes[role.name] = subprocess.Popen(command, env=environment, stdout=said, text=True)
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def trained(backend: Backend, workers: int, folder: Path) -> list[dict[str, np.ndarray]]:
    """What each worker has at the end, by rank."""
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    command = (str(folder / "train.py"), str(folder))
    if workers == 1:
        subprocess.run([sys.executable, *command], env=environment_for(backend.name), check=True, timeout=PATIENCE)
    else:
        with started(backend, asked(command, workers, folder)) as processes:
            ends = {name: process.wait(PATIENCE) for name, process in processes.items()}
        assert ends == dict.fromkeys(["scheduler", "server", *(f"worker {i}" for i in range(workers))], 0)
    return [dict(np.load(folder / f"{rank} of {workers}.npz")) for rank in range(workers)]


def assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert list(first) == list(second)
    assert [name for name in first if first[name].tobytes() != second[name].tobytes()] == []


@pytest.mark.long
def test_two_workers_train_as_one_does(backend: Backend, tmp_path: Path) -> None:
    (alone,) = trained(backend, 1, tmp_path / "one")
    first, second = trained(backend, 2, tmp_path / "two")
    assert_same_bits(first, second)
    assert len(first["losses"]) == STEPS + 1
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-5)
    for name, values in alone.items():
        np.testing.assert_allclose(first[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.long
def test_three_workers_have_the_same_bits_every_time(backend: Backend, tmp_path: Path) -> None:
    first = trained(backend, 3, tmp_path / "first")
    for worker in (*first[1:], *trained(backend, 3, tmp_path / "second")):
        assert_same_bits(first[0], worker)


def test_who_waits_for_a_worker_that_does_not_come_ends_in_time(backend: Backend, tmp_path: Path) -> None:
    launch = asked(("-c", COME, "3"), 2, tmp_path)
    with (tmp_path / "said").open("w") as said, started(backend, launch, ("worker 1",), said) as processes:
        assert processes["worker 0"].wait(PATIENCE) == WorkerLost.exit_status
    here, lost = (tmp_path / "said").read_text().splitlines()
    message, _, seconds = lost.rpartition("; ")
    assert (here, message) == ("here", "mxnet: not all of the 2 workers came within 3 s")
    assert 3.0 <= float(seconds) < 30.0


@pytest.mark.long
def test_a_worker_that_fails_waits_for_nobody_and_nobody_for_it(backend: Backend, tmp_path: Path) -> None:
    with started(backend, asked(("-c", COME, str(PATIENCE)), 2, tmp_path)) as processes:
        workers = [processes["worker 0"], processes["worker 1"]]
        assert [worker.wait(PATIENCE) for worker in workers] == [1, 1]


def test_workers_are_not_started_again(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mxnet: expected no restarts, got 2"):
        backend.launch(asked(("-c", ""), 2, tmp_path, restarts=2))


def test_its_place_is_what_ps_lite_reads(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(role: str, workers: str) -> Place | None:
        monkeypatch.setenv("DMLC_ROLE", role)
        monkeypatch.setenv("DMLC_NUM_WORKER", workers)
        return backend.place()

    assert place("worker", "3") == Place(3)
    assert place("server", "3") == place("scheduler", "3") == Place(3, is_worker=False)
    assert place("worker", "1") is place("worker", "many") is place("other", "3") is None
    monkeypatch.delenv("DMLC_NUM_WORKER")
    assert backend.place() is None


def test_only_a_worker_of_several_can_join(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DMLC_ROLE", raising=False)
    with pytest.raises(UsageError, match="not one of several workers"):
        backend.join("cpu", 1.0)
    monkeypatch.setenv("DMLC_ROLE", "worker")
    monkeypatch.setenv("DMLC_NUM_WORKER", "2")
    monkeypatch.setenv("DMLC_PS_ROOT_URI", "127.0.0.1")
    monkeypatch.delenv("DMLC_PS_ROOT_PORT", raising=False)
    with pytest.raises(UsageError, match="DMLC_PS_ROOT_PORT is not set"):
        backend.join("cpu", 1.0)
