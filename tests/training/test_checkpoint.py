"""Checkpoints: everything that a run goes on from comes back bit for bit, and nothing else is gone on from."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from strategies import refused

from nin_multi import randomness
from nin_multi.data import Dataset
from nin_multi.errors import CheckpointError
from nin_multi.oracle import NumpyNetwork
from nin_multi.spec import Architecture
from nin_multi.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nin_multi.training.progress import Progress, Totals, start
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import RunDirectory
from nin_multi.weights import KEY, load_weights, save_weights

RECIPE = Recipe(epochs=2, batch_size=10, momentum=0.9)
DATA = {"train_images": "0123", "test_images": "4567"}
FACTS: dict[str, Any] = {"recipe": RECIPE.as_dict(), "data_sha256": DATA, "step": 9}


def _totals(seed: int) -> Totals:
    # Sums that no short decimal has.
    return Totals(math.pi * seed, seed, 100 + seed, math.e / seed, 1 / (3 * seed))


@pytest.fixture
def network(tiny: Architecture) -> NumpyNetwork:
    made = NumpyNetwork(tiny, randomness.initial_parameters(tiny, 1))
    velocities = {name: -value + np.float32(0.3) for name, value in randomness.initial_parameters(tiny, 2).items()}
    made.restore(made.params(), velocities)
    return made


@pytest.fixture
def progress(data: Dataset) -> Progress:
    standing = start(data, RECIPE)
    standing.step, standing.epoch, standing.evaluated = 9, 2, 1
    standing.epoch_totals, standing.run_totals = _totals(2), _totals(5)
    standing.test_loss, standing.test_acc = 2.1, 0.3
    standing.test_confusion = [[3, 1], [0, 2]]
    return standing


@pytest.fixture
def file(tmp_path: Path, network: NumpyNetwork, tiny: Architecture, progress: Progress) -> Path:
    save_checkpoint(RunDirectory.create(tmp_path / "run"), network, tiny, progress, FACTS)
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    return path


def _load(path: Path, tiny: Architecture) -> Checkpoint:
    return load_checkpoint(path, tiny, RECIPE, DATA)


class TestThereAndBack:
    def test_bits(self, file: Path, tiny: Architecture, network: NumpyNetwork) -> None:
        found = _load(file, tiny)
        assert network.velocities().keys() == network.params().keys() == found.velocities.keys()
        for before, after in ((network.params(), found.params), (network.velocities(), found.velocities)):
            for name, value in before.items():
                assert after[name].dtype == np.float32
                assert after[name].tobytes() == value.tobytes(), name

    def test_a_run_stands_where_it_stood(
        self, file: Path, tiny: Architecture, data: Dataset, progress: Progress
    ) -> None:
        fresh = start(data, RECIPE)
        _load(file, tiny).put_into(fresh)
        assert asdict(fresh) == asdict(progress)
        fresh.epoch_totals.count += 1
        assert fresh.run_totals == progress.run_totals  # two objects

    def test_before_the_first_evaluation(self, tmp_path: Path, network, tiny: Architecture, data: Dataset) -> None:
        early = start(data, RECIPE)
        early.step = 7  # the last of the epoch, and not evaluated yet
        directory = RunDirectory.create(tmp_path / "early")
        save_checkpoint(directory, network, tiny, early, {**FACTS, "step": 7})
        fresh = start(data, RECIPE)
        _load(directory.checkpoints()[0], tiny).put_into(fresh)
        assert (fresh.step, fresh.epoch, fresh.evaluated) == (7, 1, 0)
        assert math.isnan(fresh.test_loss)
        assert math.isnan(fresh.test_acc)

    def test_without_momentum_there_are_no_velocities(self, tmp_path, tiny: Architecture, progress: Progress) -> None:
        network = NumpyNetwork(tiny, randomness.initial_parameters(tiny, 1))
        directory = RunDirectory.create(tmp_path / "plain")
        save_checkpoint(directory, network, tiny, progress, FACTS)
        assert _load(directory.checkpoints()[0], tiny).velocities == {}

    def test_more_epochs_are_no_other_recipe(self, file: Path, tiny: Architecture) -> None:
        assert load_checkpoint(file, tiny, replace(RECIPE, epochs=50), DATA).step == 9


def test_the_last_two_are_kept(tmp_path: Path, network, tiny: Architecture, progress: Progress) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "notes.txt").write_text("mine")
    for progress.step in (8, 9, 999_999, 1_000_000):  # more digits are not before fewer
        save_checkpoint(directory, network, tiny, progress, FACTS)
    names = [path.name for path in directory.checkpoints()]
    assert names == ["step-999999.safetensors", "step-1000000.safetensors"]
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {*names, "notes.txt"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("batch_size", 11), ("lr", 0.2), ("seed", 1), ("momentum", 0.0), ("init", "he"), ("dropout", "native")),
        *(("train_examples", 10), ("test_examples", 10)),
    ],
)
def test_another_recipe(file: Path, tiny: Architecture, field: str, value: Any) -> None:
    with refused(CheckpointError, str(file), f"written with {field} {getattr(RECIPE, field)}", f"the run has {value}"):
        load_checkpoint(file, tiny, replace(RECIPE, **{field: value}), DATA)


def test_other_images(file: Path, tiny: Architecture) -> None:
    for other in ({**DATA, "test_images": "4568"}, {}, {**DATA, "more": "0"}):
        with refused(CheckpointError, str(file), "other images", "data set"):
            load_checkpoint(file, tiny, RECIPE, other)


class TestAnotherArchitecture:
    def test_other_names_and_shapes_are_listed(self, file: Path) -> None:
        layers = [
            {"type": "nin_block", "out_channels": 10, "kernel_size": 5, "mlp_channels": [10]},
            {"type": "global_avg_pool2d"},
            {"type": "flatten"},
            {"type": "linear", "out_features": 10},
        ]
        other = Architecture.model_validate({"name": "other", "input": (1, 8, 8), "layers": layers})
        fragments = (
            "'other'",
            "missing: linear1.weight, linear1.bias",
            "unexpected: block1.mlp2.bias, block1.mlp2.weight",
            "misshapen: block1.conv.weight (10, 1, 3, 3) for (10, 1, 5, 5)",
        )
        with refused(CheckpointError, str(file), *fragments):
            _load(file, other)

    def test_the_same_parameters_in_another_net(self, file: Path, tiny: Architecture) -> None:
        with refused(CheckpointError, str(file), "'tiny'", "another form"):
            _load(file, tiny.with_input((1, 9, 9)))


def _edited(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """A checkpoint with other facts, and checksums that are right."""
    stored = load_weights(file)
    facts = json.loads(json.dumps(dict(stored.facts)))
    edit(facts)
    save_weights(file, stored.params, stored.architecture, stored.velocities, **facts)


@pytest.mark.parametrize(
    "edit",
    [
        *(lambda facts, name=name: facts.pop(name) for name in ("step", "evaluated", "recipe", "data_sha256")),
        *(lambda facts, name=name: facts.pop(name) for name in ("epoch_totals", "run_totals", "test_loss")),
        lambda facts: facts.update(step=-1),
        lambda facts: facts.update(step="many"),
        lambda facts: facts["recipe"].update(lr=-1),
        lambda facts: facts["recipe"].update(speed=1),
        lambda facts: facts["run_totals"].update(loss=math.nan),
        lambda facts: facts["run_totals"].update(count=-1),
        lambda facts: facts["epoch_totals"].pop("seconds"),
        lambda facts: facts["epoch_totals"].update(more=1),
    ],
)
def test_weights_without_the_state_of_a_run(file: Path, tiny: Architecture, edit) -> None:
    _edited(file, edit)
    with refused(CheckpointError, str(file), "without the state of a run"):
        _load(file, tiny)


def test_an_edit_that_changes_nothing_is_no_damage(file: Path, tiny: Architecture) -> None:
    _edited(file, lambda facts: facts)
    assert _load(file, tiny).step == 9


class TestDamaged:
    @pytest.mark.parametrize("length", [0, 7, 8, 100, 1000, -1])
    def test_truncated(self, file: Path, tiny: Architecture, length: int) -> None:
        file.write_bytes(file.read_bytes()[:length])
        with refused(CheckpointError, str(file), "not a complete safetensors file"):
            _load(file, tiny)

    def test_any_altered_byte(self, file: Path, tiny: Architecture) -> None:
        whole, readable = file.read_bytes(), 0
        for place in range(0, len(whole), 7):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with contextlib.suppress(CheckpointError):
                found = _load(file, tiny)
                # A version number that nobody reads, or the name of the checksum.
                assert (found.step, found.evaluated, found.test) == (9, 1, (2.1, 0.3))
                assert found.run_totals == _totals(5)
                readable += 1
        assert readable < 10

    def test_a_pickle_in_disguise_is_not_run(self, file: Path, tiny: Architecture, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path(tmp_path / "ran").touch, ())

        file.write_bytes(pickle.dumps(Evil()))
        with refused(CheckpointError, str(file), "pickle"):
            _load(file, tiny)
        assert not (tmp_path / "ran").exists()

    def test_half_precision(self, file: Path, tiny: Architecture) -> None:
        with safe_open(file, framework="numpy") as stored:
            entry = stored.metadata()[KEY]
            halves = {name: stored.get_tensor(name).astype(np.float16) for name in stored.keys()}  # noqa: SIM118
        file.write_bytes(save(halves, metadata={KEY: entry}))
        with refused(CheckpointError, str(file), "expected float32", "F16"):
            _load(file, tiny)
