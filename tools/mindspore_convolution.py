"""Which kernels MindSpore's convolution gets from oneDNN, how fast they are, and how fast the same as a product is.

    python tools/mindspore_convolution.py            # on a machine with AVX-512: the convolutions end as `ref`
    ONEDNN_MAX_CPU_ISA=AVX2 python tools/mindspore_convolution.py
    ONEDNN_DEFAULT_FPMATH_MODE=BF16 python tools/mindspore_convolution.py       # products on AMX

Needs mindspore 2.9 and nothing of this project, so that a maintainer can run it as it is. docs/performance.md says what
it shows. Each line: what, milliseconds, GFLOP/s, and oneDNN's name for the kernel (by ONEDNN_VERBOSE).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# The second convolution of the book's NiN, 96 -> 256 channels, 5 x 5, on 26 x 26, and a 1 x 1 of its first block.
CASES = {"5x5": (8, 96, 256, 26, 5), "1x1": (8, 96, 96, 54, 1)}
REPEATS = 30  # MindSpore tries several numbers of threads in the first 25 runs of a primitive


def main() -> None:
    """Run in a process whose oneDNN says what it does, and set names and times side by side."""
    if os.environ.get("ONEDNN_VERBOSE"):
        measure()
        return
    environment = {**os.environ, "ONEDNN_VERBOSE": "profile_exec", "GLOG_v": "3"}
    told = subprocess.run([sys.executable, __file__], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if told.returncode:
        sys.exit(told.returncode)
    kernels: dict[str, float] = {}
    for line in told.stdout.splitlines():
        if found := re.match(r"onednn_verbose,.*?,exec,cpu,(convolution|matmul),([^,]*),([^,]*),.*,([\d.]+)$", line):
            kernels[", ".join(found.groups()[:3])] = float(found[4])
        elif line.startswith("case "):
            name = max(kernels, key=lambda kernel: kernels[kernel]) if kernels else "no kernel of oneDNN"
            print(f"{line.removeprefix('case ')}  {name}")
            kernels = {}


def measure() -> None:
    """One line for each case, after oneDNN's own."""
    import mindspore
    from mindspore import Tensor, nn, ops

    mindspore.set_device("CPU")
    mindspore.device_context.cpu.op_tuning.threads_num(os.cpu_count() or 1)
    mindspore.runtime.dispatch_threads_num(1)  # each one more takes a thread from the kernels' pool
    random = np.random.default_rng(0)

    def tensor(*shape: int) -> Any:
        return Tensor(random.standard_normal(shape, np.float32))

    for name, (n, channels, filters, size, kernel) in CASES.items():
        convolution = nn.Conv2d(channels, filters, kernel, pad_mode="pad", padding=kernel // 2, has_bias=False)
        x, dy = tensor(n, channels, size, size), tensor(n, filters, size, size)
        by_input = ops.GradOperation(sens_param=True)(convolution)
        by_weight = ops.GradOperation(get_by_list=True, sens_param=True)(convolution, [convolution.weight])
        flop = 2.0 * n * size * size * kernel * kernel * channels * filters
        slow_at = 3 if _takes(lambda c=convolution, x=x: c(x)) > 1 else REPEATS
        report(f"{name} Conv2d, forward        ", flop, slow_at, lambda c=convolution, x=x: c(x))
        # MindSpore goes forward once more before a gradient, so these are two of its three products each.
        report(f"{name} Conv2d, and by input   ", 2 * flop, slow_at, lambda g=by_input, x=x, dy=dy: g(x, dy))
        report(f"{name} Conv2d, and by weights ", 2 * flop, slow_at, lambda g=by_weight, x=x, dy=dy: g(x, dy)[0])
        rows, columns = tensor(n * size * size, kernel * kernel * channels), tensor(kernel * kernel * channels, filters)
        product = ops.MatMul()
        report(f"{name} as a product of rows   ", flop, REPEATS, lambda p=product, a=rows, b=columns: p(a, b))


def report(name: str, flop: float, repeats: int, run: Callable[[], Any]) -> None:
    """The median of the last third."""
    times = [_takes(run) for _ in range(repeats)]
    middle = float(np.median(times[-max(repeats // 3, 1) :]))
    print(f"case {name} {middle * 1e3:9.1f} ms {flop / middle / 1e9:7.1f} GFLOP/s", flush=True)


def _takes(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run().asnumpy()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
