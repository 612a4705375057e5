"""What only a GPU can show: graphs, its resize, dropout, memory. With `--device cpu` what needs no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nin_multi import checks, randomness
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend, Params, StepResult
from nin_multi.data import synthetic_dataset
from nin_multi.data.batches import batch_order, prepare
from nin_multi.data.resize import resampling
from nin_multi.spec import Architecture
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.recipe import Recipe
from nin_multi.training.residents import Residents, rehearse, settle
from nin_multi.training.run import train
from nin_multi.training.run_directory import RunDirectory
from nin_multi.training.scores import evaluate, score

pytestmark = pytest.mark.filterwarnings("default")  # a GPU's libraries warn of their own accord

OnDevice = tuple[Backend, str]


@pytest.fixture(scope="module")
def small() -> Architecture:
    """Two blocks with a pool and a dropout between them, at another size than the images'."""
    layers: list[dict[str, Any]] = [
        {"type": "nin_block", "out_channels": 16, "kernel_size": 5, "stride": 2},
        {"type": "max_pool2d", "kernel_size": 3, "stride": 2},
        {"type": "dropout", "rate": 0.5},
        {"type": "nin_block", "out_channels": 10, "kernel_size": 3, "stride": 1, "padding": 1},
        {"type": "global_avg_pool2d"},
        {"type": "flatten"},
    ]
    return Architecture.model_validate({"name": "small", "input": (1, 56, 40), "layers": layers})


def _offered(on_device: OnDevice, net: Architecture, precision: str, tuning: dict[str, str]) -> dict[str, str]:
    """Without what cannot be chosen on a CPU; on a GPU all of it must be there."""
    knobs = on_device[0].knobs(net, device=on_device[1], precision=precision)
    values = {knob.name: knob.values for knob in knobs}
    wanted = {"data": "resident", **tuning}
    is_cpu = on_device[1] == "cpu"
    return {name: value for name, value in wanted.items() if not is_cpu or value in values.get(name, ())}


def _settled(
    on_device: OnDevice, net: Architecture, params: Params, precision: str, data: Any, **tuning: str
) -> tuple[Any, Residents]:
    backend, device = on_device
    chosen = _offered(on_device, net, precision, tuning)
    network = backend.build(net, params, device=device, precision=precision, seed=5, tuning=chosen)
    residents = settle(network, net, data)
    assert residents is not None
    return network, residents


def _curve(
    on_device: OnDevice,
    net: Architecture,
    precision: str,
    *,
    masked: bool,
    momentum: float = 0.9,
    examples: int = 72,
    **tuning: str,
) -> tuple[list[StepResult], Params, Params]:
    """Ten steps one by one, of batches of 16 and 8; the parameters and velocities after them."""
    data = synthetic_dataset(examples, 10)
    network, residents = _settled(
        on_device, net, randomness.initial_parameters(net, 0, "he"), precision, data, **tuning
    )
    order = [chosen for epoch in range(3) for chosen in batch_order(examples, 16, seed=0, epoch=epoch)][:10]
    steps = []
    for number, chosen in enumerate(order):
        masks = iter([randomness.dropout_masks(net, len(chosen), 0, number)]) if masked else None
        steps.append(residents.train.train([chosen], masks, 0.02, momentum))
    return steps, network.params(), network.velocities()


def _compare(found: Any, wanted: Any, rel: float) -> None:
    np.testing.assert_allclose([s.loss for s in found[0]], [s.loss for s in wanted[0]], rtol=rel)
    assert [s.count for s in found[0]] == [s.count for s in wanted[0]]
    for found_set, wanted_set in zip(found[1:], wanted[1:], strict=True):
        assert found_set.keys() == wanted_set.keys()
        for name, value in wanted_set.items():
            np.testing.assert_allclose(
                found_set[name], value, rtol=0, atol=10 * rel * np.abs(value).max(), err_msg=name
            )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("masked", [True, False], ids=["shared", "native"])
