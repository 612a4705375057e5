"""Workers of PyTorch that do not come, differ, or start again: real processes, started by hand or by torchrun."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_workers import process_of

from nin_multi.backend import Backend
from nin_multi.workers.conductor import free_port
from nin_multi.workers.launch import Place, port_in_use

pytestmark = [pytest.mark.backend("torch"), pytest.mark.usefixtures("backend")]

NET = """
name: small
input: [1, 10, 10]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3, mlp_channels: [8, 10]}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""
OTHER = """
import sys
from nin_multi import cli, machine
versions = machine.versions
machine.versions = lambda *given: {**versions(*given), "torch": "1.0"}
cli.main()
"""
PATIENCE = 240.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(NET)
    return tmp_path


def begin(
    folder: Path, words: str, program: tuple[str, ...] = ("-m", "nin_multi"), **variables: str
) -> subprocess.Popen[str]:
    flags = (
        "--backend torch --arch small.yaml --dataset synthetic --train-examples 40 --test-examples 10 --batch-size 8"
    )
    line = [sys.executable, *program, "train", *flags.split(), *words.split(), "--json"]
    environment = {**os.environ, "TMPDIR": str(folder), **variables}
    return subprocess.Popen(
        line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def error_of(process: subprocess.Popen[str], status: int) -> str:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, err
    assert len(err.strip().splitlines()) <= 2, err
    message: str = json.loads(out)["error"]["message"]
    return message


def ranks(*numbers: int, size: int, port: str) -> list[dict[str, str]]:
    meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**meeting, "RANK": str(number), "LOCAL_RANK": str(number)} for number in numbers]


@pytest.mark.long
def test_who_is_missing_is_named(folder: Path) -> None:
    first, third = [
        begin(folder, "--join-timeout 20", **place) for place in ranks(0, 2, size=4, port=str(free_port(None)))
    ]
    assert error_of(first, 3).startswith("torch: workers 1, 3 of 4 did not come within 20 s\nStart all 4 of them")
    assert error_of(third, 3).startswith(("torch: workers 1, 3 of 4", "torch: worker 0 of 4 waits no longer"))
    assert not (folder / "runs").exists()


@pytest.mark.long
def test_without_worker_0_there_is_nobody_to_meet(folder: Path) -> None:
    port = str(free_port(None))
    (place,) = ranks(1, size=2, port=port)
    message = error_of(begin(folder, "--join-timeout 3", **place), 3)
    assert message.startswith(f"torch: worker 0 of 2 was not at 127.0.0.1:{port} within 3 s")


@pytest.mark.long
def test_a_port_in_use_where_the_workers_were_to_meet(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        (place,) = ranks(0, size=2, port=port)
        message = error_of(begin(folder, "--join-timeout 3", **place), 2)
    assert message == str(port_in_use("torch", int(port)))


def test_workers_that_differ_train_nothing(folder: Path) -> None:
    first, second = ranks(0, 1, size=2, port=str(free_port(None)))
    processes = [begin(folder, "", **first), begin(folder, "", ("-c", OTHER), **second)]
    for process in processes:
        message = error_of(process, 2)
        assert message.startswith("the workers differ in version of torch: worker 0 has ")
        assert "worker 1 has 1.0" in message
    assert not list(folder.glob("runs/*"))


@pytest.mark.long
def test_torchrun_starts_them_again(folder: Path) -> None:
    process = begin(folder, "--workers 2 --epochs 20 --checkpoint-every 5 --run-dir run --restarts 1")
    victim = process_of(0, folder, folder / "run", process)
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert f"worker 0 of 2 (process {victim}) ended without a word" in err
    assert json.loads(out)["steps"] == 100
    assert len(json.loads((folder / "run" / "run.json").read_text())["resumed"]) == 1
    undisturbed = begin(folder, "--workers 2 --epochs 20 --run-dir undisturbed")
    undisturbed.communicate(timeout=PATIENCE)
    assert undisturbed.returncode == 0
    assert (folder / "run/weights.safetensors").read_bytes() == (
        folder / "undisturbed/weights.safetensors"
    ).read_bytes()


def test_its_place_is_what_torchrun_says(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend.place() is None
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert backend.place() == Place(2, 1, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert backend.place() is None
