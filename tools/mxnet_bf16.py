"""Can MXNet 1.9.1 train a convolution in bfloat16 here? An experiment; docs/performance.md has its result.

    python tools/mxnet_bf16.py
    DNNL_MAX_CPU_ISA=AVX512_CORE_AMX python tools/mxnet_bf16.py      # its oneDNN 2.4.4 leaves AMX off by default

Its oneDNN is older than the kernel's permission for AMX tiles, so this asks for it before MXNet is loaded. It compares
output and gradients with float32's and times both.
"""

from __future__ import annotations

import ctypes
import platform
import time
from typing import Any

import numpy as np

ARCH_REQ_XCOMP_PERM, TILE_DATA, ARCH_PRCTL = 0x1023, 18, 158  # docs.kernel.org/arch/x86/xstate.html


def main() -> None:
    """Float32 first, then bfloat16: relative errors and milliseconds of forward and backward."""
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        refused = ctypes.CDLL(None).syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, TILE_DATA)
        print("permission for AMX tiles:", "refused" if refused else "given")
    if "bool" not in np.__dict__:
        np.bool = bool  # type: ignore[attr-defined]  # MXNet 1.9.1 still says numpy.bool
    import mxnet as mx

    try:
        expected, found = _train(mx, "float32"), _train(mx, "bfloat16")
    except mx.base.MXNetError as error:
        print("bfloat16 does not work here:", str(error).strip().splitlines()[-1])
        return
    for name, exact, other in zip(("output", "by weights", "by input"), expected, found, strict=True):
        print(f"{name}: relative error {np.linalg.norm(other - exact) / np.linalg.norm(exact):.1e}")


def _train(mx: Any, kind: str) -> tuple[Any, Any, Any]:
    """A convolution of the book's NiN, 96 -> 256 channels, 5 x 5, on 26 x 26, batch 8; casts around it."""
    mx.random.seed(0)
    x, weight = mx.nd.random.uniform(shape=(8, 96, 26, 26)), mx.nd.random.normal(shape=(256, 96, 5, 5)) * 0.02
    x.attach_grad()
    weight.attach_grad()
    dtype = np.dtype([("bfloat16", np.uint16)]) if kind == "bfloat16" else np.dtype(np.float32)
    took = []
    for _ in range(6):
        began = time.perf_counter()
        with mx.autograd.record():
            low_x, low_weight = mx.nd.amp_cast(x, dtype=dtype), mx.nd.amp_cast(weight, dtype=dtype)
            y = mx.nd.Convolution(low_x, low_weight, kernel=(5, 5), pad=(2, 2), num_filter=256, no_bias=True)
            y = mx.nd.amp_cast(y, dtype=np.dtype(np.float32))
            loss = (y * y).sum()
        loss.backward()
        mx.nd.waitall()
        took.append(time.perf_counter() - began)
    print(f"{kind}: {np.median(took[2:]) * 1e3:.1f} ms forward and backward")
    return y.asnumpy(), weight.grad.asnumpy(), x.grad.asnumpy()


if __name__ == "__main__":
    main()
