"""ONNX files of the zoo in a process that has onnxruntime and nothing of ours: logits, names of input and output.

`nin` and `nin-mnist` as a rule; with `--zoo all`, as `make test-export` has it, every architecture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nin_multi import randomness, registry, zoo
from nin_multi.architecture_file import load_architecture
from nin_multi.checks.values import relative_error
from nin_multi.export.onnx_file import ALLOWED, onnx_model
from nin_multi.randomness import Purpose

ABSENT = ("torch", "mindspore", "mxnet", "onnx", "nin_multi", "nin_torch", "nin_mindspore", "nin_mxnet")
ALONE = f"""
import json, sys
for name in {ABSENT}:
    sys.modules[name] = None  # an import of it fails
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
(entry,), (last,) = session.get_inputs(), session.get_outputs()
(logits,) = session.run(None, {{entry.name: np.load("x.npy")}})
np.save("logits.npy", logits)
print(json.dumps([entry.name, entry.type, entry.shape, last.name, last.type, last.shape]))
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "arch" in metafunc.fixturenames:
        said = metafunc.config.getoption("--zoo")
        metafunc.parametrize("arch", zoo.names() if said == "all" else said.split(","))


def test_it_is_the_same_net_alone(arch: str, tmp_path: Path) -> None:
    architecture = load_architecture(arch)
    params = randomness.initial_parameters(architecture, 0)
    count = 1 if architecture.multiply_adds > 5e8 or architecture.parameters > 1e7 else 3
    draw = randomness.uniform((count, *architecture.input), seed=1, purpose=Purpose.INPUT)
    x = draw.astype(np.float32)
    (tmp_path / "net.onnx").write_bytes(onnx_model(architecture, params, "drawn"))
    np.save(tmp_path / "x.npy", x)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    last = [row.name for row in architecture.walk() if row.layer.type not in ("dropout", "nin_block")][-1]
    size, classes = [*architecture.input], architecture.classes
    float32 = "tensor(float)"
    assert json.loads(ended.stdout) == ["images", float32, ["N", *size], last, float32, ["N", classes]]
    logits = np.load(tmp_path / "logits.npy")
    (tmp_path / "net.onnx").unlink()  # of a large net, half a gigabyte
    oracle = registry.load("numpy").build(architecture, params, device="cpu", precision="fp64")
    assert relative_error(logits, oracle.logits(x)) <= ALLOWED
