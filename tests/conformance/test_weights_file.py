"""Each framework's own weights files: the chapter's net, written by hand in it, to ours and back; and what is refused.

The nets here are nested Sequentials with positions for names, as people write them; nothing of the adapters' layers is
in them.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import refused

from nin_multi.architecture_file import format_architecture, load_architecture, parse_architecture
from nin_multi.backend import Backend
from nin_multi.errors import CheckpointError, RunError, UsageError
from nin_multi.foreign_weights import adopt, book_names

Plan = list[tuple[Any, ...]]  # a net in short: kind of layer and its numbers

NIN = load_architecture("nin")
NIN_PLAN: Plan = [
    *(("block", 96, 11, 4, 0), ("pool", 3, 2), ("block", 256, 5, 1, 2), ("pool", 3, 2)),
    *(("block", 384, 3, 1, 1), ("pool", 3, 2), ("dropout", 0.5), ("block", 10, 3, 1, 1), ("mean",), ("flatten",)),
]
SMALL = parse_architecture("""
name: small
input: [2, 17, 15]
layers:
  - {type: nin_block, out_channels: 6, kernel_size: 3, stride: 2}
  - {type: max_pool2d, kernel_size: 2, stride: 1}
  - {type: conv2d, out_channels: 5, kernel_size: 2}
  - {type: relu}
  - {type: dropout, rate: 0.5}
  - {type: nin_block, out_channels: 6, kernel_size: 3, padding: 1}
  - {type: flatten}
  - {type: linear, out_features: 7}
  - {type: relu}
  - {type: linear, out_features: 4}
