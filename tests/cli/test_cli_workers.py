"""`train --workers`: what is refused before anything is started, with nothing left behind."""

from __future__ import annotations

import socket

import pytest

from nin_multi.training.run_directory import RunDirectory

TWO = ["train", "--workers", "2", "--arch", "tiny.yaml", "--dataset", "synthetic"]


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--backend", "numpy"], ["numpy trains with one worker"]),
        (
            ["--backend", "torch", "--batch-size", "1"],
            ["--workers: expected at most as many as there are images in a batch of 1, got 2"],
        ),
        (
            ["--backend", "torch", "--train-examples", "1"],
            ["--workers: expected at most as many as there are images in 1 training examples, got 2"],
        ),
        (["--backend", "torch", "--tune", "now"], ["--tune now", "--set"]),
        (["--backend", "mindspore", "--restarts", "1"], ["mindspore", "restarts"]),
        (["--backend", "mxnet", "--restarts", "1"], ["mxnet", "restarts"]),
        (["--backend", "torch", "--workers", "0"], ["--workers"]),
        (["--backend", "torch", "--port", "70000"], ["--port"]),
        (["--backend", "torch", "--join-timeout", "0"], ["--join-timeout"]),
        (["--backend", "torch", "--arch", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_refused(nin, content, words: list[str], fragments: list[str]) -> None:
    before = content()
    outcome = nin(*TWO, *words)
    assert outcome.status == 2
    for fragment in fragments:
        assert fragment in outcome.error
    assert content() == before


def test_a_port_that_is_in_use(nin, content) -> None:
    before = content()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = nin(*TWO, "--backend", "torch", "--port", str(port))
    assert outcome.status == 2
    assert outcome.error.startswith(f"--port {port}: cannot be used (Address already in use)")
    assert content() == before


def test_another_number_than_the_launcher_has_started(nin, content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    before = content()
    outcome = nin(*TWO, "--backend", "torch", inside="torch")
    assert outcome.status == 2
    assert outcome.error == "--workers 2: this process is one of 3 by its launcher's word"
    assert content() == before


def test_a_directory_with_a_run_in_it_is_left_alone(nin, flags: list[str], content) -> None:
    assert nin("train", "--backend", "numpy", *flags, "--run-dir", "there").status == 0
    before = content()
    outcome = nin(*TWO, "--backend", "torch", "--run-dir", "there")
    assert outcome.status == 2
    assert "already holds a run" in outcome.error
    assert content() == before


def test_one_worker_is_a_run_as_ever(nin, flags: list[str], tmp_path) -> None:
    outcome = nin("train", "--backend", "numpy", *flags, "--run-dir", "one", "--workers", "1", "--json")
    assert outcome.status == 0
    assert outcome.json["workers"] == 1
    assert RunDirectory.open(tmp_path / "one").facts()["workers"] == 1