@pytest.mark.parametrize(("precision", "rel"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_a_graph_s_steps_are_those_without(
    torch_on_device: OnDevice, small: Architecture, precision: str, rel: float, masked: bool, momentum: float
) -> None:
    """With the framework's own dropout too: a graph takes its draws from where they stand."""
    eager = _curve(torch_on_device, small, precision, masked=masked, momentum=momentum, graph="off")
    graph = _curve(torch_on_device, small, precision, masked=masked, momentum=momentum, graph="on")
    _compare(graph, eager, rel)


@pytest.mark.parametrize(("how", "graph"), [("on", "off"), ("on", "on"), ("max", "on")])
def test_a_compiled_net_s_steps_are_those_of_the_net(
    torch_on_device: OnDevice, small: Architecture, how: str, graph: str
) -> None:
    # One size of batch: each other one would be compiled anew.
    plain = _curve(torch_on_device, small, "fp32", masked=True, examples=64, graph="off")
    found = _curve(torch_on_device, small, "fp32", masked=True, examples=64, graph=graph, compile=how)
    _compare(found, plain, 1e-4)


def test_steps_are_those_of_batches_from_the_host(torch_on_device: OnDevice, small: Architecture) -> None:
    backend, device = torch_on_device
    data = synthetic_dataset(40, 10)
    params = randomness.initial_parameters(small, 0, "he")
    fed = backend.build(small, params, device=device, precision="fp32", tuning={"data": "fed"})
    held, residents = _settled(torch_on_device, small, params, "fp32", data)
    order = batch_order(40, 16, seed=0, epoch=0)
    masks = [randomness.dropout_masks(small, len(chosen), 0, step) for step, chosen in enumerate(order)]
    loss = 0.0
    for chosen, mask in zip(order, masks, strict=True):
        x, y = prepare(data.train.images[chosen], small), data.train.labels[chosen].astype(np.int32)
        loss += fed.train_step(x, y, mask, 0.02, 0.9).loss
    assert residents.train.train(order, iter(masks), 0.02, 0.9).loss == pytest.approx(loss, rel=1e-5)
    for name, value in fed.params().items():
        np.testing.assert_allclose(held.params()[name], value, rtol=0, atol=1e-4 * np.abs(value).max())
    wanted = evaluate(fed, small, data.test, 10)
    found = score(residents.test.logits(), data.test.labels)
    assert (found.loss, found.accuracy) == pytest.approx((wanted.loss, wanted.accuracy), rel=1e-4)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("size", [(28, 28), (224, 224), (32, 56), (20, 28), (13, 9), (97, 300)], ids=str)
def test_pixels_are_the_harness_s_bit_for_bit(torch_on_device: OnDevice, size: tuple[int, int], once: bool) -> None:
    import torch

    from nin_torch.pictures import Pictures

    images = np.random.default_rng(sum(size)).integers(0, 256, (40, 28, 28), np.uint8)
    layers = [{"type": "global_avg_pool2d"}, {"type": "flatten"}]
    net = Architecture.model_validate({"name": "x", "input": (1, *size), "layers": layers})
    axes = resampling(28, size[0]), resampling(28, size[1])
    device = torch.device(torch_on_device[1])
    pictures = Pictures(images, 1, axes, device, channels_last=True, once=once)
    chosen = np.random.default_rng(1).permutation(40)
    found = pictures.take(torch.from_numpy(chosen).to(device)).cpu().numpy()
    assert found.tobytes() == prepare(images[chosen], net).tobytes()


@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.parametrize("graph", ["off", "on"])
def test_its_own_dropout_drops_the_right_share_and_others_each_time(
    torch_on_device: OnDevice, rate: float, graph: str
) -> None:
    """One white image into one linear layer of zeros: a column of weights moves where its input was kept."""
    layers = [{"type": "flatten"}, {"type": "dropout", "rate": rate}, {"type": "linear", "out_features": 10}]
    net = Architecture.model_validate({"name": "probe", "input": (1, 28, 28), "layers": layers})
    zeros = {name: np.zeros(shape, np.float32) for name, shape in net.parameter_shapes().items()}
    data = synthetic_dataset(10, 10)
    data.train.images[:] = 255
    network, residents = _settled(torch_on_device, net, zeros, "fp32", data, graph=graph)
    masks = []
    for _ in range(8):
        network.restore(zeros, {})
        residents.train.train([np.array([3])], None, 1.0)
        masks.append(np.abs(network.params()["linear1.weight"]).max(0) > 0)
    assert abs(1 - np.mean(masks) - rate) < 0.03
    assert len({mask.tobytes() for mask in masks}) == 8


def test_a_rehearsal_leaves_weights_and_draws(torch_on_device: OnDevice, small: Architecture) -> None:
    data = synthetic_dataset(40, 10)
    params = randomness.initial_parameters(small, 0, "he")
    losses = []
    for rehearsed in (False, True):
        network, residents = _settled(torch_on_device, small, params, "fp32", data)
        if rehearsed:
            recipe = Recipe(batch_size=16, dropout="native", lr=0.02, momentum=0.9)
            assert rehearse(residents, small, data, recipe, seconds=0.01).examples_per_sec > 0
            for name, value in network.params().items():
                np.testing.assert_array_equal(value, params[name])
        order = batch_order(40, 16, seed=0, epoch=0)
        losses.append(residents.train.train(order, None, 0.02, 0.9).loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_memory_stays_flat(torch_on_device: OnDevice, small: Architecture) -> None:
    import torch

    if torch_on_device[1] == "cpu":
        pytest.skip("only a GPU says how much it has given out")
    data = synthetic_dataset(40, 10)
    params = randomness.initial_parameters(small, 0)
    _, residents = _settled(torch_on_device, small, params, "bf16", data)
    order, given = batch_order(40, 16, seed=0, epoch=0), []
    for _ in range(4):
        residents.train.train(order * 20, None, 0.01, 0.9)
        residents.test.logits()
        given.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert len(set(given[1:])) == 1, given


def test_float32_is_float32(torch_on_device: OnDevice) -> None:
    """`verify`'s own bounds: TF32 or another approximation is a thousand times further off."""
    backend, device = torch_on_device
    problem = checks.clear_problem(load_architecture("nin-mnist"), 4, 0)
    report = checks.verify(backend, problem, checks.find_truth(problem, 5), device=device, precision="fp32").as_dict()
    assert report["agree"], report["divergences"]


def test_a_whole_run(torch_on_device: OnDevice, small: Architecture, tmp_path: Path) -> None:
    backend, device = torch_on_device
    data = synthetic_dataset(300, 60)
    fixed = _offered(torch_on_device, small, "bf16", {})
    recipe = Recipe(epochs=3, batch_size=32, lr=0.02, momentum=0.9, init="he")
    job = Job(backend, device, "bf16", small, data, recipe, fixed).with_default_dropout()
    assert job.recipe.dropout == ("shared" if device == "cpu" else "native")
    directory = RunDirectory.create(tmp_path / "run")
    result = train(job, directory, Silent())
    assert (result["status"], result["steps"]) == ("done", 30)
    losses = [event["loss"] for event in directory.events() if event["event"] == "epoch"]
    assert losses[-1] < losses[0]