""")
SMALL_PLAN: Plan = [
    *(("block", 6, 3, 2, 0), ("pool", 2, 1), ("conv", 5, 2, 1, 0, "relu"), ("dropout", 0.5), ("block", 6, 3, 1, 1)),
    *(("flatten",), ("linear", 7, "relu"), ("linear", 4)),
]
SIZES = {"nin": (NIN, NIN_PLAN), "small": (SMALL, SMALL_PLAN)}


class Torch:
    """How PyTorch people save and load."""

    names = ("0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias", "0.4.weight")

    def net(self, plan: Plan, x: np.ndarray) -> Any:
        import torch
        from torch import nn

        def layers(entry: tuple[Any, ...]) -> list[nn.Module]:
            match entry:
                case ("block", out, kernel, stride, padding):
                    first = [nn.LazyConv2d(out, kernel, stride, padding), nn.ReLU()]
                    rest = [nn.LazyConv2d(out, 1), nn.ReLU(), nn.LazyConv2d(out, 1), nn.ReLU()]
                    return [nn.Sequential(*first, *rest)]
                case ("conv", out, kernel, stride, padding, "relu"):
                    return [nn.LazyConv2d(out, kernel, stride, padding), nn.ReLU()]
                case ("linear", out, *activation):
                    return [nn.LazyLinear(out), *([nn.ReLU()] if activation else [])]
                case ("pool", kernel, stride):
                    return [nn.MaxPool2d(kernel, stride)]
                case ("dropout", rate):
                    return [nn.Dropout(rate)]
                case ("mean",):
                    return [nn.AdaptiveAvgPool2d((1, 1))]
            return [nn.Flatten()]

        net = nn.Sequential(*(layer for entry in plan for layer in layers(entry))).eval()
        net(torch.from_numpy(x))
        return net

    def parameters(self, net: Any) -> list[np.ndarray]:
        return [p.detach().numpy().copy() for p in net.parameters()]

    def fill(self, net: Any, seed: int) -> None:
        import torch

        draw = np.random.default_rng(seed)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.from_numpy(numbers(draw, tuple(p.shape))))

    def logits(self, net: Any, x: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return net(torch.from_numpy(x)).numpy()

    def save(self, net: Any, path: Path) -> None:
        import torch

        torch.save(net.state_dict(), path)

    def load(self, net: Any, path: Path) -> None:
        import torch

        net.load_state_dict(torch.load(path, weights_only=True), strict=True)

    def save_arrays(self, named: dict[str, np.ndarray], path: Path) -> None:
        import torch

        torch.save(OrderedDict((name, torch.from_numpy(value)) for name, value in named.items()), path)

    def save_bfloat16(self, values: list[float], path: Path) -> None:
        import torch

        torch.save({"a.weight": torch.tensor(values, dtype=torch.bfloat16)}, path)

    def load_arrays(self, path: Path) -> dict[str, np.ndarray]:
        import torch

        return {name: value.numpy() for name, value in torch.load(path, weights_only=True).items()}

    def traps(self, path: Path) -> dict[str, bytes]:
        """Files that promise more than they hold, or something else than a state_dict."""
        import torch
        from torch import nn

        things = {
            "a number repeated over terabytes": {"a.weight": torch.zeros(1).expand(10**12)},
            "no numbers at all": {"a.weight": torch.zeros(3, device="meta")},
            "sparse": {"a.weight": torch.eye(3).to_sparse()},
            "a whole net": nn.Sequential(nn.Linear(2, 2)),
            "a list": [torch.zeros(3)],
            "a tensor": torch.zeros(3),
            "numbers for names": {1: torch.zeros(3)},
            "a state_dict beside other things": {"state_dict": {"a": torch.zeros(3)}, "epoch": 3},
            "a net within names": {"a": {"b": torch.zeros(3)}},
            "40 axes": {"a.weight": torch.zeros([1] * 40)},
            "complex numbers": {"a.weight": torch.zeros(3, dtype=torch.complex64)},
        }
        found = {}
        for label, thing in things.items():
            torch.save(thing, path)
            found[label] = path.read_bytes()
        torch.save({"a.weight": torch.zeros(100_000)[:2]}, path)
        squeezed = path.with_suffix(".zip")
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.namelist():
                new.writestr(entry, old.read(entry))
        return {**found, "compressed": squeezed.read_bytes()}

    def content(self, path: Path) -> Any:
        """What the file says; the folder in its archive is called as the file, and the padding follows from that."""
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}

    def other_ways(self, net: Any, path: Path) -> Iterator[Path]:
        """Before and after 1.6, plain or within an entry of a checkpoint, as parameters or tensors."""
        import torch

        for zipped in (True, False):
            turned = {name: p.detach().mT.contiguous().mT if p.dim() > 1 else p for name, p in net.named_parameters()}
            # The very same numbers, stored with the other sign and in the other order.
            negative = {name: (p.detach() * -1j).conj().imag for name, p in turned.items()}
            assert negative["0.0.weight"].is_neg()
            assert not turned["0.0.weight"].is_contiguous()
            for thing in (net.state_dict(), {"state_dict": net.state_dict()}, turned, negative):
                torch.save(thing, path, _use_new_zipfile_serialization=zipped)
                yield path

    def save_one_number(self, value: float, path: Path) -> None:
        import torch

        torch.save({"a.weight": torch.tensor(value)}, path)


class MXNet:
    """How Gluon people save and load."""

    names = ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "0.2.weight")

    def net(self, plan: Plan, x: np.ndarray) -> Any:
        import mxnet as mx
        from mxnet.gluon import nn

        def layer(entry: tuple[Any, ...]) -> Any:
            match entry:
                case ("block", out, kernel, stride, padding):
                    inside = nn.HybridSequential()
                    inside.add(nn.Conv2D(out, kernel, stride, padding, activation="relu"))
                    inside.add(nn.Conv2D(out, 1, activation="relu"), nn.Conv2D(out, 1, activation="relu"))
                    return inside
                case ("conv", out, kernel, stride, padding, activation):
                    return nn.Conv2D(out, kernel, stride, padding, activation=activation)
                case ("linear", out, *activation):
                    return nn.Dense(out, activation=activation[0] if activation else None)
                case ("pool", kernel, stride):
                    return nn.MaxPool2D(kernel, stride)
                case ("dropout", rate):
                    return nn.Dropout(rate)
                case ("mean",):
                    return nn.GlobalAvgPool2D()
            return nn.Flatten()

        net = nn.HybridSequential()
        for entry in plan:
            net.add(layer(entry))
        net.initialize()
        net(mx.nd.array(x))
        return net

    def parameters(self, net: Any) -> list[np.ndarray]:
        return [p.data().asnumpy() for p in net.collect_params().values()]

    def fill(self, net: Any, seed: int) -> None:
        import mxnet as mx

        draw = np.random.default_rng(seed)
        for p in net.collect_params().values():
            p.set_data(mx.nd.array(numbers(draw, p.shape)))

    def logits(self, net: Any, x: np.ndarray) -> np.ndarray:
        import mxnet as mx

        return net(mx.nd.array(x)).asnumpy()

    def save(self, net: Any, path: Path) -> None:
        net.save_parameters(str(path))

    def load(self, net: Any, path: Path) -> None:
        net.load_parameters(str(path), allow_missing=False, ignore_extra=False)

    def save_arrays(self, named: dict[str, np.ndarray], path: Path) -> None:
        import mxnet as mx

        mx.nd.save(str(path), {name: mx.nd.array(value, dtype=value.dtype) for name, value in named.items()})

    def save_bfloat16(self, values: list[float], path: Path) -> None:
        # This MXNet makes none on every processor; the bytes are those of float32's upper halves, kind 12.
        halves = (np.array(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        head = struct.pack("<QQQIiIqiii", 0x112, 0, 1, 0xF993FAC9, 0, 1, len(values), 1, 0, 12)
        path.write_bytes(head + halves.tobytes() + struct.pack("<QQ", 1, 8) + b"a.weight")

    def load_arrays(self, path: Path) -> dict[str, np.ndarray]:
        import mxnet as mx

        return {name: value.asnumpy() for name, value in mx.nd.load(str(path)).items()}

    def traps(self, path: Path) -> dict[str, bytes]:
        """Files that promise more than they hold: with some of these `mx.nd.load` fills gigabytes."""
        self.save_arrays({"a.weight": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}, path)
        whole = path.read_bytes()

        def put(place: int, form: str, *values: int) -> bytes:
            return whole[:place] + struct.pack(form, *values) + whole[place + struct.calcsize(form) :]

        end = len(whole) - (8 + 8 + 8 + 8 + 1)  # where the names begin
        import mxnet as mx

        mx.nd.save(str(path), [mx.nd.zeros(3)])
        return {
            "16 million arrays": put(16, "<Q", 2**24),
            "2^62 arrays": put(16, "<Q", 2**62),
            "no array": put(16, "<Q", 0),
            "4 billion numbers": put(36, "<qq", 2**20, 2**12),
            "lengths that overflow": put(36, "<qq", 2**33, 2**31),
            "lengths below 0": put(36, "<qq", -2, -3),
            "a length of 0": put(36, "<qq", 0, 2**62),
            "2^31 axes": put(32, "<I", 2**31 - 1),
            "an array never filled": put(32, "<I", 0),
            "an unknown kind": put(60, "<i", 99),
            "sparse": put(28, "<i", 1),
            "from before 1.0": put(24, "<I", 0xF993FAC8),
            "2^60 names": put(end, "<Q", 2**60),
            "a name of 2^60 letters": put(end + 8, "<Q", 2**60),
            "one more byte": whole + b"\0",
            "no names": path.read_bytes(),
            "one name twice": whole[: end + 8] + 2 * (struct.pack("<Q", 1) + b"b"),
        }

    def content(self, path: Path) -> Any:
        return path.read_bytes()

    def other_ways(self, net: Any, path: Path) -> Iterator[Path]:
        """`export` writes "arg:hybridsequential0_conv0_weight"; NumPy's semantics of shapes, another number."""
        import mxnet as mx

        net.hybridize()
        net(mx.nd.array(images(SMALL)))
        net.export(str(path.with_suffix("")))
        yield path.with_name(f"{path.stem}-0000.params")
        net.collect_params().save(str(path))
        yield path
        mine = {name: p.data() for name, p in zip(SMALL.parameter_shapes(), net.collect_params().values(), strict=True)}
        mx.nd.save(str(path), {f"arg:{name}": mine[name] for name in sorted(mine, reverse=True)})
        yield path
        with mx.util.np_shape(True):
            net.save_parameters(str(path))
        assert struct.pack("<I", 0xF993FACA) in path.read_bytes()
        yield path

    def save_one_number(self, value: float, path: Path) -> None:
        import mxnet as mx

        with mx.util.np_shape(True):
            mx.nd.save(str(path), {"a.weight": mx.nd.full((), value)})


