"""`train --resume`: what goes with it, what it prints, and that a refusal leaves the run as it was."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from nin_multi.training import display
from nin_multi.training.display import Lines
from nin_multi.training.progress import Progress

Content = Callable[[], dict[str, Any]]


class StopsAt(Lines):
    """As somebody's Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._when = step

    def step(self, progress: Progress) -> None:
        super().step(progress)
        if progress.step == self._when:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """From here on, runs stop at this step; None: never."""

    def stop(step: int | None) -> None:
        monkeypatch.setattr(display, "choose_display", lambda: Lines() if step is None else StopsAt(step))

    return stop


@pytest.fixture
def run(nin, flags: list[str], tmp_path: Path, stop_at) -> Path:
    """Stopped at step 10 of 14."""
    stop_at(10)
    command = ["train", "--backend", "numpy", *flags, "--momentum", "0.5", "--run-dir", "run", "--json"]
    found = nin(*command)
    assert (found.status, found.json["status"]) == (143, "interrupted")
    assert found.err.splitlines()[-1] == "interrupted at step 10; to go on: nin_multi train --resume run"
    stop_at(None)
    return tmp_path / "run"


def test_what_an_interrupted_run_tells_to_type_goes_on(nin, run: Path, tmp_path: Path, flags: list[str]) -> None:
    found = nin(*shlex.split("train --resume run"), "--json")
    assert found.status == 0
    result = found.json
    facts = {"status": "done", "steps": 14, "epochs": 2, "momentum": 0.5, "backend": "numpy", "run_dir": "run"}
    assert {key: result[key] for key in facts} == facts
    assert "momentum 0.5, seed 0, from step 10; run directory run" in found.err
    assert json.loads((run / "result.json").read_text()) == result
    whole = nin("train", "--backend", "numpy", *flags, "--momentum", "0.5", "--run-dir", "whole", "--json").json
    for key in ("loss", "train_acc", "test_loss", "test_acc"):
        assert result[key] == pytest.approx(whole[key], rel=1e-5)  # the checkpoint is in float32, this backend is not
    steps = [
        [(event["event"], event["step"]) for event in map(json.loads, (path / "events.jsonl").read_text().splitlines())]
        for path in (run, tmp_path / "whole")
    ]
    assert steps[0] == steps[1]
    assert nin("evaluate", "run", "--test-examples", "20", "--json").json["loss"] == pytest.approx(result["test_loss"])


def test_for_people(nin, run: Path) -> None:
    found = nin("train", "--resume", "run")
    assert found.status == 0
    assert len(found.out.splitlines()) == 3  # the book's two lines, and the word about synthetic images


def test_interrupted_once_more(nin, run: Path, stop_at) -> None:
    stop_at(12)
    found = nin("train", "--resume", "run", "--json")
    assert (found.status, found.json["status"], found.json["steps"]) == (143, "interrupted", 12)
    stop_at(None)
    assert nin("train", "--resume", "run", "--json").json["steps"] == 14
    assert [taken["step"] for taken in json.loads((run / "run.json").read_text())["resumed"]] == [10, 12]


def test_longer(nin, run: Path) -> None:
    assert nin("train", "--resume", "run", "--epochs", "3", "--backend", "numpy", "--json").json["steps"] == 21
    assert json.loads((run / "run.json").read_text())["recipe"]["epochs"] == 3
    assert nin("train", "--resume", "run", "--epochs", "4", "--json").json["steps"] == 28


def _refused(nin, content: Content, command: list[str], status: int, *fragments: str) -> None:
    """The same error for people and as JSON, and every byte where it was."""
    before = content()
    plain, as_json = nin(*command), nin(*command, "--json")
    assert plain.status == as_json.status == status, plain.err
    assert plain.error == as_json.error == as_json.json["error"]["message"]
    for fragment in fragments:
        assert fragment in plain.error
    assert content() == before


@pytest.mark.parametrize(
    "more",
    [
        *(["--lr", "0.1"], ["--batch-size", "10"], ["--seed", "0"], ["--momentum", "0.5"], ["--init", "xavier"]),
        *(["--dropout", "shared"], ["--arch", "tiny.yaml"], ["--input", "1x8x8"], ["--dataset", "synthetic"]),
        *(["--train-examples", "64"], ["--test-examples", "20"], ["--run-dir", "run"], ["--runs-dir", "runs"]),
    ],
    ids=lambda more: more[0],
)
def test_what_a_run_keeps_cannot_be_said_again(nin, content: Content, run: Path, more: list[str]) -> None:
    _refused(nin, content, ["train", "--resume", "run", *more], 2, f"{more[0]}: a resumed run keeps what it began with")


