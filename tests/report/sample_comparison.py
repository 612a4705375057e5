"""A comparison as the program makes them, drawn from a seed: six runs of three frameworks, one failed, one diverged."""

from __future__ import annotations

import base64
import io
import math
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from nin_multi.architecture_file import load_architecture
from nin_multi.data.dataset import Split
from nin_multi.data.fashion_mnist import CLASSES
from nin_multi.data.synthetic import synthetic_dataset

EPOCHS, STEPS_PER_EPOCH, POINTS = 8, 469, 6
BACKENDS = {
    "torch": ("2.13.0+cpu", 1410.0, 2.4, 0.11, 0.43e9, 412),
    "mindspore": ("2.9.0", 655.0, 9.7, 14.2, 1.28e9, 598),
    "mxnet": ("1.9.1", 590.0, 3.1, 0.9, 0.71e9, 437),
}
SOURCE = {
    "torch": '''"""nin-mnist in PyTorch."""

import torch
from torch import nn


def nin_block(inside: int, outside: int, size: int, padding: int) -> nn.Sequential:
    """A convolution, and two of 1 x 1 that mix channels."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, padding=padding), nn.ReLU(),
        nn.Conv2d(outside, outside, 1), nn.ReLU(),
        nn.Conv2d(outside, outside, 1), nn.ReLU(),
    )


net = nn.Sequential(
    nin_block(1, 96, 5, 2),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.Dropout(0.5),
    nin_block(96, 10, 5, 2),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),  # (N, 10)
)
''',
    "mindspore": '''"""nin-mnist in MindSpore."""

from mindspore import nn


def nin_block(inside, outside, size, padding):
    """A convolution, and two of 1 x 1 that mix channels."""
    return nn.SequentialCell(
        nn.Conv2d(inside, outside, size, pad_mode="pad", padding=padding, has_bias=True), nn.ReLU(),
        nn.Conv2d(outside, outside, 1, has_bias=True), nn.ReLU(),
        nn.Conv2d(outside, outside, 1, has_bias=True), nn.ReLU(),
    )
''',
    "mxnet": '''"""nin-mnist in MXNet Gluon."""

from mxnet.gluon import nn


def nin_block(inside, outside, size, padding):
    """A convolution, and two of 1 x 1 that mix channels."""
    block = nn.Sequential()
    block.add(
        nn.Conv2D(outside, size, padding=padding, in_channels=inside, activation="relu"),
        nn.Conv2D(outside, 1, in_channels=outside, activation="relu"),
        nn.Conv2D(outside, 1, in_channels=outside, activation="relu"),
    )
    return block
''',
}


def make_comparison(*, over: bool = True) -> dict[str, Any]:
    """Everything filled in; drawn anew each time, so that a test may change it."""
    architecture = _architecture()
    names = [layer["name"] for layer in architecture["layers"]]
    runs = [_run(name, seed, names) for seed in (0, 1) for name in BACKENDS]
    _fail(runs[4])
    _diverge(runs[5])
    found = {
        "format": 1,
        "title": "nin-mnist on Fashion-MNIST: torch, mindspore, mxnet",
        "created": "2026-11-23T06:10:00Z",
        "over": over,
        "runs": runs,
        "architectures": [architecture],
        "shapes": {name: {layer["name"]: layer["output"] for layer in architecture["layers"]} for name in BACKENDS},
        "verify": _verify(names),
        "code": dict(SOURCE),
        "classes": list(CLASSES),
        "comparable": True,
        "differences": [],
        "repeat": [
            "nin_multi compare --backend torch,mindspore,mxnet --arch nin-mnist --epochs 8 --seed 0 --runs-dir runs",
            "nin_multi verify --backend torch,mindspore,mxnet --arch nin-mnist --layers",
        ],
        "diagram": _picture(900, 160, "diagram"),
    }
    if not over:
        for run in runs:
            run.update(status="waiting", reason="", to_go_on="", step=0, epoch=0, result={}, events=[])
            run.update(confusion=None, samples=[], pictures=dict.fromkeys(run["pictures"], ""))
        runs[0].update(status="training", seconds_left=95.0)
    return found


def empty_comparison() -> dict[str, Any]:
    """Every key there, and nothing known."""
    found = dict.fromkeys(("runs", "architectures", "classes", "differences", "repeat"), ())
    return {
        **{key: list(value) for key, value in found.items()},
        "format": 1,
        "title": "nothing",
        "created": "",
        "over": True,
        "comparable": True,
        "shapes": {},
        "verify": None,
        "code": {},
        "diagram": "",
    }


def _architecture() -> dict[str, Any]:
    architecture = load_architecture("nin-mnist")
    layers = [
        {
            "name": row.name,
            "type": row.layer.type,
            "output": list(row.output),
            "parameters": sum(math.prod(shape) for shape in row.parameters.values()),
            "multiply_adds": row.multiply_adds,
            "settings": row.layer.model_dump(mode="json", exclude={"name", "type"}),
        }
        for row in architecture.walk()
    ]
    return {
        "name": architecture.name,
        "input": list(architecture.input),
        "parameters": architecture.parameters,
        "multiply_adds": architecture.multiply_adds,
        "layers": layers,
    }


