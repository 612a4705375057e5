"""An ONNX file: the graph with what it says of itself, checked, and its logits under onnxruntime; not its operators.

Opset 17 and IR version 8 are of 2022 (ONNX 1.12): onnxruntime 1.12 and whatever came later read them.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi import machine
from nin_multi.adapter import import_framework
from nin_multi.backend import Images, Params, check_params, cores
from nin_multi.errors import UsageError
from nin_multi.spec import Architecture

OPSET, IR_VERSION = 17, 8
EXTRA = "onnx"
ALLOWED = 1e-5  # how far onnxruntime's logits may be from the oracle's, relative to their norm
LARGEST = 2**31 - 2**20  # bytes of parameters: a protobuf message ends at 2 GiB, and has names and shapes too


def check_length(architecture: Architecture) -> None:
    """Raises UsageError where the parameters are more than an ONNX file holds."""
    most, count = LARGEST // 4, architecture.parameters
    if count > most:
        raise UsageError(
            f"architecture {architecture.name!r}: expected at most {most:,} parameters for one ONNX file, got {count:,}"
        )


def onnx_model(architecture: Architecture, params: Params, weights: str) -> bytes:
    """The content of an ONNX file; the same for the same arguments.

    Args:
        architecture: what it computes, in inference.
        params: float32, of exactly this architecture.
        weights: what they are, in words: the file repeats it.

    Raises:
        BackendUnavailable: the package onnx is missing.
        UnsupportedLayer: a layer type without a form in ONNX.
        CheckpointError: parameters of another architecture.
        UsageError: more parameters than an ONNX file can hold.
    """
    check_length(architecture)
    check_params(architecture, params)
    onnx = import_framework("onnx", extra=EXTRA)
    from nin_multi.export.onnx_graph import make_graph

    model = onnx.helper.make_model(
        make_graph(architecture, params),
        producer_name="nin_multi",
        producer_version=machine.own_version(),
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        doc_string=_describe(architecture, weights),
    )
    said = {"architecture": json.dumps(architecture.model_dump(mode="json"), sort_keys=True), "weights": weights}
    onnx.helper.set_model_props(model, said)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def can_run() -> bool:
    """Whether onnxruntime is installed; nothing is imported for the answer."""
    return importlib.util.find_spec("onnxruntime") is not None


def runtime_version() -> str:
    """Raises BackendUnavailable where onnxruntime is missing or broken."""
    return str(import_framework("onnxruntime", extra=EXTRA).__version__)


def run_model(content: bytes, x: Images) -> NDArray[Any]:
    """Logits (N, classes) under onnxruntime, on the CPU. Raises BackendUnavailable."""
    runtime = import_framework("onnxruntime", extra=EXTRA)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3  # errors; warnings are about memory that it could have saved
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: np.asarray(x, np.float32)})
    return np.asarray(logits)


def logits_error(content: bytes, architecture: Architecture, params: Params, count: int) -> float:
    """How far onnxruntime is from the float64 oracle: ||a - b|| / ||b|| of the logits of `count` random images."""
    from nin_multi import randomness, registry
    from nin_multi.checks.values import relative_error

    shape = (count, *architecture.input)
    x = randomness.uniform(shape, seed=0, purpose=randomness.Purpose.CHECK, part="onnx").astype(np.float32)
    oracle = registry.load("numpy").build(architecture, params, device="cpu", precision="fp64")
    return relative_error(run_model(content, x), oracle.logits(x))


def _describe(architecture: Architecture, weights: str) -> str:
    """What the file says of itself; no path, no time: equal nets are equal files."""
    size, version = "x".join(map(str, architecture.input)), machine.own_version()
    return (
        f"{architecture.name}, by nin_multi {version} export --format onnx: images of {size} as float32 in [0, 1] to "
        f"logits of {architecture.classes} classes; {architecture.parameters:,} parameters, {weights}."
    )
