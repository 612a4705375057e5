"""Every backend against the specification and against the float64 oracle; run once per backend."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import checks, randomness, registry, zoo
from nin_multi.architecture_file import format_architecture, load_architecture, parse_architecture
from nin_multi.backend import Backend, Labels, Masks, Network, Params
from nin_multi.data import Dataset, synthetic_dataset
from nin_multi.errors import BackendUnavailable, CheckpointError, SpecError, UnsupportedLayer
from nin_multi.randomness import Purpose
from nin_multi.spec import Architecture, LayerBase
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Progress
from nin_multi.training.recipe import Recipe
from nin_multi.training.run import resume, train
from nin_multi.training.run_directory import RunDirectory
from nin_multi.weights import load_weights

ORACLE = registry.load("numpy")

# Every layer type, with what tells frameworks apart: rectangles, padding, ceil with an overhang, dropout at 0.2.
EVERYTHING = parse_architecture("""
name: everything
input: [2, 19, 14]
layers:
  - {type: conv2d, out_channels: 6, kernel_size: [3, 2], stride: [1, 2], padding: [2, 1], bias: false}
  - {type: relu}
  - {type: local_response_norm, size: 3, alpha: 0.3, beta: 0.6, k: 1.5}
  - {type: max_pool2d, kernel_size: 2, stride: 3, padding: 1, ceil_mode: true}
  - {type: dropout, rate: 0.2}
  - {type: sk_block, out_channels: 6, kernel_sizes: [1, 3], stride: [2, 1], reduction: 2, min_channels: 2}
  - {type: maxout, pieces: 2}
  - {type: nin_block, out_channels: 5, kernel_size: 2, mlp_channels: [7], final_relu: false}
  - {type: se_block, reduction: 3}
  - {type: avg_pool2d, kernel_size: [3, 2], stride: [2, 3], padding: [1, 0], ceil_mode: true}
  - {type: conv2d, out_channels: 8, kernel_size: 1}
  - {type: flatten}
  - {type: linear, out_features: 9}
  - {type: relu}
  - {type: dropout, rate: 0.5}
  - {type: maxout, pieces: 3}
  - {type: linear, out_features: 4, bias: false}
""")

# Few layers, as a framework that compiles does so for every run and batch size.
BRIEF = parse_architecture("""
name: brief
input: [1, 28, 28]
layers:
  - {type: nin_block, out_channels: 8, kernel_size: 5, stride: 2, mlp_channels: [10]}
  - {type: max_pool2d, kernel_size: 3, stride: 2}
  - {type: dropout, rate: 0.5}
  - {type: conv2d, out_channels: 10, kernel_size: 1}
  - {type: global_avg_pool2d}
  - {type: flatten}
""")


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / ||b||."""
    return float(np.linalg.norm(np.float64(a) - b) / max(np.linalg.norm(b), 1e-30))


def images(architecture: Architecture, count: int, seed: int = 1) -> np.ndarray:
    draw = randomness.uniform((count, *architecture.input), seed=seed, purpose=Purpose.INPUT)
    return draw.astype(np.float32)


def labels(architecture: Architecture, count: int) -> Labels:
    return (np.arange(count) % architecture.classes).astype(np.int32)


def random_params(architecture: Architecture) -> Params:
    """Xavier weights, and biases that are not zero: a bias that is left out has to show."""
    params = randomness.initial_parameters(architecture, 3)
    for name, value in params.items():
        if value.ndim == 1:
            draw = randomness.uniform(value.shape, seed=3, purpose=Purpose.INPUT, part=name)
            params[name] = (0.2 * draw - 0.05).astype(np.float32)
    return params


def build(backend: Backend, architecture: Architecture, params: Params | None = None) -> Network:
    params = random_params(architecture) if params is None else params
    return backend.build(architecture, params, device="cpu", precision=backend.precisions[0])


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("size", [None, (1, 161, 193)])
def test_zoo_has_the_shapes_of_the_spec(backend: Backend, name: str, size: tuple[int, int, int] | None) -> None:
    architecture = load_architecture(name)
    architecture = architecture.with_input(size) if size else architecture
    observed = checks.observed_shapes(backend, architecture, device="cpu")
    expected = checks.expected_shapes(architecture)
    assert list(observed) == list(expected)
    assert observed == expected


# Only the oracle's time is against the whole of it; the convolutions are the same.
SMALLER = {"alexnet": (1, 127, 127), "alexnet-2012": (1, 127, 127), "vgg11": (1, 64, 64)}