def _run(backend: str, seed: int, layers: list[str]) -> dict[str, Any]:
    version, speed, startup, first, memory, lines = BACKENDS[backend]
    draw = np.random.default_rng([seed, sum(map(ord, backend))])
    events = _events(np.random.default_rng(seed), draw, speed, layers)
    last = next(event for event in reversed(events) if event["event"] == "epoch")
    confusion = _confusion(draw, last["test_acc"])
    result = {key: last[key] for key in ("loss", "train_acc", "test_loss", "test_acc")}
    result |= {"examples_per_sec": speed, "compute_examples_per_sec": speed * 1.14, "startup_seconds": startup}
    result |= {"first_step_seconds": first, "peak_memory_bytes": memory, "dead_classes": [], "never_predicted": []}
    steps = EPOCHS * STEPS_PER_EPOCH
    return {
        "id": f"{backend}-s{seed}",
        "label": backend if seed == 0 else f"{backend} s{seed}",
        "backend": backend,
        "framework_version": version,
        "device": "cpu",
        "precision": "fp32",
        "arch": "nin-mnist",
        "seed": seed,
        "status": "done",
        "reason": "",
        "to_go_on": "",
        "run_dir": f"runs/2026-11-23-nin-mnist-{backend}-s{seed}",
        "step": steps,
        "steps": steps,
        "epoch": EPOCHS,
        "epochs": EPOCHS,
        "seconds_left": None,
        "now": {},
        "recipe": {"epochs": EPOCHS, "batch_size": 128, "lr": 0.05, "momentum": 0.9, "init": "he", "seed": seed},
        "dataset": {
            "name": "fashion-mnist",
            "title": "Fashion-MNIST",
            "synthetic": False,
            "train_examples": 60000,
            "test_examples": 10000,
            "sha256": {"train_images": "58e4771950337033" * 4, "test_images": "c867c93ff9536059" * 4},
        },
        "versions": {"python": "3.11.2", "nin_multi": "0.1.0", "numpy": "1.26.4", backend: version},
        "machine": {
            "processor": "Some Processor @ 2.60GHz",
            "instruction_sets": ["avx2", "avx512f"],
            "cores": 2,
            "memory_bytes": 16_700_000_000,
            "system": "Linux 6.1.0",
        },
        "environment": {"OMP_NUM_THREADS": "2"},
        "tuning": {"micro_batch": "32"},
        "started": f"2026-11-23T05:{10 + seed}:00Z",
        "result": result,
        "adapter_lines": lines,
        "events": events,
        "confusion": confusion,
        "samples": _samples(draw),
        "pictures": {name: _picture(420, 260, name) for name in ("class_maps", "filters", "activations", "curve")},
    }