class MindSpore:
    """How MindSpore people save and load."""

    names = Torch.names

    def net(self, plan: Plan, x: np.ndarray) -> Any:
        from mindspore import Tensor, nn

        class Mean(nn.Cell):
            def construct(self, x: Any) -> Any:
                return x.mean((2, 3), keep_dims=True)

        def conv(channels: int, out: int, kernel: int, stride: int = 1, padding: int = 0) -> Any:
            return nn.Conv2d(channels, out, kernel, stride, "pad", padding, has_bias=True)

        layers: list[Any] = []
        for entry in plan:
            shape = nn.SequentialCell(layers)(Tensor(x)).shape if layers else x.shape
            match entry:
                case ("block", out, kernel, stride, padding):
                    inside = [conv(shape[1], out, kernel, stride, padding), nn.ReLU()]
                    inside += [conv(out, out, 1), nn.ReLU(), conv(out, out, 1), nn.ReLU()]
                    layers.append(nn.SequentialCell(inside))
                case ("conv", out, kernel, stride, padding, "relu"):
                    layers += [conv(shape[1], out, kernel, stride, padding), nn.ReLU()]
                case ("linear", out, *activation):
                    layers += [nn.Dense(shape[1], out), *([nn.ReLU()] if activation else [])]
                case ("pool", kernel, stride):
                    layers.append(nn.MaxPool2d(kernel, stride))
                case ("dropout", rate):
                    layers.append(nn.Dropout(p=rate).set_train(False))
                case ("mean",):
                    layers.append(Mean())
                case _:
                    layers.append(nn.Flatten())
        return self._fresh(layers)

    def _fresh(self, layers: list[Any]) -> Any:
        """The net from its layers: each one's parameters named by its place, and not by an earlier trial's."""
        from mindspore import nn

        for layer in layers:
            for name, parameter in layer.parameters_and_names():
                parameter.name = name
        return nn.SequentialCell(layers).set_train(False)

    def parameters(self, net: Any) -> list[np.ndarray]:
        return [p.asnumpy().copy() for p in net.get_parameters()]

    def fill(self, net: Any, seed: int) -> None:
        from mindspore import Tensor

        draw = np.random.default_rng(seed)
        for p in net.get_parameters():
            p.set_data(Tensor(numbers(draw, p.shape)))

    def logits(self, net: Any, x: np.ndarray) -> np.ndarray:
        from mindspore import Tensor

        return net(Tensor(x)).asnumpy()

    def save(self, net: Any, path: Path) -> None:
        import mindspore

        mindspore.save_checkpoint(net, str(path))

    def load(self, net: Any, path: Path) -> None:
        import mindspore

        loaded = mindspore.load_checkpoint(str(path))
        assert set(loaded) == {p.name for p in net.get_parameters()}
        assert mindspore.load_param_into_net(net, loaded, strict_load=True) == ([], [])

    def save_arrays(self, named: dict[str, np.ndarray], path: Path) -> None:
        import mindspore

        entries = [{"name": name, "data": mindspore.Tensor(value)} for name, value in named.items()]
        mindspore.save_checkpoint(entries, str(path))

    def save_bfloat16(self, values: list[float], path: Path) -> None:
        import mindspore

        tensor = mindspore.Tensor(np.array(values, np.float32)).astype(mindspore.bfloat16)
        mindspore.save_checkpoint([{"name": "a.weight", "data": tensor}], str(path))

    def load_arrays(self, path: Path) -> dict[str, np.ndarray]:
        import mindspore

        return {name: value.asnumpy() for name, value in mindspore.load_checkpoint(str(path)).items()}

    def traps(self, path: Path) -> dict[str, bytes]:
        """Files whose shapes are not those of their numbers: `load_checkpoint` shows memory then."""
        from mindspore.train.checkpoint_pb2 import Checkpoint

        def entry(name: str, dims: tuple[int, ...], kind: str, content: bytes) -> bytes:
            message = Checkpoint()
            value = message.value.add()
            value.tag, value.tensor.tensor_type, value.tensor.tensor_content = name, kind, content
            value.tensor.dims.extend(dims)
            return bytes(message.SerializeToString())

        whole = entry("a.weight", (2,), "Float32", bytes(8))
        return {
            "a million numbers in four bytes": entry("a.weight", (1000, 1000), "Float32", bytes(4)),
            "lengths that overflow": entry("a.weight", (2**40, 2**40), "Float32", bytes(4)),
            "lengths below 0": entry("a.weight", (-1, -2), "Float32", bytes(8)),
            "too many numbers": entry("a.weight", (1,), "Float32", bytes(8)),
            "half an array": entry("a.weight", (4,), "Float32", bytes(8)),
            "no numbers": entry("a.weight", (0, 3), "Float32", b""),
            "33 axes": entry("a.weight", (1,) * 33, "Float32", bytes(4)),
            "an unknown kind": entry("a.weight", (2,), "Float31", bytes(8)),
            "text": entry("a.weight", (2,), "str", bytes(8)),
            "one name twice": whole + entry("b", (2,), "Float32", bytes(8)) + whole,
            "a wrong checksum": whole + b"crc_num" + bytes(10),
            "a name that is no text": whole.replace(b"a.weight", b"\xff.weight"),
        }

    def content(self, path: Path) -> Any:
        return path.read_bytes()

    def other_ways(self, net: Any, path: Path) -> Iterator[Path]:
        """With a checksum."""
        import mindspore

        mindspore.save_checkpoint(net, str(path), crc_check=True)
        assert path.read_bytes()[-17:-10] == b"crc_num"
        yield path

    def save_one_number(self, value: float, path: Path) -> None:
        import mindspore

        mindspore.save_checkpoint([{"name": "a.weight", "data": mindspore.Tensor(np.float32(value))}], str(path))