@pytest.mark.parametrize(
    ("more", "status", "fragments"),
    [
        (["--epochs", "0"], 2, ["--epochs: expected at least 1, got 0"]),
        (["--epochs", "1"], 2, ["run: all of its 1 epochs are done", "--epochs"]),
        (["--backend", "nunpy"], 2, ["Did you mean 'numpy'?"]),
        (["--device", "cuda:0"], 3, ["'cuda:0'", "usable now: cpu"]),
        (["--precision", "bf16"], 3, ["'bf16'", "fp64"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_options(nin, content: Content, run: Path, more: list[str], status: int, fragments: list[str]) -> None:
    _refused(nin, content, ["train", "--resume", "run", *more], status, *fragments)


@pytest.mark.parametrize("path", ["nowhere", ".", "tiny.yaml"])
def test_no_run(nin, content: Content, path: str) -> None:
    _refused(nin, content, ["train", "--resume", path], 2, path, "not a run directory", "run.json")


def test_a_run_that_is_done(nin, content: Content, run: Path) -> None:
    assert nin("train", "--resume", "run").status == 0
    _refused(nin, content, ["train", "--resume", "run"], 2, "run: all of its 2 epochs are done", "--epochs")


def _edit_facts(run: Path, **changed: Any) -> None:
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, **changed}))


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"resumed": [{"step": 3}]}, "damaged: resumed.0.backend"),
        ({"resumed": None}, "damaged: resumed"),
        ({"resumed": "often"}, "damaged: resumed"),
        ({"recipe": {"batch_size": 10, "speed": 3}}, "damaged recipe"),
        ({"recipe": {"batch_size": 10, "lr": "fast"}}, "damaged recipe"),
        ({"architecture": {"name": "tiny"}}, "no valid architecture"),
        ({"dataset": {"name": "synthetic"}}, "damaged: dataset.sha256"),
        ({"device": None}, "damaged: device"),
    ],
)
def test_damaged_facts(nin, content: Content, run: Path, changed: dict[str, Any], fragment: str) -> None:
    _edit_facts(run, **changed)
    _refused(nin, content, ["train", "--resume", "run"], 2, "run/run.json: ", fragment)


def test_another_architecture_than_the_checkpoints(nin, content: Content, run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    facts["architecture"]["layers"][0]["mlp_channels"] = [10]
    facts["architecture"]["layers"][0]["kernel_size"] = [2, 3]
    (run / "run.json").write_text(json.dumps(facts))
    unexpected = "unexpected: block1.mlp2.bias, block1.mlp2.weight"
    misshapen = "misshapen: block1.conv.weight (10, 1, 3, 3) for (10, 1, 2, 3)"
    _refused(nin, content, ["train", "--resume", "run"], 2, "step-000010.safetensors", unexpected, misshapen)


def test_other_images(nin, content: Content, run: Path, synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from nin_multi.data import Split, sources

    images = synthetic.train.images.copy()
    images[5, 6, 7] ^= 1
    other = replace(synthetic, train=Split(images, synthetic.train.labels))
    monkeypatch.setattr(sources, "synthetic_dataset", other.head)
    _refused(nin, content, ["train", "--resume", "run"], 2, "step-000010.safetensors", "other images")


def test_checkpoints_that_are_none(nin, content: Content, run: Path) -> None:
    path = run / "checkpoints" / "step-000010.safetensors"
    for damaged, fragment in (
        (b"\x80\x04\x95N.", "pickle"),
        ((run / "weights.safetensors").read_bytes(), "without the state of a run"),
    ):
        path.write_bytes(damaged)
        _refused(nin, content, ["train", "--resume", "run"], 2, "step-000010.safetensors", fragment)
    save_file(load_file(run / "weights.safetensors"), path, {"format": "np"})
    _refused(nin, content, ["train", "--resume", "run"], 2, "without the entry 'nin_multi'")


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (lambda whole: b"", "not a complete safetensors file"),
        (lambda whole: whole[:-5], "not a complete safetensors file"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 8]), "altered"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(nin, content: Content, run: Path, damage, fragment: str) -> None:
    """Only where no other is whole is the run refused, and then nothing of it changes."""
    last, before = (run / "checkpoints" / f"step-{step:06d}.safetensors" for step in (10, 7))
    whole = before.read_bytes()
    last.write_bytes(damage(last.read_bytes()))
    before.write_bytes(damage(whole))
    _refused(nin, content, ["train", "--resume", "run"], 2, "step-000010.safetensors", fragment)
    before.write_bytes(whole)
    found = nin("train", "--resume", "run")
    assert found.status == 0
    assert "passed over: run/checkpoints/step-000010.safetensors" in found.err
    assert fragment in found.err
    assert "from step 7; run directory run" in found.err


def test_momentum_init_and_dropout_are_told(nin, flags: list[str], tmp_path: Path) -> None:
    more = ["--momentum", "0.9", "--init", "he", "--dropout", "native", "--run-dir", "run", "--json"]
    found = nin("train", "--backend", "numpy", *flags, *more)
    assert found.status == 0
    told = {key: found.json[key] for key in ("momentum", "init", "dropout")}
    assert told == {"momentum": 0.9, "init": "he", "dropout": "native"}
    assert "momentum 0.9, He initialisation, the framework's own dropout, seed 0" in found.err
    recipe = json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]
    assert {key: recipe[key] for key in told} == told
    last = load_file(tmp_path / "run" / "checkpoints" / "step-000014.safetensors")
    assert len([name for name in last if name.startswith("velocity/")]) == len(last) // 2