def _events(
    shared: np.random.Generator, own: np.random.Generator, speed: float, layers: list[str]
) -> list[dict[str, Any]]:
    """Curves of one seed lie on each other, but for what roundings become in training."""
    events: list[dict[str, Any]] = [_layer_event(0, 0.0, layers, own)]
    for point in range(1, EPOCHS * POINTS + 1):
        step = round(point * STEPS_PER_EPOCH / POINTS)
        at = point / POINTS
        off = float(own.normal()) * 1e-7 * math.exp(min(at, 4.0) * 2.6)
        loss = 0.3 + 2.0 * math.exp(-0.75 * at) + float(shared.normal()) * 0.008 + off
        acc = 0.9 - 0.8 * math.exp(-0.9 * at) + float(shared.normal()) * 0.004 - off / 3
        seconds = step * 128 / speed
        told = {"step": step, "progress": at, "loss": loss, "train_acc": acc, "seconds": seconds}
        told["examples_per_sec"] = speed * (1 + 0.02 * float(own.normal()))
        told["compute_examples_per_sec"] = told["examples_per_sec"] * 1.14
        told |= {"dead_classes": [], "never_predicted": [0, 4, 6][: max(0, 3 - point // 2)]}
        events.append({"event": "step", **told})
        if point % POINTS == 0:
            tested = {"epoch": point // POINTS, "test_loss": loss + 0.03, "test_acc": acc - 0.012}
            lost = {"test_dead_classes": [], "test_never_predicted": []}
            events += [{"event": "epoch", **told, **tested, **lost}, _layer_event(step, at, layers, own)]
    return events


def _layer_event(step: int, at: float, layers: list[str], own: np.random.Generator) -> dict[str, Any]:
    found = {}
    for depth, name in enumerate(layers):
        wide = 0.4 + 0.08 * at + 0.02 * depth + 0.01 * float(own.normal())
        low = 0.0 if "relu" in name or "." not in name else -1.0
        quantiles = [2.6 * wide * low, wide * low, 0.3 * wide * low, 0.1 * wide, 0.5 * wide, 1.3 * wide, 3 * wide]
        zeros = 0.35 + 0.02 * at if low == 0.0 else 0.0
        found[name] = {"quantiles": quantiles, "zeros": zeros, "mean": 0.2 * wide, "std": 0.5 * wide}
    return {"event": "layers", "step": step, "progress": at, "layers": found}


def _confusion(draw: np.random.Generator, accuracy: float) -> list[list[int]]:
    alike = {0: 6, 2: 4, 3: 0, 4: 2, 5: 7, 6: 0, 7: 9, 9: 7, 1: 3, 8: 6}
    rows = []
    for true in range(len(CLASSES)):
        right = int(min(995, 1000 * (accuracy + float(draw.normal()) * 0.04)))
        row = draw.multinomial(1000 - right, [0.05] * 8 + [0.3, 0.3]).tolist()
        places = [place for place in range(len(CLASSES)) if place != true]
        counts = [0] * len(CLASSES)
        for place, count in zip(places, row, strict=False):
            counts[place] = count
        counts[true], counts[alike[true]] = right, counts[alike[true]] + row[-1]
        rows.append(counts)
    return rows


@cache
def _images() -> Split:
    return synthetic_dataset(1, 12).test


def _samples(draw: np.random.Generator) -> list[dict[str, Any]]:
    test = _images()
    found = []
    for index, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        scores = draw.normal(size=len(CLASSES))
        scores[int(label)] += 4.0 if index % 4 else 0.8
        probabilities = (np.exp(scores) / np.exp(scores).sum()).tolist()
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        address = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        answer = int(np.argmax(probabilities))
        found.append({"index": index, "label": int(label), "predicted": answer, "probabilities": probabilities})
        found[-1]["image"] = address
    return found


def _picture(width: int, height: int, name: str) -> str:
    """All pictures have an element of the same id, as matplotlib's do."""
    bars = "".join(
        f'<rect x="{10 + at * width / 8:.0f}" y="{20 + at * 6}" width="{width / 9:.0f}" height="{height - 50}" '
        'fill="url(#shade)" stroke="#345"/>'
        for at in range(7)
    )
    return (
        f'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><defs><linearGradient id="shade"><stop stop-color="#cde"/></linearGradient>'
        f'</defs>{bars}<text x="10" y="{height - 8}" font-size="14">{name}</text></svg>'
    )


def _verify(layers: list[str]) -> dict[str, Any]:
    draw = np.random.default_rng(7)
    parameters = [f"{name}.{kind}" for name in layers if "conv" in name or "mlp" in name for kind in ("weight", "bias")]
    return {
        "arch": "nin-mnist",
        "input": [8, 1, 28, 28],
        "seed": 0,
        "precision": "fp32",
        "steps": 20,
        "nearest_decision": 1.38e-5,
        "backends": {name: _report(layers, parameters, draw) for name in BACKENDS},
        "agree": True,
    }


def _report(layers: list[str], parameters: list[str], draw: np.random.Generator) -> dict[str, Any]:
    activations = {name: 4e-8 * 1.07**at * float(draw.uniform(0.7, 1.5)) for at, name in enumerate(layers)}
    gradients = {name: 2e-7 * float(draw.uniform(0.3, 5)) for name in parameters}
    return {
        "precision": "fp32",
        "activation_rel_err": max(activations.values()),
        "logits_rel_err": 8.4e-8,
        "loss_rel_err": 5.5e-8,
        "step_rel_err": 3.0e-8,
        "momentum_rel_err": 4.3e-7,
        "curve_rel_err": 2.2e-6,
        "grad_rel_err": max(gradients.values()),
        "first_divergence": None,
        "divergences": [],
        "layers": activations,
        "gradients": gradients,
        "native_dropout": {"0.2": 0.205, "0.5": 0.503},
        "tolerances": {
            "activation": 2e-6,
            "logits": 1e-6,
            "loss": 1e-6,
            "gradient": 1e-4,
            "step": 1e-6,
            "momentum": 2e-5,
            "curve": 1e-4,
        },
        "agree": True,
    }


def _fail(run: dict[str, Any]) -> None:
    run["events"] = [event for event in run["events"] if event["step"] <= 1200]
    run.update(status="failed", step=1200, epoch=2, result={}, confusion=None, samples=[])
    run["reason"] = f"{run['backend']}: its process was killed by SIGKILL, most likely for want of memory"
    run["to_go_on"] = f"nin_multi train --resume {run['run_dir']}"
    run["pictures"] = dict.fromkeys(run["pictures"], "")


def _diverge(run: dict[str, Any]) -> None:
    run["events"] = [event for event in run["events"] if event["step"] <= 400]
    for event in run["events"]:
        if event["event"] == "step":
            event["loss"] *= 1 + event["step"] / 150
            event["dead_classes"] = list(range(event["step"] // 100))
    run["events"].append({**run["events"][-1], "event": "step", "step": 469, "progress": 1.0, "loss": None})
    run.update(status="diverged", step=469, epoch=0, confusion=None, samples=[])
    run["reason"] = "the loss is no number at step 469; it began in block2.conv, where the gradient overflowed"
    run["pictures"] = dict.fromkeys(run["pictures"], "")
    run["result"] = {"loss": None, "train_acc": None, "dead_classes": [0, 1, 2, 6], "never_predicted": [0, 1, 2, 6]}