@pytest.mark.parametrize("architecture", [EVERYTHING, *map(load_architecture, zoo.names())], ids=lambda a: a.name)
def test_values_are_the_oracles(backend: Backend, architecture: Architecture) -> None:
    """Activations, loss, gradients, steps, momentum, the framework's own dropout: all that `verify` looks at."""
    problem = checks.clear_problem(architecture.with_input(SMALLER.get(architecture.name, architecture.input)), 2)
    truth = checks.find_truth(problem, 2)
    report = checks.verify(backend, problem, truth, device="cpu", precision=backend.precisions[0])
    assert problem.is_clear
    assert report.findings == []
    assert list(report.layers) == [row.name for row in problem.architecture.walk()]


FIRST_UNITS = {
    "sk": "{type: sk_block, out_channels: 6, kernel_sizes: [5, 1], stride: 2, min_channels: 3}",
    "se": "{type: se_block, reduction: 2}",
    "lrn": "{type: local_response_norm, size: 7, alpha: 0.2}",  # reaches over all channels
    "maxout": "{type: maxout, pieces: 2}",
}


@pytest.mark.parametrize("first", FIRST_UNITS.values(), ids=FIRST_UNITS)
def test_units_that_see_the_image_itself(backend: Backend, first: str) -> None:
    """Of images nobody wants a gradient, and fast paths may leave it out; of the layers that follow they must not."""
    rest = "[{type: sk_block, out_channels: 4}, {type: flatten}, {type: linear, out_features: 3}]"
    architecture = parse_architecture(f"name: first\ninput: [4, 9, 6]\nlayers: [{first}, {rest[1:]}")
    problem = checks.clear_problem(architecture, 2)
    truth = checks.find_truth(problem, 0)
    parts = ("parameters", "activations", "training")
    report = checks.verify(backend, problem, truth, device="cpu", precision=backend.precisions[0], parts=parts)
    assert report.findings == []
    assert problem.is_clear


@pytest.mark.parametrize("size", [(3, 5, 4), (3, 1, 1)], ids=["image", "features"])
def test_of_equal_pieces_the_first_passes_the_gradient_on(backend: Backend, size: tuple[int, int, int]) -> None:
    """Of filters that are alike only the first of each three moves."""
    made, flat = "{type: conv2d, out_channels: 6, kernel_size: 1}", "{type: flatten}"
    layers = [made, flat, "{type: maxout, pieces: 3}"] if size[1] == 1 else [made, "{type: maxout, pieces: 3}", flat]
    architecture = parse_architecture(f"name: ties\ninput: {list(size)}\nlayers: [{', '.join(layers)}]")
    params = random_params(architecture)
    for name, value in params.items():
        params[name] = np.repeat(value[:1], 6, axis=0)
    x, y = images(architecture, 3), labels(architecture, 3)
    _, gradients = build(backend, architecture, params).loss_and_gradients(x, y, {})
    _, expected = build(ORACLE, architecture, params).loss_and_gradients(x, y, {})
    for name, value in gradients.items():
        assert relative(value, expected[name]) < 1e-5, name
        assert [bool(each.any()) for each in value] == [True, False, False] * 2


def test_layers_are_timed_one_by_one_and_units_as_one(backend: Backend) -> None:
    """By the spec's names, those inside blocks too."""
    block, unit = "{type: nin_block, out_channels: 4, kernel_size: 3, mlp_channels: []}", "{type: se_block}"
    architecture = parse_architecture(f"name: timed\ninput: [2, 6, 5]\nlayers: [{block}, {unit}, {{type: flatten}}]")
    place: dict[str, Any] = {"device": "cpu", "precision": backend.precisions[0]}
    x = images(architecture, 2)
    times = list(backend.layer_times(architecture, random_params(architecture), x, **place, repeats=1))
    assert [name for name, *_ in times] == ["block1.conv", "block1.relu", "se1", "flatten1"]
    assert all(forward > 0 and backward >= 0 for _, forward, backward in times)


def test_other_precisions_are_near_the_default(backend: Backend) -> None:
    """bf16 keeps 8 bits of a product's factors: the loss moves by about 2^-8, and no more."""
    params, x, y = random_params(EVERYTHING), images(EVERYTHING, 4), labels(EVERYTHING, 4)
    masks = randomness.dropout_masks(EVERYTHING, 4, seed=0, step=0)
    expected = build(backend, EVERYTHING, params).train_step(x, y, masks, 0.1).loss
    for precision in backend.precisions[1:]:
        network = backend.build(EVERYTHING, params, device="cpu", precision=precision)
        assert network.train_step(x, y, masks, 0.1).loss == pytest.approx(expected, rel=0.02)
        assert network.train_step(x, y, masks, 0.1).loss < expected
        assert all(value.dtype == np.float32 for value in network.params().values())


