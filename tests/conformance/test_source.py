"""The program that a backend writes for a net is that net: names, numbers, a step of training; and it needs no more."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from strategies import architectures
from test_conformance import EVERYTHING, images, labels, random_params, relative

from nin_multi import zoo
from nin_multi.architecture_file import format_architecture, load_architecture, parse_architecture
from nin_multi.backend import Backend, Network, Params
from nin_multi.errors import UnsupportedLayer, UsageError
from nin_multi.oracle import NumpyNetwork
from nin_multi.spec import Architecture, LayerBase
from nin_multi.weights import save_weights

Program = dict[str, Any]
Arrays = dict[str, np.ndarray]

# Every layer type, and pooling as frameworks have trouble with it: one that rounds up and reads beyond the image, one
# that rounds up along one axis and must not along the other, of negative values too, and means of both.
LAYERS = parse_architecture("""
name: layers
input: [2, 26, 23]
layers:
  - {type: conv2d, out_channels: 5, kernel_size: [3, 2], stride: [1, 2], padding: [2, 1], bias: false}
  - {type: relu, name: class}
  - {type: local_response_norm}
  - {type: max_pool2d, kernel_size: 3, stride: 2, ceil_mode: true}
  - {type: dropout, rate: 0.2}
  - {type: sk_block, out_channels: 6, kernel_sizes: [1, 3, 5], reduction: 4, min_channels: 3}
  - {type: nin_block, out_channels: 6, kernel_size: 3, padding: [1, 2], final_relu: false}
  - {type: se_block, reduction: 3}
  - {type: max_pool2d, kernel_size: [3, 2], stride: [2, 3], padding: [0, 1], ceil_mode: true}
  - {type: nin_block, out_channels: 4, kernel_size: 2, padding: 1, mlp_channels: [7], final_relu: false}
  - {type: avg_pool2d, kernel_size: [3, 2], stride: [2, 2], padding: [1, 0], ceil_mode: true}
  - {type: nin_block, out_channels: 6, kernel_size: 1, mlp_channels: [5, 8]}
  - {type: maxout, pieces: 2}
  - {type: avg_pool2d, kernel_size: 2, stride: 1}
  - {type: max_pool2d, kernel_size: 2, stride: 1, padding: 1}
  - {type: global_avg_pool2d}
  - {type: flatten}
  - {type: linear, out_features: 9}
  - {type: relu}
  - {type: dropout, rate: 0.5}
  - {type: linear, out_features: 4, bias: false}
""")

# Strides that go by leaving pixels out: of single pixels, and of kernels that have one place, also within units and
# blocks. PyTorch's own convolutions are wrong there on some processors.
STRIDES = parse_architecture("""
name: strides
input: [1, 19, 5]
layers:
  - {type: conv2d, out_channels: 3, kernel_size: 1, stride: [1, 2], bias: false}
  - {type: conv2d, out_channels: 4, kernel_size: 3, stride: [1, 2], padding: [2, 0]}
  - {type: nin_block, out_channels: 5, kernel_size: [3, 1], stride: [2, 3]}
  - {type: nin_block, out_channels: 5, kernel_size: 3, padding: 1}
  - {type: sk_block, out_channels: 6, kernel_sizes: [1, 3], stride: 2, reduction: 2, min_channels: 3}
  - {type: flatten}
""")

# What makes a backend compute the framework's own net, all images at once.
PLAIN = {
    "torch": {"layout": "contiguous", "micro_batch": "all"},
    "mindspore": {"convolution": "conv2d", "micro_batch": "all"},
    "mxnet": {"micro_batch": "all"},
    "numpy": {},
}


@pytest.fixture
def run(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Program]]:
    """Execute a program's text as a module of its own; not as the main program."""
    if backend.name not in PLAIN:
        pytest.skip(f"{backend.name} writes no programs")
    if backend.name != "numpy":  # MindSpore takes no other device once it has computed
        backend.start("cpu")  # type: ignore[attr-defined]
    count = itertools.count()

    def execute(source: str) -> Program:
        path = tmp_path / f"written_{next(count)}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)  # MindSpore reads a function's text by its module
        spec.loader.exec_module(module)
        return vars(module)

    yield execute
    if backend.name == "mxnet":  # as it was before: the program has switched to its newer kind of arrays
        backend.framework().npx.reset_np()  # type: ignore[attr-defined]


