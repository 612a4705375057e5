"""Workers of MindSpore that msrun really starts: they compute what one computes, and none waits for ever for another.

Each of them runs this file as a program.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nin_multi import randomness, registry
from nin_multi.architecture_file import parse_architecture
from nin_multi.backend import Backend, Network
from nin_multi.errors import UsageError
from nin_multi.launcher import environment_for
from nin_multi.workers.conductor import free_port
from nin_multi.workers.group import Group, WorkerLost, agree, gather
from nin_multi.workers.launch import Launch, Place, port_in_use

NET = parse_architecture("""
name: small
input: [1, 12, 12]
layers:
  - {type: nin_block, out_channels: 8, kernel_size: 5, padding: 2, mlp_channels: [8]}
  - {type: max_pool2d, kernel_size: 3, stride: 2, ceil_mode: true}
  - {type: dropout, rate: 0.5}
  - {type: conv2d, out_channels: 5, kernel_size: 3}
  - {type: global_avg_pool2d}
  - {type: flatten}
""")
# Uneven shares, of more than one micro-batch for two workers, and at the end of an epoch fewer rows than workers. Each
# other number of rows is another graph to compile.
BATCH = 35
BATCHES = (*[BATCH] * 9, 1) * 2
SECONDS = 120.0  # for which workers wait for one another: a loaded machine needs long to import MindSpore
LATE = 35.0  # seconds by which one comes late: MindSpore's own collectives have given up then


def _built(backend: Backend) -> Network:
    params = randomness.initial_parameters(NET, 0, "he")
    return backend.build(NET, params, device="cpu", precision="fp32", seed=0)


def _images(count: int, step: int) -> NDArray[np.float32]:
    drawn = randomness.uniform((count, *NET.input), seed=0, purpose=randomness.Purpose.INPUT, step=step)
    return drawn.astype(np.float32)


def _trained(network: Network) -> dict[str, NDArray[Any]]:
    """What comes of a training, and all that a network can be asked then."""
    found: dict[str, list[Any]] = {"loss": [], "correct": [], "count": [], "logits": []}
    for step, count in enumerate(BATCHES):
        x, masks = _images(count, step), randomness.dropout_masks(NET, count, 0, step)
        y = (np.arange(count) % NET.classes).astype(np.int32)
        result = network.train_step(x, y, masks, 0.05, 0.9)
        for name, values in found.items():
            values.append(getattr(result, name))
    arrays = {name: np.array(values) for name, values in found.items() if name != "logits"}
    arrays["training logits"] = np.concatenate(found["logits"])
    x, masks = _images(BATCH, 0), randomness.dropout_masks(NET, BATCH, 0, 99)
    arrays["logits"], arrays["logits of one"] = network.logits(x), network.logits(x[:1])
    loss, gradients = network.loss_and_gradients(x, np.zeros(BATCH, np.int32), masks)
    named = {"gradient": gradients, "weight": network.params(), "velocity": network.velocities()}
    arrays["mean loss"] = np.array(loss)
    return arrays | {f"{kind} {name}": a for kind, params in named.items() for name, a in params.items()}


# One of the workers.


def _work(group: Group, network: Any, folder: Path) -> None:
    """Train together, and put down what came of it."""
    network.share(group)
    arrays = _trained(network)
    arrays["sum"] = group.sum(np.array([0.1, 1e-300, 2.0**60, np.nan]) * (group.rank + 1))
    arrays["gathered"] = gather(group, np.array([group.rank, 1 / 3]))
    arrays["differing"] = np.array(agree(group, {"same": 1, "rank": group.rank}))
    np.savez(folder / f"{group.rank}.npz", **arrays)
    group.close()


def _be_worker(what: str, folder: Path, seconds: float) -> None:
    """Be one of the processes that msrun starts."""
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    backend = registry.load("mindspore")
    place = backend.place()
    assert place is not None
    if what == "stay away" and place.rank == 1:
        return
    began = time.monotonic()
    try:
        group = backend.join("cpu", seconds)
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        network = _built(backend)
        if what == "leave" and group.rank == 1:
            os._exit(0)  # msrun takes it for one that is done
        if what == "train late" and group.rank == 1:
            time.sleep(LATE)
        began = time.monotonic()
        _work(group, network, folder)
    except (UsageError, WorkerLost) as error:
        who = f"worker {place.rank}" if place.is_worker else "scheduler"
        (folder / who).write_text(f"{time.monotonic() - began}\n{type(error).__name__}: {error}")
        os._exit(0)  # MindSpore's own end would look for the others for half a minute more


# The tests.


pytestmark = [pytest.mark.backend("mindspore"), pytest.mark.usefixtures("backend")]


@lru_cache
def _alone() -> dict[str, NDArray[Any]]:
    return _trained(_built(registry.load("mindspore")))


def _run(what: str, size: int, folder: Path, *, seconds: float = SECONDS, port: int = 0) -> str:
    """Start workers and wait for their end; what they and their launcher have said."""
    command = (str(Path(__file__).resolve()), what, str(folder), str(seconds))
    logs = folder / "logs"
    (role,) = registry.load("mindspore").launch(Launch(command, size, port or free_port(None), seconds, 0, logs))
    environment = {**environment_for("mindspore"), **role.environment}
    ended = subprocess.run(role.command, env=environment, capture_output=True, text=True, timeout=600)
    said = "".join(f"\n{log.name}: {log.read_text()[-3000:]}" for log in sorted(logs.iterdir()))
    return f"status {ended.returncode}\n{ended.stderr[-3000:]}{said}"


def _last_words(folder: Path, who: str, said: str) -> tuple[float, str]:
    """Seconds that it waited, and its error."""
    assert (folder / who).exists(), said
    seconds, _, error = (folder / who).read_text().partition("\n")
    return float(seconds), error


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 3])
def test_several_compute_what_one_computes(size: int, tmp_path: Path) -> None:
    alone = _alone()
    said = _run("train late" if size == 2 else "train", size, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == size, said
    first, *others = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(size)]
    for name, expected in alone.items():
        assert first[name].shape == expected.shape, name
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(first[name], expected, rtol=0, atol=1e-5 * scale, err_msg=name)
    np.testing.assert_allclose(first["loss"], alone["loss"], rtol=1e-5)
    assert alone["loss"][-2] < alone["loss"][0]
    for other in others:  # the same bits, a NaN's too
        assert {name: array.tobytes() for name, array in other.items()} == {n: a.tobytes() for n, a in first.items()}
    factor = size * (size + 1) // 2
    np.testing.assert_allclose(first["sum"], np.array([0.1, 1e-300, 2.0**60, np.nan]) * factor, rtol=1e-15)
    np.testing.assert_array_equal(first["gathered"], [[rank, 1 / 3] for rank in range(size)])
    assert first["differing"] == "rank: worker 0 has 0, worker 1 has 1"


def test_one_who_does_not_come(tmp_path: Path) -> None:
    said = _run("stay away", 2, tmp_path, seconds=8.0)
    waited, error = _last_words(tmp_path, "worker 0", said)
    assert error.startswith("WorkerLost: mindspore: not all of the 2 workers came within "), said
    assert error.endswith("; this is worker 0")
    assert 8 <= waited < 60


@pytest.mark.long
def test_one_who_leaves(tmp_path: Path) -> None:
    said = _run("leave", 2, tmp_path)
    waited, error = _last_words(tmp_path, "worker 0", said)
    assert error == "WorkerLost: mindspore: worker 0 of 2 has lost worker 1", said
    assert waited < SECONDS


@pytest.mark.long
def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = _run("train", 2, tmp_path, seconds=8.0, port=port)
    _, error = _last_words(tmp_path, "scheduler", said)
    assert error == f"UsageError: {port_in_use('mindspore', port)}", said
    assert [_last_words(tmp_path, f"worker {rank}", said)[1][:10] for rank in range(2)] == ["WorkerLost"] * 2


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "4", "MS_NODE_ID": "3", "RANK_ID": "3"}, Place(4, 3)),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "4", "RANK_ID": "0"}, Place(4)),
        ({"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "4", "RANK_ID": "0"}, Place(4, is_worker=False)),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "1", "MS_NODE_ID": "0"}, None),
        ({"MS_ROLE": "MS_WORKER", "MS_NODE_ID": "0"}, None),
        ({"MS_WORKER_NUM": "4"}, None),
    ],
)
def test_places(
    backend: Backend, variables: dict[str, str], place: Place | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MS_ROLE", "MS_WORKER_NUM", "MS_NODE_ID", "RANK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert backend.place() == place


def test_nobody_is_started_again(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="restarts"):
        backend.launch(Launch(("-c", ""), 2, 1024, 1.0, 1, tmp_path))


if __name__ == "__main__":
    _be_worker(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