HANDS = {"torch": Torch, "mxnet": MXNet, "mindspore": MindSpore}


def numbers(draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a size at which values neither die nor grow; biases that show where they are left out."""
    scale = 1.5 / np.sqrt(max(np.prod(shape[1:]), 1)) if len(shape) > 1 else 0.1
    return (scale * draw.standard_normal(shape)).astype(np.float32)


def images(architecture: Any) -> np.ndarray:
    return np.random.default_rng(9).random((2, *architecture.input), np.float32)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(np.float64(a) - b) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def hand(backend: Backend) -> Any:
    from nin_multi.randomness import initial_parameters

    backend.build(SMALL, initial_parameters(SMALL, 0), device="cpu", precision=backend.precisions[0])  # starts it
    return HANDS[backend.name]()


@pytest.fixture
def path(backend: Backend, tmp_path: Path) -> Path:
    return tmp_path / f"net{backend.weights_suffixes[0]}"


def test_what_a_backend_says_of_its_files(backend: Backend, tmp_path: Path) -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in backend.weights_suffixes)
    assert ".safetensors" not in backend.weights_suffixes
    if not backend.weights_suffixes:
        with refused(UsageError, "net.x", backend.name, ".safetensors"):
            backend.read_weights(tmp_path / "net.x")
        with refused(UsageError, "net.x", backend.name, ".safetensors"):
            backend.write_weights(tmp_path / "net.x", {})


@pytest.mark.parametrize("size", SIZES)
def test_a_net_by_hand_becomes_ours(backend: Backend, hand: Any, path: Path, size: str) -> None:
    architecture, plan = SIZES[size]
    x = images(architecture)
    net = hand.net(plan, x)
    hand.fill(net, seed=1)
    hand.save(net, path)
    before = path.read_bytes()
    found = backend.read_weights(path)
    assert tuple(found)[:5] == hand.names
    params = adopt(found, architecture, str(path))
    for mine, theirs in zip(params.values(), hand.parameters(net), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, theirs)
    ours = backend.build(architecture, params, device="cpu", precision=backend.precisions[0])
    assert relative(ours.logits(x), hand.logits(net, x)) < 1e-6
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", SIZES)
def test_ours_becomes_a_net_by_hand(backend: Backend, hand: Any, path: Path, size: str) -> None:
    architecture, plan = SIZES[size]
    x = images(architecture)
    draw = np.random.default_rng(2)
    params = {name: numbers(draw, shape) for name, shape in architecture.parameter_shapes().items()}
    names = book_names(architecture, relu_takes_an_index=backend.relu_takes_an_index)
    backend.write_weights(path, {names[name]: value for name, value in params.items()})
    net = hand.net(plan, x)
    hand.load(net, path)
    for theirs, mine in zip(hand.parameters(net), params.values(), strict=True):
        np.testing.assert_array_equal(theirs, mine)
    ours = backend.build(architecture, params, device="cpu", precision=backend.precisions[0])
    assert relative(hand.logits(net, x), ours.logits(x)) < 1e-6
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_names_of_the_spec_go_through_too(backend: Backend, hand: Any, path: Path) -> None:
    draw = np.random.default_rng(3)
    params = {name: numbers(draw, shape) for name, shape in SMALL.parameter_shapes().items()}
    backend.write_weights(path, params)
    for found in (backend.read_weights(path), hand.load_arrays(path)):
        assert list(found) == list(params)
        for name, value in found.items():
            np.testing.assert_array_equal(value, params[name])
    backend.write_weights(path, {"a": params["conv1.bias"]})  # over what was there
    assert list(backend.read_weights(path)) == ["a"]


def test_unusual_numbers_of_every_kind(backend: Backend, hand: Any, path: Path) -> None:
    values = [0.0, -0.0, 1.5, -2.25, np.inf, -np.inf, np.nan, 6e-8]
    named = {f"{kind}.weight": np.array(values, kind).reshape(2, 4) for kind in ("float32", "float16", "float64")}
    hand.save_arrays(named, path)
    found = backend.read_weights(path)
    assert list(found) == list(named)
    for name, value in hand.load_arrays(path).items():
        assert found[name].dtype == value.dtype == named[name].dtype
        assert found[name].shape == (2, 4)
        assert found[name].tobytes() == value.tobytes()
        found[name][...] = 1  # theirs to write on
    path.unlink()
    hand.save_bfloat16([1.5, -0.0, np.inf, 2.0**-100], path)
    (value,) = backend.read_weights(path).values()
    assert value.dtype == np.float32
    assert value.tobytes() == np.array([1.5, -0.0, np.inf, 2.0**-100], np.float32).tobytes()


def test_numbers_that_are_no_weights(backend: Backend, hand: Any, path: Path) -> None:
    hand.save_arrays({"a.weight": np.zeros(3, np.float32), "a.steps": np.array([7, 8], np.int64)}, path)
    with refused(CheckpointError, str(path), "a.steps holds", "64", "expected float32"):
        backend.read_weights(path)


def test_our_files_are_the_frameworks_bytes(backend: Backend, hand: Any, path: Path) -> None:
    params = {"0.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "0.0.bias": np.ones(2, np.float32)}
    hand.save_arrays(params, path)
    expected = hand.content(path)
    path.unlink()
    backend.write_weights(path, params)
    assert hand.content(path) == expected


def test_a_file_of_another_net(backend: Backend, hand: Any, path: Path) -> None:
    hand.save(hand.net(SMALL_PLAN, images(SMALL)), path)
    with refused(
        CheckpointError, str(path), "'nin'", "missing: ", "misshapen: 0.0.weight (6, 2, 3, 3) for block1.conv"
    ):
        adopt(backend.read_weights(path), NIN, str(path))


def test_truncated_files(backend: Backend, hand: Any, path: Path) -> None:
    hand.save(hand.net(SMALL_PLAN, images(SMALL)), path)
    whole = path.read_bytes()
    path.unlink()
    draw = random.Random(4)
    for length in [0, 1, 2, 9, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(whole[:length])
        with refused(CheckpointError, str(path)):
            adopt(backend.read_weights(path), SMALL, str(path))
        assert path.read_bytes() == whole[:length]


def test_files_that_lie(backend: Backend, hand: Any, path: Path, tmp_path: Path) -> None:
    trap = tmp_path / f"trap{path.suffix}"
    for label, content in hand.traps(path).items():
        trap.write_bytes(content)
        try:
            with refused(CheckpointError, str(trap)):
                backend.read_weights(trap)
        except BaseException as error:
            raise AssertionError(label) from error
        assert trap.read_bytes() == content


def test_altered_files_give_arrays_or_are_refused(backend: Backend, hand: Any, path: Path) -> None:
    hand.save_arrays({"0.weight": np.ones((2, 3), np.float32), "0.bias": np.ones(3, np.float32)}, path)
    whole = path.read_bytes()
    path.unlink()
    draw = random.Random(5)
    read = 0
    for _ in range(400):
        content = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.2 else whole)
        for _ in range(draw.randint(1, 4) if content else 0):
            content[draw.randrange(len(content))] = draw.choice([0, 1, 2, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        path.write_bytes(content)
        try:
            found = backend.read_weights(path)
        except CheckpointError as error:
            found, said = {}, str(error)
        else:
            read, said = read + 1, str(path)
        assert 1 <= len(said.splitlines()) <= 2, said
        assert str(path) in said
        assert all(isinstance(name, str) for name in found)
        assert sum(value.nbytes for value in found.values()) <= 2 * len(content)  # bfloat16 doubles
    assert 0 < read < 400


class Evil:
    """What a pickle may do to whoever opens it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_in_disguise_is_not_run(backend: Backend, hand: Any, path: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()  # so this would show it
    marker.unlink()
    thing = {"0.0.weight": Evil(marker)}
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("net/data.pkl", pickle.dumps(thing, protocol=2))
        file.writestr("net/version", "3\n")
    contents = [archive.read_bytes(), *(pickle.dumps(thing, protocol=n) for n in range(6))]
    if backend.name == "torch":
        import torch

        for zipped in (True, False):
            torch.save(thing, archive, _use_new_zipfile_serialization=zipped)
            contents.append(archive.read_bytes())
    for content in contents:
        path.write_bytes(content)
        with refused(CheckpointError, str(path)) as _:
            backend.read_weights(path)
        assert not marker.exists()
        assert path.read_bytes() == content
    if backend.name == "torch":
        with refused(CheckpointError, "its pickle asks for posix.system", "Save net.state_dict()"):
            backend.read_weights(path)
    else:
        path.write_bytes(contents[0])
        with refused(CheckpointError, "a zip archive with a pickle in it", "can run any code", "nin_multi convert"):
            backend.read_weights(path)


def test_what_is_no_file(backend: Backend, hand: Any, path: Path, tmp_path: Path) -> None:
    with refused(CheckpointError, str(path), "no such weights file"):
        backend.read_weights(path)
    with refused(CheckpointError, str(tmp_path), "expected a weights file, got a folder"):
        backend.read_weights(tmp_path)
    with refused(CheckpointError, "/dev/zero", "or a device"):
        backend.read_weights(Path("/dev/zero"))
    nowhere = tmp_path / "nowhere" / path.name
    with refused(RunError, str(nowhere), "cannot be written"):
        backend.write_weights(nowhere, {"a.weight": np.zeros(3, np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_other_ways_in_which_a_framework_saves(backend: Backend, hand: Any, path: Path) -> None:
    net = hand.net(SMALL_PLAN, images(SMALL))
    ways = 0
    for written in hand.other_ways(net, path):
        params = adopt(backend.read_weights(written), SMALL, str(written))
        for mine, theirs in zip(params.values(), hand.parameters(net), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        ways += 1
    assert ways
    path.unlink(missing_ok=True)
    hand.save_one_number(1.5, path)
    (value,) = backend.read_weights(path).values()
    assert (value.shape, float(value)) == ((), 1.5)


def test_the_command_takes_files_in_and_out(backend: Backend, hand: Any, path: Path, tmp_path: Path) -> None:
    """Across frameworks, each in a process of its own: what comes back is what went in."""
    (tmp_path / "small.yaml").write_text(format_architecture(SMALL))
    between = tmp_path / ("between.safetensors" if backend.name == "mxnet" else "between.params")
    back = path.with_name(f"back{backend.weights_suffixes[-1]}")
    net = hand.net(SMALL_PLAN, images(SMALL))
    hand.fill(net, seed=6)
    hand.save(net, path)
    for source, target in ((path, between), (between, back)):
        command = [sys.executable, "-m", "nin_multi", "convert", source.name, target.name, "--arch", "small.yaml"]
        ended = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout)
        assert (told["arch"], told["parameters"], told["rounded"]) == ("small", SMALL.parameters, False)
    hand.fill(net, seed=7)
    other = hand.parameters(net)
    hand.load(net, back)
    hand.fill(fresh := hand.net(SMALL_PLAN, images(SMALL)), seed=6)
    for found, expected, before in zip(hand.parameters(net), hand.parameters(fresh), other, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert not np.array_equal(found, before)
