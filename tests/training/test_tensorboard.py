"""TensorBoard's event files hold what the events say, once, also of runs taken up again and of full disks."""

from __future__ import annotations

import calendar
import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nin_multi.architecture_file import format_architecture
from nin_multi.data import CLASSES, Dataset
from nin_multi.errors import UsageError
from nin_multi.oracle import NumpyBackend
from nin_multi.spec import Architecture
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Progress
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory

STEPS = 7  # an epoch: 64 images in batches of 10
POLYNOMIAL = 0x82F63B78  # CRC-32C (RFC 3720, appendix B.4), bits reversed


class Notes(Silent):
    """Keeps what was told; `stop` is a step after which somebody interrupts."""

    def __init__(self, stop: int | None = None) -> None:
        self.said: list[str] = []
        self._stop = stop

    def note(self, text: str) -> None:
        self.said.append(text)

    def step(self, progress: Progress) -> None:
        if progress.step == self._stop:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def job(tiny: Architecture, data: Dataset) -> Job:
    return Job(NumpyBackend(), "cpu", "fp64", tiny, data, Recipe(epochs=2, batch_size=10), tensorboard=True)


def crc32c(data: bytes) -> int:
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = (found >> 1) ^ (POLYNOMIAL if found & 1 else 0)
    return found ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """As TensorFlow's record files have it."""
    found = crc32c(data)
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    content, at = path.read_bytes(), 0
    while at < len(content):
        header = content[at : at + 8]
        (length,) = struct.unpack("<Q", header)
        body = content[at + 12 : at + 12 + length]
        assert struct.unpack("<I", content[at + 8 : at + 12]) == (masked(header),)
        assert struct.unpack("<I", content[at + 12 + length : at + 16 + length]) == (masked(body),)
        yield body
        at += 16 + length