def held(backend: Backend, net: Any) -> Arrays:
    """A net's parameters by the framework's own names for them."""
    match backend.name:
        case "torch":
            return {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
        case "mindspore":
            return {name: value.asnumpy().copy() for name, value in net.parameters_and_names()}
        case "numpy":
            return {name: value.astype(np.float32) for name, value in net.named_parameters().items()}
        case _:
            return {name: value.data().asnumpy() for name, value in net._collect_params_with_prefix().items()}


def scores(backend: Backend, net: Any, x: np.ndarray) -> np.ndarray:
    """What the framework's own net says of images, as its people ask it, in evaluation mode."""
    if isinstance(net, NumpyNetwork):  # there is no framework's net behind it
        return net.logits(x)
    if backend.name == "numpy":
        net.train(False)
        return net.forward(x.astype(np.float64))
    framework: Any = backend.framework()  # type: ignore[attr-defined]
    match backend.name:
        case "torch":
            with framework.inference_mode():
                found = net.eval()(framework.from_numpy(x)).numpy()
        case "mindspore":
            found = net.set_train(False)(framework.Tensor(x)).asnumpy()
        case _:
            kind = framework.np if framework.util.is_np_array() else framework.nd
            found = net(kind.array(x)).asnumpy()
    return np.array(found)


def assert_same(a: np.ndarray, b: np.ndarray, what: str) -> None:
    """Bit for bit."""
    assert (a.dtype, a.shape) == (b.dtype, b.shape), what
    assert a.tobytes() == b.tobytes(), f"off by up to {np.abs(a - b).max()}: {what}"


def build(backend: Backend, architecture: Architecture, params: Params, tuning: dict[str, str] | None) -> Network:
    return backend.build(architecture, params, device="cpu", precision=backend.precisions[0], tuning=tuning)


def filled(program: Program, architecture: Architecture, params: Params, folder: Path) -> Any:
    """The program's net with these parameters, by way of a weights file, as it takes those of a run."""
    save_weights(folder / "weights.safetensors", params, architecture)
    net = program["make_net"]()
    program["load_weights"](net, folder / "weights.safetensors")
    return net


@pytest.mark.parametrize(
    ("arch", "count"), [("layers", 5), ("strides", 5), ("everything", 5), ("nin-mnist", 5), ("nin", 1)]
)
def test_it_is_the_same_net(backend: Backend, arch: str, count: int, run, tmp_path: Path) -> None:
    ours = {"layers": LAYERS, "strides": STRIDES, "everything": EVERYTHING}
    architecture = ours.get(arch) or load_architecture(arch)
    program, params = run(backend.source(architecture)), random_params(architecture)
    net, x = filled(program, architecture, params, tmp_path), images(architecture, count)
    found = held(backend, net)
    assert list(found) == list(architecture.parameter_shapes())
    for name, value in found.items():
        assert_same(value, params[name], name)
    logits = scores(backend, net, x)
    plain = build(backend, architecture, params, PLAIN[backend.name])
    assert_same(logits, scores(backend, plain.module, x), architecture.name)
    assert relative(logits, build(backend, architecture, params, None).logits(x)) < 1e-5


def test_random_architectures(backend: Backend, run, tmp_path: Path) -> None:
    @seed(0)
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(architecture=architectures(), count=st.integers(1, 3))
    def is_the_same(architecture: Architecture, count: int) -> None:
        params, x = random_params(architecture), images(architecture, count)
        net = filled(run(backend.source(architecture)), architecture, params, tmp_path)
        plain = build(backend, architecture, params, PLAIN[backend.name]).module
        assert list(held(backend, net)) == list(params)
        assert_same(scores(backend, net, x), scores(backend, plain, x), format_architecture(architecture))

    is_the_same()


def test_its_shapes_are_the_specs_at_full_size(backend: Backend, run, capsys: pytest.CaptureFixture[str]) -> None:
    architecture = load_architecture("nin")
    program = run(backend.source(architecture))
    program["print_shapes"](program["make_net"]())
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [(name, ast.literal_eval(shape)) for name, shape in lines] == [
        (traced.name, traced.output) for traced in architecture.trace()
    ]


def test_it_begins_as_the_chapter_does(backend: Backend, run) -> None:
    """Xavier, uniform: so wide, as wide to both sides, and as often at the edge as in the middle. Biases are 0."""
    architecture = load_architecture("nin-mnist")
    found = held(backend, run(backend.source(architecture))["make_net"]())
    for name, shape in architecture.parameter_shapes().items():
        if name.endswith("bias"):
            assert not found[name].any()
            continue
        bound = np.sqrt(6 / ((shape[0] + shape[1]) * np.prod(shape[2:])))
        assert 0.98 * bound < -found[name].min() <= bound * 1.0001
        assert 0.98 * bound < found[name].max() <= bound * 1.0001
        assert found[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.06)
    assert len({value.tobytes() for name, value in found.items() if name.endswith("weight")}) == 9


@pytest.mark.parametrize("rate", [0.2, 0.75])
def test_its_dropout_drops_that_share_in_training_alone(backend: Backend, rate: float, run) -> None:
    architecture = parse_architecture(
        f"name: drop\ninput: [10, 40, 40]\nlayers:\n  - {{type: dropout, rate: {rate}}}\n  - {{type: flatten}}\n"
    )
    net, x = run(backend.source(architecture))["make_net"](), np.ones((1, 10, 40, 40), np.float32)
    framework: Any = None if backend.name == "numpy" else backend.framework()  # type: ignore[attr-defined]
    match backend.name:
        case "torch":
            found = net.train()(framework.from_numpy(x)).numpy()
        case "mindspore":
            found = net.set_train(True)(framework.Tensor(x)).asnumpy()
        case "numpy":
            net.train()
            found = net.forward(x)
        case _:
            with framework.autograd.record():
                found = net(framework.np.array(x)).asnumpy()
    assert (found == 0).mean() == pytest.approx(rate, abs=0.02)
    assert found[found != 0] == pytest.approx(1 / (1 - rate), rel=1e-6)
    assert (scores(backend, net, x) == 1).all()


def test_its_step_is_the_harnesss(backend: Backend, run, tmp_path: Path) -> None:
    """Two epochs of one batch each, whatever its order, with nothing dropped."""
    architecture = LAYERS.with_dropout_rate(0.0)
    params, x, y = random_params(architecture), images(architecture, 6), labels(architecture, 6)
    network = build(backend, architecture, params, None)
    for _ in range(2):
        network.train_step(x, y, None, 0.2)
    after = network.params()
    program = run(backend.source(architecture))
    net = filled(program, architecture, params, tmp_path)
    program["train"](net, x, y, epochs=2, batch_size=6, lr=0.2)
    for name, value in held(backend, net).items():
        assert relative(value - params[name], after[name] - params[name]) < 1e-3, name


def test_it_learns(backend: Backend, run, capsys: pytest.CaptureFixture[str]) -> None:
    """Two classes, bright above and bright below, in batches of which the last is smaller."""
    architecture = parse_architecture(
        "name: two\ninput: [1, 12, 12]\nlayers:\n"
        "  - {type: nin_block, out_channels: 8, kernel_size: 3, stride: 2}\n  - {type: dropout, rate: 0.1}\n"
        "  - {type: flatten}\n  - {type: linear, out_features: 2}\n"
    )
    x, y = images(architecture, 60), np.arange(60) % 2
    x[y == 0, :, :6] *= 0.2
    x[y == 1, :, 6:] *= 0.2
    program = run(backend.source(architecture))
    if backend.name != "numpy":
        backend.seed(0)  # type: ignore[attr-defined]  # its weights, and in MXNet and MindSpore what is dropped
    np.random.seed(0)  # its order, and NumPy's weights
    net = program["make_net"]()
    program["train"](net, x, y, epochs=12, batch_size=16, lr=0.2)
    said = re.findall(r"epoch (\d+): loss (\d\.\d{3}), accuracy (\d\.\d{3})\n", capsys.readouterr().out)
    assert [int(epoch) for epoch, _, _ in said] == list(range(1, 13))
    losses = [float(loss) for _, loss, _ in said]
    assert losses[0] == pytest.approx(np.log(2), abs=0.4)
    assert losses[-1] < 0.5 * losses[0]
    assert float(said[-1][2]) > 0.9
    assert (scores(backend, net, x).argmax(1) == y).mean() > 0.9


ALONE = """
import runpy, sys
for name in ("nin_multi", "nin_torch", "nin_mindspore", "nin_mxnet"):
    sys.modules[name] = None  # an import of it fails
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_runs_alone(backend: Backend, run, tmp_path: Path) -> None:
    """As its reader runs it: shapes, and training on the arrays of a file; without this project."""
    source = backend.source(LAYERS)
    (tmp_path / "net.py").write_text(source)
    np.savez(tmp_path / "images.npz", x=images(LAYERS, 6), y=labels(LAYERS, 6))
    command = [sys.executable, "-c", ALONE, "net.py", "images.npz"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = [line.split()[0] for line in ended.stdout.splitlines()]
    assert lines == [*(traced.name for traced in LAYERS.trace()), *["epoch"] * 10]
    assert imported(source) <= {backend.name, "numpy", *sys.stdlib_module_names}
    assert imported(source, inside=True) <= {"safetensors"}


def imported(source: str, *, inside: bool = False) -> set[str]:
    """The packages that a program imports at its top, or only inside its functions."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    within = {id(found) for function in functions for found in ast.walk(function)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if (id(node) in within) != inside:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def test_its_style_is_ruffs(backend: Backend, run, tmp_path: Path) -> None:
    for architecture in (LAYERS, EVERYTHING, *map(load_architecture, zoo.names())):
        (tmp_path / f"{architecture.name}.py").write_text(backend.source(architecture))
    ruff = [sys.executable, "-m", "ruff"]
    rules = ["--isolated", "--select", "E4,E5,E7,E9,F,I,UP,B", "--output-format", "json", "--no-cache"]
    found = subprocess.run([*ruff, "check", *rules, "."], cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, json.loads(found.stdout)) == (0, []), found.stdout
    command = [*ruff, "format", "--isolated", "--diff", "--no-cache", "."]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stderr


def test_unknown_layers_are_refused(backend: Backend, run) -> None:
    class Whiten(LayerBase):
        type: str = "whiten"

    odd = EVERYTHING.model_copy(update={"layers": (Whiten(name="white"), *EVERYTHING.layers)})
    with pytest.raises(UnsupportedLayer, match=f"{backend.name}: no form of layer 'white' .whiten."):
        backend.source(odd)


def test_who_writes_no_programs_says_so(backend: Backend) -> None:
    if backend.name in PLAIN:
        assert backend.source(EVERYTHING).startswith('"""everything in ')
    else:
        with pytest.raises(UsageError, match=f"{backend.name} writes no programs"):
            backend.source(EVERYTHING)
