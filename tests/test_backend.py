"""What every backend is held to: refusing with words, checking parameters, counting the cores it may use."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from strategies import refused

from nin_multi import load
from nin_multi.backend import check_params, unsupported
from nin_multi.errors import BackendUnavailable, CheckpointError, UnsupportedLayer
from nin_multi.oracle import NumpyBackend
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture

NET = Architecture.model_validate(
    {
        "name": "tiny",
        "input": [2, 4, 4],
        "layers": [
            {"type": "conv2d", "out_channels": 3, "kernel_size": 2},
            {"type": "flatten"},
            {"type": "linear", "out_features": 5},
        ],
    }
)


# --- parameters ------------------------------------------------------------------------------------------------------


def test_the_right_parameters_pass() -> None:
    check_params(NET, initial_parameters(NET, seed=0))


def test_missing_unexpected_and_misshapen_are_all_told() -> None:
    params = initial_parameters(NET, seed=0)
    del params["conv1.bias"]
    params["other.weight"] = np.zeros(3, np.float32)
    params["linear1.weight"] = params["linear1.weight"].T
    with refused(
        CheckpointError,
        "'tiny'",
        "missing: conv1.bias",
        "unexpected: other.weight",
        "misshapen: linear1.weight (27, 5) for (5, 27)",
    ):
        check_params(NET, params)


def test_a_kernel_with_its_axes_swapped_is_misshapen() -> None:
    net = Architecture.model_validate(
        {
            "name": "t",
            "input": [1, 4, 4],
            "layers": [{"type": "conv2d", "out_channels": 1, "kernel_size": [2, 3]}, {"type": "flatten"}],
        }
    )
    params = initial_parameters(net, seed=0)
    params["conv1.weight"] = params["conv1.weight"].transpose(0, 1, 3, 2)
    with refused(CheckpointError, "conv1.weight (1, 1, 3, 2) for (1, 1, 2, 3)"):
        check_params(net, params)


def test_of_many_the_first_three_are_told() -> None:
    names = list(load("nin").parameter_shapes())
    with refused(CheckpointError, f"missing: {', '.join(names[:3])} and {len(names) - 3} more"):
        check_params(load("nin"), {})


def test_parameters_of_another_net() -> None:
    with refused(CheckpointError, "'nin-cifar10'", "block3.mlp2.weight (100, 192, 1, 1) for (10, 192, 1, 1)"):
        check_params(load("nin-cifar10"), initial_parameters(load("nin-cifar100"), seed=0))


def test_build_checks_parameters_device_and_precision() -> None:
    params = initial_parameters(NET, seed=0)
    with refused(BackendUnavailable, "numpy", "no precision 'bf16'", "fp64"):
        NumpyBackend().build(NET, params, device="cpu", precision="bf16")
    with refused(BackendUnavailable, "numpy", "device 'cuda:0' is not here", "usable now: cpu"):
        NumpyBackend().build(NET, params, device="cuda:0", precision="fp64")
    with refused(CheckpointError, "missing: linear1.bias"):
        NumpyBackend().build(
            NET, {k: v for k, v in params.items() if k != "linear1.bias"}, device="cpu", precision="fp64"
        )


def test_a_layer_without_a_form() -> None:
    traced = load("nin").trace()[0].inner[2]
    error = unsupported("mine", traced)
    assert isinstance(error, UnsupportedLayer)
    assert str(error) == "mine: no form of layer 'block1.mlp1' (conv2d)"


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_cores_are_those_we_may_use() -> None:
    # A container or taskset gives a process fewer cores than the machine has.
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from nin_multi.backend import cores; print(cores())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"
