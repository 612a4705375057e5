"""Memory that really runs out, in processes of their own under `ulimit -v`: is the failure known for what it is?"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from nin_multi.backend import Backend
from nin_multi.launcher import environment_for

pytest.importorskip("resource", reason="limits are a matter of Unix")

# The net has run once, so that threads are started and graphs compiled; then a batch comes that does not fit.
SETTING = """
import json, re, resource, sys
import numpy as np
from nin_multi import randomness, registry
from nin_multi.architecture_file import load_architecture
from nin_multi.memory import Demand

backend, architecture = registry.load(sys.argv[1]), load_architecture("nin-mnist")
backend.version()
place = {"device": "cpu", "precision": backend.precisions[0]}
tuning = {"micro_batch": "all"} if backend.knobs(architecture, **place) else {}

def batch(size):
    x = np.ones((size, *architecture.input), np.float32)
    return x, np.zeros(size, np.int32), randomness.dropout_masks(architecture, size, 0, 0)

def now(field):
    return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)) * 1024

def told(error):
    return {"said": f"{type(error).__name__}: {error}", "is_out_of_memory": backend.is_out_of_memory(error)}
"""

RUN_OUT = """
network = backend.build(architecture, randomness.initial_parameters(architecture, 0), **place, tuning=tuning)
small, large = batch(2), batch(int(sys.argv[2]))
network.train_step(*small, 0.1)
resource.setrlimit(resource.RLIMIT_AS, (now("VmSize") + int(sys.argv[3]),) * 2)
try:
    network.logits(large[0]) if sys.argv[4] == "evaluation" else network.train_step(*large, 0.1)
except BaseException as error:
    found = told(error)
else:
    found = {"said": "", "is_out_of_memory": None}
"""

BE_WRONG = """
network = backend.build(architecture, randomness.initial_parameters(architecture, 0), **place, tuning=tuning)
x, y, masks = batch(2)
found = []
for wrong in (x[:, :, :5], x[:, 0], np.repeat(x, 3, 1)):
    try:
        network.train_step(wrong, y, masks, 0.1)
    except BaseException as error:
        found.append(told(error))
"""

TAKE = """
demand = Demand(architecture, 64, backend.precisions[0], tuning, has_momentum=True)
params = randomness.initial_parameters(architecture, 0)
given = batch(64)
before = now("VmRSS")
network = backend.build(architecture, params, **place, tuning=tuning)
network.train_step(*given, 0.1, 0.9)
network.train_step(*given, 0.1, 0.9)
network.logits(given[0])
found = {"before": before, "taken": now("VmHWM") - before, "estimated": demand.bytes(), "least": demand.least_bytes()}
"""


def _answer(backend: Backend, program: str, *arguments: object) -> Any:
    ended = subprocess.run(
        [sys.executable, "-c", f"{SETTING}{program}\nprint(json.dumps(found), flush=True)", backend.name]
        + [str(argument) for argument in arguments],
        env=environment_for(backend.name),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.stdout, (ended.returncode, ended.stderr[-2000:])
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("doing", ["training", "evaluation"])
def test_a_batch_that_does_not_fit(backend: Backend, doing: str) -> None:
    """2048 images make 3.9 GB of values, and 400 MB are granted."""
    found = _answer(backend, RUN_OUT, 2048, 400_000_000, doing)
    assert found["is_out_of_memory"] is True, found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_mistake_is_no_lack_of_memory(backend: Backend) -> None:
    found = _answer(backend, BE_WRONG)
    assert len(found) >= 2, found
    assert not [row for row in found if row["is_out_of_memory"]], found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_estimate_is_high_and_not_twice_as_high(backend: Backend) -> None:
    """Of all that the process holds; and nobody does with less than the least."""
    found = _answer(backend, TAKE)
    assert found["least"] <= found["taken"] <= found["estimated"], found
    assert found["before"] + found["estimated"] <= 2 * (found["before"] + found["taken"]), found


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("out of memory"), OSError(2, "no such file"), KeyError("x")]
)
def test_what_is_said_elsewhere(backend: Backend, error: Exception) -> None:
    assert not backend.is_out_of_memory(error)


def test_pythons_own(backend: Backend) -> None:
    assert backend.is_out_of_memory(MemoryError())