def test_partial_batches_and_evaluation_between_steps(backend: Backend) -> None:
    network, oracle = build(backend, EVERYTHING), build(ORACLE, EVERYTHING)
    for step, count in enumerate((4, 3, 4, 1)):
        x, y = images(EVERYTHING, count), labels(EVERYTHING, count)
        masks = randomness.dropout_masks(EVERYTHING, count, seed=0, step=step)
        result, truth = network.train_step(x, y, masks, 0.05), oracle.train_step(x, y, masks, 0.05)
        assert result.loss == pytest.approx(truth.loss, rel=1e-5)
        # Dropout is off here, and on again in the next step.
        assert relative(network.logits(x), oracle.logits(x)) < 1e-5


def test_a_learning_rate_of_zero_changes_nothing(backend: Backend) -> None:
    params = random_params(EVERYTHING)
    network = build(backend, EVERYTHING, params)
    masks = randomness.dropout_masks(EVERYTHING, 4, seed=0, step=0)
    network.train_step(images(EVERYTHING, 4), labels(EVERYTHING, 4), masks, 0.0)
    for name, value in network.params().items():
        np.testing.assert_array_equal(value, params[name], err_msg=name)


def test_parameters_go_in_and_come_out_bit_for_bit(backend: Backend) -> None:
    params = random_params(EVERYTHING)
    network = build(backend, EVERYTHING, params)
    copies = network.params()
    assert list(copies) == list(params)
    for name, value in copies.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, params[name], err_msg=name)
        value[...] = 7.0  # theirs to write on
    for name, value in network.params().items():
        np.testing.assert_array_equal(value, params[name], err_msg=name)


def test_foreign_parameters_are_refused(backend: Backend) -> None:
    params = dict(random_params(EVERYTHING))
    params["nobody.weight"] = params.pop("linear1.bias")
    with pytest.raises(CheckpointError, match=r"missing: linear1\.bias; unexpected: nobody\.weight"):
        build(backend, EVERYTHING, params)


def test_unknown_layers_devices_and_precisions_are_refused(backend: Backend) -> None:
    class Whiten(LayerBase):
        type: str = "whiten"

    odd = EVERYTHING.model_copy(update={"layers": (Whiten(name="white"), *EVERYTHING.layers)})
    with pytest.raises(UnsupportedLayer, match=f"{backend.name}: no form of layer 'white' .whiten."):
        list(build(backend, odd).activations(images(odd, 1)))
    with pytest.raises(BackendUnavailable, match=r"'cuda:77' is not here; usable now: .*cpu"):
        backend.build(EVERYTHING, random_params(EVERYTHING), device="cuda:77", precision=backend.precisions[0])
    with pytest.raises(BackendUnavailable, match="no precision 'fp7'"):
        backend.build(EVERYTHING, random_params(EVERYTHING), device="cpu", precision="fp7")


