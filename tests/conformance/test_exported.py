"""What `export` writes, in a process that has that framework and nothing else of ours: the same net, bit for bit.

`nin` and `nin-mnist` as a rule; with `--zoo all`, as `make test-export` has it, every architecture.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_conformance import images, random_params
from test_source import PLAIN, assert_same, build, scores

from nin_multi import zoo
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Backend
from nin_multi.spec import Architecture
from nin_multi.weights import save_weights

PACKAGES = {
    "torch",
    "mindspore",
    "mxnet",
    "onnx",
    "onnxruntime",
    "nin_multi",
    "nin_torch",
    "nin_mindspore",
    "nin_mxnet",
}

# Run beside net.py. What it has found goes into found.npz; shapes, as everybody sees them, to stdout.
ALONE = """
import os
import sys
framework, *absent = sys.argv[1:]
for name in absent:
    sys.modules[name] = None  # an import of it fails
if framework == "mindspore":
    # How many threads share a sum decides its last bit: by itself MindSpore takes 25, the compiled net one for a core.
    import mindspore
    mindspore.set_device("CPU")
    mindspore.device_context.cpu.op_tuning.threads_num(len(os.sched_getaffinity(0)))
    mindspore.runtime.dispatch_threads_num(1)
sys.path.insert(0, ".")
import numpy as np
import net as program
net = program.make_net()
program.load_weights(net, "weights.safetensors")
program.print_shapes(net)
x = np.load("x.npy")
if framework == "torch":
    import torch
    held = {name: value.detach().numpy() for name, value in net.named_parameters()}
    with torch.inference_mode():
        logits = net.eval()(torch.from_numpy(x)).numpy()
elif framework == "mindspore":
    import mindspore
    held = {name: value.asnumpy() for name, value in net.parameters_and_names()}
    logits = net.set_train(False)(mindspore.Tensor(x)).asnumpy()
elif framework == "mxnet":
    import mxnet
    held = {name: value.data().asnumpy() for name, value in net._collect_params_with_prefix().items()}
    logits = net(mxnet.np.array(x)).asnumpy()
else:
    held, logits = net.named_parameters(), net.forward(x.astype("float64"))
found = [name for name in absent if sys.modules.get(name) is not None]
assert not found, found
np.savez("found.npz", logits=logits, **{f"shape of {name}": value.shape for name, value in held.items()})
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "arch" in metafunc.fixturenames:
        said = metafunc.config.getoption("--zoo")
        metafunc.parametrize("arch", zoo.names() if said == "all" else said.split(","))


def run_alone(framework: str, folder: Path) -> str:
    """What the program prints, in the environment of this process but for where Python looks for modules."""
    absent = sorted(PACKAGES - {framework})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE, framework, *absent]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def count_for(architecture: Architecture) -> int:
    """Images: one for a net that takes long, or much memory."""
    return 1 if architecture.multiply_adds > 5e8 or architecture.parameters > 1e7 else 3


def test_it_is_the_same_net_alone(backend: Backend, arch: str, tmp_path: Path) -> None:
    if backend.name not in PLAIN:
        pytest.skip(f"{backend.name} writes no programs")
    architecture = load_architecture(arch)
    params, x = random_params(architecture), images(architecture, count_for(architecture))
    (tmp_path / "net.py").write_text(backend.source(architecture))
    save_weights(tmp_path / "weights.safetensors", params, architecture)
    np.save(tmp_path / "x.npy", x)
    lines = [line.split(maxsplit=1) for line in run_alone(backend.name, tmp_path).splitlines()]
    traced = architecture.trace()
    assert [(name, ast.literal_eval(shape)) for name, shape in lines] == [(row.name, row.output) for row in traced]
    with np.load(tmp_path / "found.npz") as found:
        shapes = {key.removeprefix("shape of "): tuple(found[key]) for key in found.files if key != "logits"}
        logits = found["logits"]
    assert list(shapes.items()) == list(architecture.parameter_shapes().items())
    (tmp_path / "weights.safetensors").unlink()  # of a large net, half a gigabyte
    assert_same(logits, expected(backend, architecture, params, x), arch)
    assert_is_ruffs(tmp_path)


def expected(backend: Backend, architecture: Architecture, params: Any, x: np.ndarray) -> np.ndarray:
    """Logits of the compiled net with the same weights, as the framework's own layers compute it."""
    return scores(backend, build(backend, architecture, params, PLAIN[backend.name]).module, x)


def assert_is_ruffs(folder: Path) -> None:
    rules = ["--isolated", "--select", "E4,E5,E7,E9,F,I,UP,B", "--output-format", "json", "--no-cache"]
    command = [sys.executable, "-m", "ruff", "check", *rules, "net.py"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (found.returncode, json.loads(found.stdout)) == (0, []), found.stdout