def read(run: Path) -> list[Any]:
    """All entries of the one file, but the one that says which format it is."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (run / "tensorboard").iterdir()
    first, *entries = [Event.FromString(record) for record in records(path)]
    assert first.file_version == "brain.Event:2"
    return entries


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in read(run):
        for value in entry.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found.setdefault(value.tag, []).append((entry.step, value.simple_value))
    return found


def texts(run: Path) -> dict[str, str]:
    values = [value for entry in read(run) for value in entry.summary.value]
    return {value.tag: value.tensor.string_val[0].decode() for value in values if value.HasField("tensor")}


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in RunDirectory.open(run).events() if event["event"] == kind]


def test_the_check_sum_is_the_published_one() -> None:
    """RFC 3720, appendix B.4: 32 bytes of zeros."""
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_scalars_are_the_events(job: Job, tmp_path: Path) -> None:
    train(job, RunDirectory.create(tmp_path / "run"), Silent())
    found = scalars(tmp_path / "run")
    fields = {
        "train/loss": ("step", "loss"),
        "train/acc": ("step", "train_acc"),
        "images_per_sec": ("step", "examples_per_sec"),
        "images_per_sec_compute": ("step", "compute_examples_per_sec"),
        "test/loss": ("epoch", "test_loss"),
        "test/acc": ("epoch", "test_acc"),
    }
    for tag, (kind, field) in fields.items():
        told = [(event["step"], pytest.approx(event[field], rel=1e-6)) for event in events(tmp_path / "run", kind)]
        assert len(told) == (2 * STEPS if kind == "step" else 2)
        assert found[tag] == told
    assert found["zeros/block1"] == [
        (event["step"], pytest.approx(event["layers"]["block1"]["zeros"], rel=1e-6))
        for event in events(tmp_path / "run", "layers")
    ]


def test_moments_are_the_start_and_the_training_time(job: Job, tmp_path: Path) -> None:
    train(job, RunDirectory.create(tmp_path / "run"), Silent())
    facts = RunDirectory.open(tmp_path / "run").facts()
    began = calendar.timegm(time.strptime(facts["started"], "%Y-%m-%dT%H:%M:%SZ"))
    entries = read(tmp_path / "run")
    losses = [entry for entry in entries if entry.summary.value[0].tag == "train/loss"]
    assert [entry.wall_time for entry in losses] == pytest.approx(
        [began + event["seconds"] for event in events(tmp_path / "run", "step")], abs=1e-5
    )
    moments = [entry.wall_time for entry in entries]
    assert moments == sorted(moments)


def test_the_recipe_and_what_was_taken_for_what(job: Job, tmp_path: Path) -> None:
    train(job, RunDirectory.create(tmp_path / "run"), Silent())
    told = texts(tmp_path / "run")
    assert "| batch size | 10 |" in told["run/text_summary"]
    assert "| architecture | tiny |" in told["run/text_summary"]
    last = events(tmp_path / "run", "epoch")[-1]["confusion"]
    row = f"| {CLASSES[3]} | " + " | ".join(map(str, last[3])) + " |"
    assert row in told["test/confusion/text_summary"]


def test_distributions_lie_between_the_quantiles(job: Job, tmp_path: Path) -> None:
    train(job, RunDirectory.create(tmp_path / "run"), Silent())
    found = [
        (entry.step, value.histo)
        for entry in read(tmp_path / "run")
        for value in entry.summary.value
        if value.tag == "layers/block1"
    ]
    told = events(tmp_path / "run", "layers")
    assert [step for step, _ in found] == [event["step"] for event in told] == [0, STEPS, 2 * STEPS]
    for (_, histogram), event in zip(found, told, strict=True):
        quantiles = event["layers"]["block1"]["quantiles"]
        width = quantiles[-1] - quantiles[0]
        assert histogram.min == quantiles[0]
        assert list(histogram.bucket_limit) == pytest.approx(quantiles[1:], abs=1e-5 * width)
        assert all(low < high for low, high in zip(histogram.bucket_limit, histogram.bucket_limit[1:], strict=False))
        assert list(histogram.bucket) == [5, 20, 25, 25, 20, 5]
        assert histogram.sum / histogram.num == pytest.approx(event["layers"]["block1"]["mean"])


@pytest.mark.parametrize("asked", [True, False], ids=["asked for again", "already there"])
@pytest.mark.parametrize("step", [3, STEPS, 9])
def test_a_resumed_run_has_each_point_once(job: Job, tmp_path: Path, step: int, asked: bool) -> None:
    """And those of a run that was never stopped, but for speeds and moments."""
    train(job, RunDirectory.create(tmp_path / "whole"), Silent())
    stopped = train(job, RunDirectory.create(tmp_path / "run"), Notes(step))
    assert (stopped["status"], stopped["steps"]) == ("interrupted", step)
    # As a process that was killed would have left it: points after the last checkpoint.
    old = next((tmp_path / "run" / "tensorboard").iterdir())
    old.write_bytes(old.read_bytes() + b"torn off in the mid")
    resumed = resume(replace(job, tensorboard=asked), RunDirectory.open(tmp_path / "run"), Silent())
    assert resumed["status"] == "done"
    whole, found = scalars(tmp_path / "whole"), scalars(tmp_path / "run")
    assert found.keys() == whole.keys()
    for tag, points in found.items():
        assert [at for at, _ in points] == [at for at, _ in whole[tag]]
        if "per_sec" not in tag:  # a checkpoint keeps float32 of the oracle's float64
            assert points == [(at, pytest.approx(value, rel=1e-4)) for at, value in whole[tag]]


def test_moments_after_a_night(job: Job, tmp_path: Path) -> None:
    """What was trained in another session is at that session's time."""
    train(job, RunDirectory.create(tmp_path / "run"), Notes(STEPS + 2))
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "2001-02-03T04:05:06Z"}))
    resume(job, RunDirectory.open(tmp_path / "run"), Silent())
    before = calendar.timegm((2001, 2, 3, 4, 5, 6))
    losses = [entry for entry in read(tmp_path / "run") if entry.summary.value[0].tag == "train/loss"]
    assert [before <= entry.wall_time < before + 600 for entry in losses] == [
        event["step"] <= STEPS + 2 for event in events(tmp_path / "run", "step")
    ]
    assert losses[-1].wall_time > before + 10**8


def test_a_run_that_was_begun_without_gets_all_points(job: Job, tmp_path: Path) -> None:
    train(replace(job, tensorboard=False), RunDirectory.create(tmp_path / "run"), Notes(STEPS + 1))
    assert not (tmp_path / "run" / "tensorboard").exists()
    resume(job, RunDirectory.open(tmp_path / "run"), Silent())
    assert [step for step, _ in scalars(tmp_path / "run")["train/loss"]] == list(range(1, 2 * STEPS + 1))