def _train(backend: Backend, directory: Path, seed: int) -> bytes:
    file = directory.with_name("brief.yaml")
    file.write_text(format_architecture(BRIEF))
    command = [sys.executable, "-m", "nin_multi", "train", "--backend", backend.name, "--arch", str(file)]
    command += ["--dataset", "synthetic", "--train-examples", "100", "--test-examples", "20", "--batch-size", "32"]
    command += ["--epochs", "1", "--seed", str(seed), "--run-dir", str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    return (directory / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["train", "cells", "training", "hybridize"])
def test_a_name_that_the_framework_uses_itself_is_refused_or_works(backend: Backend, name: str) -> None:
    layers = [{"type": "global_avg_pool2d", "name": name}, {"type": "flatten"}]
    architecture = Architecture(name="named", input=(2, 4, 4), layers=layers)
    try:
        network = build(backend, architecture, {})
    except SpecError as error:
        assert f"{backend.name}: layer {name!r}: " in str(error)  # noqa: PT017
    else:
        assert network.logits(np.zeros((3, 2, 4, 4), np.float32)).shape == (3, 2)


def test_equal_runs_give_equal_files(backend: Backend, tmp_path: Path) -> None:
    first = _train(backend, tmp_path / "a", 0)
    assert _train(backend, tmp_path / "b", 0) == first
    assert _train(backend, tmp_path / "c", 1) != first


# --- momentum, state, draws ------------------------------------------------------------------------------------------


def _step_args(step: int, count: int = 4) -> tuple[np.ndarray, Labels, Masks]:
    masks = randomness.dropout_masks(EVERYTHING, count, seed=0, step=step)
    return images(EVERYTHING, count, seed=step + 1), labels(EVERYTHING, count), masks


def _same_bits(found: Params, expected: Params) -> None:
    assert list(found) == list(expected) == list(EVERYTHING.parameter_shapes())
    for name, value in found.items():
        assert (value.dtype, value.shape) == (np.float32, expected[name].shape), name
        assert value.tobytes() == expected[name].tobytes(), name


def test_momentum_with_a_changing_rate_follows_the_oracle(backend: Backend) -> None:
    """Where the rate is inside the velocity, as in Gluon's and MindSpore's own optimizers, the second step differs."""
    problem = checks.clear_problem(EVERYTHING, 4)
    params, x, y = problem.params, problem.x, problem.y
    masks = randomness.dropout_masks(EVERYTHING, 4, seed=0, step=0)
    network, oracle = build(backend, EVERYTHING, params), build(ORACLE, EVERYTHING, params)
    assert network.velocities() == {}
    for lr, momentum in ((0.1, 0.9), (0.01, 0.9), (0.05, 0.5)):
        result = network.train_step(x, y, masks, lr, momentum)
        truth = oracle.train_step(x, y, masks, lr, momentum)
        assert result.loss == pytest.approx(truth.loss, rel=1e-5)
        for found, expected in ((network.params(), oracle.params()), (network.velocities(), oracle.velocities())):
            assert list(found) == list(expected) == list(EVERYTHING.parameter_shapes())
            for name, value in found.items():
                assert relative(value, expected[name]) < 1e-4, name
    # A rate of 0 moves the velocities alone.
    before, moving = network.params(), network.velocities()
    network.train_step(x, y, masks, 0.0, 0.9)
    _same_bits(network.params(), before)
    assert all(value.tobytes() != moving[name].tobytes() for name, value in network.velocities().items())


def test_plain_steps_and_steps_with_momentum_share_their_parameters(backend: Backend) -> None:
    network, oracle = build(backend, EVERYTHING), build(ORACLE, EVERYTHING)
    for step, momentum in enumerate((0.0, 0.9, 0.0, 0.9)):
        x, y, masks = _step_args(step)
        network.train_step(x, y, masks, 0.05, momentum)
        oracle.train_step(x, y, masks, 0.05, momentum)
    for name, value in network.params().items():
        assert relative(value, oracle.params()[name]) < 1e-4, name


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_restore_puts_the_state_back_bit_for_bit(backend: Backend, momentum: float) -> None:
    network = build(backend, EVERYTHING)
    network.train_step(*_step_args(0), 0.1, momentum)
    network.restore(network.params(), network.velocities())  # the oracle's float64 is float32 from here on
    params, velocities = network.params(), network.velocities()
    assert list(velocities) == (list(EVERYTHING.parameter_shapes()) if momentum else [])
    network.train_step(*_step_args(1), 0.1, momentum)
    after, moved = network.params(), network.velocities()
    assert all(value.tobytes() != params[name].tobytes() for name, value in after.items())
    fresh = build(backend, EVERYTHING, randomness.initial_parameters(EVERYTHING, 9))
    for each in (network, fresh):  # one that has moved on, and another one altogether
        each.restore(params, velocities)
        _same_bits(each.params(), params)
        assert {name: value.tobytes() for name, value in each.velocities().items() if value.any()} == {
            name: value.tobytes() for name, value in velocities.items()
        }
        each.train_step(*_step_args(1), 0.1, momentum)
        _same_bits(each.params(), after)
        if momentum:
            _same_bits(each.velocities(), moved)


def test_a_step_whose_loss_is_no_number_moves_nothing(backend: Backend) -> None:
    network, twin = build(backend, EVERYTHING), build(backend, EVERYTHING)
    x, y, masks = _step_args(0)
    good = network.train_step(x, y, masks, 0.1, 0.9)
    assert good.logits is not None
    assert good.logits.shape == (len(y), 4)
    assert int((good.logits.argmax(1) == y).sum()) == good.correct
    params, velocities = network.params(), network.velocities()
    # Beyond the last ReLU and pool, which in some frameworks make a number of it again.
    last = {name: np.full_like(value, np.nan) for name, value in params.items() if name == "linear2.weight"}
    network.restore({**params, **last}, velocities)
    assert not np.isfinite(network.train_step(*_step_args(1), 0.1, 0.9).loss)
    _same_bits(network.params(), {**params, **last})
    _same_bits(network.velocities(), velocities)
    # Nothing of its gradients stays behind.
    for each in (network, twin):
        each.restore(params, velocities)
        each.train_step(*_step_args(2), 0.1, 0.9)
    _same_bits(network.params(), twin.params())


def test_restoring_no_velocities_stands_still(backend: Backend) -> None:
    network, fresh, params = build(backend, EVERYTHING), build(backend, EVERYTHING), random_params(EVERYTHING)
    network.train_step(*_step_args(0), 0.1, 0.9)
    network.restore(params, {})
    assert not any(value.any() for value in network.velocities().values())
    for each in (network, fresh):
        each.train_step(*_step_args(1), 0.1, 0.9)
    _same_bits(network.params(), fresh.params())


def test_what_was_given_to_restore_stays_the_callers(backend: Backend) -> None:
    network = build(backend, EVERYTHING)
    network.train_step(*_step_args(0), 0.1, 0.9)
    network.restore(network.params(), network.velocities())
    params, velocities = network.params(), network.velocities()
    kept = [{name: value.copy() for name, value in named.items()} for named in (params, velocities)]
    network.restore(params, velocities)
    network.train_step(*_step_args(1), 0.1, 0.9)
    _same_bits(params, kept[0])
    _same_bits(velocities, kept[1])
    network.restore(params, velocities)
    for value in (*params.values(), *velocities.values()):
        value[...] = 7.0
    _same_bits(network.params(), kept[0])
    _same_bits(network.velocities(), kept[1])


def _native(backend: Backend, seed: int | None, steps: int = 3) -> list[float]:
    """Losses of steps in which the framework draws, with a rate of 0: only the draws differ."""
    network = backend.build(
        EVERYTHING, random_params(EVERYTHING), device="cpu", precision=backend.precisions[0], seed=seed
    )
    x, y = images(EVERYTHING, 4), labels(EVERYTHING, 4)
    return [network.train_step(x, y, None, 0.0).loss for _ in range(steps)]


def test_the_frameworks_own_draws_repeat_with_their_seed(backend: Backend) -> None:
    first = _native(backend, 7)
    assert _native(backend, 7) == first
    assert len({*first, *_native(backend, 8)}) == 6  # every step and every seed draws anew
    x, y = images(EVERYTHING, 4), labels(EVERYTHING, 4)
    undropped = build(ORACLE, EVERYTHING).train_step(x, y, {}, 0.0).loss
    assert all(loss != pytest.approx(undropped, rel=1e-4) for loss in first)


def test_the_frameworks_own_dropout_drops_its_share_and_scales_the_rest(backend: Backend) -> None:
    """By the gradient of a bias behind a dropout of ones: it is what a mask has left over."""
    net = parse_architecture(
        "name: x\ninput: [1, 50, 50]\nlayers:\n  - {type: flatten}\n  - {type: dropout, rate: 0.2}\n"
        "  - {type: linear, out_features: 2}\n"
    )
    params = {"linear1.weight": np.zeros((2, 2500), np.float32), "linear1.bias": np.zeros(2, np.float32)}
    network = backend.build(net, params, device="cpu", precision=backend.precisions[0], seed=3)
    _, gradients = network.loss_and_gradients(np.ones((1, 1, 50, 50), np.float32), np.zeros(1, np.int32), None)
    mask = gradients["linear1.weight"][1] / np.float32(0.5)  # of even chances, the wrong class has half
    kept = mask[mask != 0]
    np.testing.assert_allclose(kept, np.full(len(kept), 1.25), rtol=1e-5)
    assert abs((mask == 0).mean() - 0.2) < 6 * (0.2 * 0.8 / 2500) ** 0.5


def test_evaluation_has_no_dropout_whoever_draws(backend: Backend) -> None:
    network, oracle = build(backend, EVERYTHING), build(ORACLE, EVERYTHING)
    x, y = images(EVERYTHING, 4), labels(EVERYTHING, 4)
    expected = oracle.logits(x)
    for masks in (None, _step_args(0)[2], None):
        network.train_step(x, y, masks, 0.0)
        first, second = network.logits(x), network.logits(x)
        assert first.tobytes() == second.tobytes()
        assert relative(first, expected) < 1e-5


SINGLE_PLACE = parse_architecture("""
name: single-place
input: [1, 1, 5]
layers:
  - {type: conv2d, out_channels: 1, kernel_size: 1, stride: [1, 2], bias: false}
  - {type: conv2d, out_channels: 1, kernel_size: 3, stride: [1, 2], padding: [2, 0], bias: false}
  - {type: flatten}
""")


def test_a_stride_that_leads_nowhere(backend: Backend) -> None:
    """The kernel has one place in a row: PyTorch's convolution of it gave what nobody had written, with AVX-512."""
    x = images(SINGLE_PLACE, 2)
    expected = build(ORACLE, SINGLE_PLACE).logits(x)
    assert relative(build(backend, SINGLE_PLACE).logits(x), expected) < 1e-5


# --- runs that were stopped ------------------------------------------------------------------------------------------


class _StopsAt(Silent):
    def __init__(self, step: int | None) -> None:
        self._when = step

    def step(self, progress: Progress) -> None:
        if progress.step == self._when:
            signal.raise_signal(signal.SIGTERM)


RECIPE = Recipe(epochs=2, batch_size=32, lr=0.05, momentum=0.9, init="he", train_examples=100, test_examples=20)


@pytest.fixture(scope="module")
def few() -> Dataset:
    return synthetic_dataset(100, 20)


# Softmax regression behind a dropout: no ReLU and no pool, so that nothing has to be decided by float32's last bit.
SMOOTH = parse_architecture(
    "name: smooth\ninput: [1, 28, 28]\nlayers:\n  - {type: flatten}\n  - {type: dropout, rate: 0.5}\n"
    "  - {type: linear, out_features: 10}\n"
)


def _job(backend: Backend, data: Dataset, architecture: Architecture = BRIEF, **changed: Any) -> Job:
    return Job(backend, "cpu", backend.precisions[0], architecture, data, replace(RECIPE, **changed))


def _stopped(job: Job, path: Path, step: int | None) -> RunDirectory:
    result = train(job, RunDirectory.create(path), _StopsAt(step))
    assert result["status"] == ("done" if step is None else "interrupted")
    return RunDirectory.open(path)


def _weights(directory: RunDirectory) -> Params:
    return load_weights(directory.path / "weights.safetensors").params


@pytest.fixture(scope="module")
def whole(backend: Backend, few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that nobody stops."""
    return _stopped(_job(backend, few), tmp_path_factory.mktemp("whole") / "run", None)


@pytest.mark.parametrize("step", [2, 4, 7], ids=["mid-epoch", "before evaluation", "last epoch"])
def test_a_stopped_run_becomes_the_unbroken_one(
    backend: Backend, few: Dataset, whole: RunDirectory, tmp_path: Path, step: int
) -> None:
    job = _job(backend, few)
    broken = _stopped(job, tmp_path / "broken", step)
    assert resume(job, broken, Silent())["status"] == "done"
    a, b = ((run.path / "weights.safetensors").read_bytes() for run in (whole, broken))
    if backend.precisions[0] == "fp64":  # checkpoints are float32
        for name, value in _weights(broken).items():
            assert relative(value, _weights(whole)[name]) < 1e-5, name
    else:
        assert a == b


def test_a_run_goes_on_in_another_framework(backend: Backend, few: Dataset, tmp_path: Path) -> None:
    """From the oracle to this backend and from this backend to the oracle: both are the oracle's own run."""
    here, there = _job(backend, few, SMOOTH), _job(ORACLE, few, SMOOTH)
    expected = _weights(_stopped(there, tmp_path / "whole", None))
    for name, first, second in (("to", there, here), ("from", here, there)):
        run = _stopped(first, tmp_path / name, 5)
        assert resume(second, run, Silent())["backend"] == second.backend.name
        for parameter, value in _weights(run).items():
            assert relative(value, expected[parameter]) < 1e-5, (name, parameter)


def test_a_resumed_run_draws_by_seed_and_step(backend: Backend, few: Dataset, tmp_path: Path) -> None:
    job = _job(backend, few, dropout="native")
    broken = _stopped(job, tmp_path / "a", 3)
    shutil.copytree(broken.path, tmp_path / "b")
    found = []
    for run in (broken, RunDirectory.open(tmp_path / "b")):
        assert resume(job, run, Silent())["status"] == "done"
        found.append((run.path / "weights.safetensors").read_bytes())
    assert found[0] == found[1]