def test_what_is_no_number_is_left_out(job: Job, tmp_path: Path) -> None:
    """A run that diverges: its last points have no loss, and its layers no quantiles."""
    recipe = Recipe(epochs=1, batch_size=10, lr=1e200, final_relu=False)
    job = Job(NumpyBackend(), "cpu", "fp64", job.architecture, job.dataset, recipe, tensorboard=True)
    notes = Notes()
    assert train(job, RunDirectory.create(tmp_path / "run"), notes)["status"] == "diverged"
    assert not [text for text in notes.said if text.startswith("tensorboard: ")]
    told = [(event["step"], event["loss"]) for event in events(tmp_path / "run", "step") if event["loss"] is not None]
    assert scalars(tmp_path / "run")["train/loss"] == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in told]


def test_all_else_is_as_without(job: Job, tmp_path: Path) -> None:
    results = {}
    for name, wanted in (("with", True), ("without", False)):
        directory = RunDirectory.create(tmp_path / name)
        results[name] = train(replace(job, tensorboard=wanted), directory, Silent())
    assert results["with"].keys() == results["without"].keys()
    facts = [RunDirectory.open(tmp_path / name).facts() for name in results]
    assert facts[0].keys() == facts[1].keys()
    with_, without = ((tmp_path / name / "weights.safetensors").read_bytes() for name in results)
    assert with_ == without


def test_a_folder_that_cannot_be_made_ends_no_training(job: Job, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("not a folder")
    notes = Notes()
    assert train(job, RunDirectory.create(tmp_path / "run"), notes)["status"] == "done"
    (said,) = [text for text in notes.said if text.startswith("tensorboard: ")]
    assert "the training goes on" in said
    assert (tmp_path / "run" / "tensorboard").read_text() == "not a folder"


def test_a_link_to_another_place_is_left_alone(job: Job, tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    run.mkdir()
    (elsewhere / "events.out.tfevents.1").write_text("somebody's")
    (run / "tensorboard").symlink_to(elsewhere)
    notes = Notes()
    assert train(job, RunDirectory.create(run), notes)["status"] == "done"
    assert "a link to another place" in notes.said[-1]
    assert [path.read_text() for path in elsewhere.iterdir()] == ["somebody's"]


def test_a_disk_that_fills_up_ends_no_training(job: Job, tmp_path: Path) -> None:
    """4 KB hold no more than the first entries."""
    folder = tmp_path / "run" / "tensorboard"
    folder.mkdir(parents=True)
    found = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)], capture_output=True)
    if found.returncode:
        pytest.skip(f"a file system can be mounted by root only: {found.stderr.decode().strip()}")
    notes = Notes()
    try:
        result = train(job, RunDirectory.create(tmp_path / "run"), notes)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert (result["status"], result["steps"]) == ("done", 2 * STEPS)
    (said,) = [text for text in notes.said if text.startswith("tensorboard: ")]
    assert "No space left on device" in said


def test_without_the_package_nothing_is_begun(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"--tensorboard: needs tensorboardX.*nin-multi\[tensorboard\]"):
        train(job, RunDirectory.create(tmp_path / "run"), Silent())
    assert not list((tmp_path / "run").iterdir())


PROGRAM = """
import json, sys
from nin_multi.cli import main
try:
    main()
finally:
    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.fixture
def command(tiny: Architecture, tmp_path: Path) -> Callable[..., str]:
    """Runs `train` on synthetic images; gives what it says on stderr."""
    (tmp_path / "tiny.yaml").write_text(format_architecture(tiny))

    def run(*words: str) -> str:
        line = [sys.executable, "-m", "nin_multi.launcher", "numpy", "-c", PROGRAM, "train", *words]
        ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    return run


NEW = ["--backend=numpy", "--arch=tiny.yaml", "--dataset=synthetic", "--train-examples=20", "--test-examples=10"]
NEW += ["--batch-size=10", "--epochs=1", "--run-dir=run"]


def test_it_brings_no_framework_into_the_process(command: Callable[..., str], tmp_path: Path) -> None:
    """The package itself looks for them: an MXNet run is not to load torch."""
    found = set(json.loads(command(*NEW, "--tensorboard").splitlines()[-1]))
    assert "tensorboardX" in found
    assert not found & {"torch", "mindspore", "mxnet", "comet_ml", "boto3"}
    assert [step for step, _ in scalars(tmp_path / "run")["test/acc"]] == [2]


def test_the_option_goes_with_resume(command: Callable[..., str], tmp_path: Path) -> None:
    command(*NEW)
    command("--resume=run", "--epochs=2", "--tensorboard")
    assert [step for step, _ in scalars(tmp_path / "run")["test/acc"]] == [2, 4]
