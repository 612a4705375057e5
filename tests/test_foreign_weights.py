"""The mapping of somebody else's names to the spec's, and back: by name, by position, or refused; safetensors."""

from __future__ import annotations

import json
import pickle
import random
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file
from strategies import architectures, refused

from nin_multi import load
from nin_multi.errors import CheckpointError
from nin_multi.foreign_weights import adopt, book_names, read_safetensors
from nin_multi.spec import Architecture
from nin_multi.weights import is_ours, load_weights, save_weights


def net(*layers: dict[str, Any], size: tuple[int, int, int] = (2, 6, 6)) -> Architecture:
    return Architecture.model_validate({"name": "tiny", "input": size, "layers": layers})


CONV = {"type": "conv2d", "out_channels": 2, "kernel_size": 1}
NET = net(CONV, CONV, {"type": "flatten"}, {"type": "linear", "out_features": 3})
DEEP = net(*[CONV] * 12, {"type": "flatten"})


def numbered(architecture: Architecture) -> dict[str, np.ndarray]:
    """Parameters that all differ, so that no two may change places."""
    shapes = architecture.parameter_shapes()
    return {
        name: (np.arange(np.prod(shape)) + 1000 * i).reshape(shape).astype(np.float32)
        for i, (name, shape) in enumerate(shapes.items())
    }


def called(architecture: Architecture, *layers: str, by: str = ".") -> dict[str, np.ndarray]:
    """Those parameters with other names for the layers, in the same order."""
    params = numbered(architecture)
    own = list(dict.fromkeys(name.rpartition(".")[0] for name in params))
    theirs = dict(zip(own, layers, strict=True))
    return {f"{theirs[n.rpartition('.')[0]]}{by}{n.rpartition('.')[2]}": value for n, value in params.items()}


def assert_adopted(named: dict[str, np.ndarray], architecture: Architecture, **more: Any) -> None:
    found, expected = adopt(named, architecture, "file", **more), numbered(architecture)
    assert list(found) == list(expected)
    for name, value in found.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def backwards(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(reversed(named.items()))


# --- which is which --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "net.", "module.net.", "conv1.", "arg:"])
def test_the_names_of_the_spec_count_in_any_order(prefix: str) -> None:
    named = {prefix + name: value for name, value in numbered(NET).items()}
    assert_adopted(backwards(named), NET)
    assert_adopted(dict(sorted(named.items())), NET, in_order=False)


@pytest.mark.parametrize(
    "layers",
    [
        ("0", "1", "3"),
        ("0.0", "0.2", "10"),
        ("net.2", "net.10", "net.11"),
        ("2", "9", "10"),
        ("conv2", "conv3", "conv20"),
        ("features.0.1", "features.1.0", "features.10.0"),
        ("0.9", "1.0", "1.10"),
        ("1", "22", "9" * 5000),  # more digits than Python makes a number of
    ],
)
def test_numbers_are_counted(layers: tuple[str, ...]) -> None:
    named = called(NET, *layers)
    assert_adopted(named, NET)
    assert_adopted(backwards(named), NET)
    assert_adopted(dict(sorted(named.items())), NET, in_order=False)


def test_ten_comes_after_two() -> None:
    named = called(DEEP, *map(str, range(12)))
    assert_adopted(dict(sorted(named.items())), DEEP)  # "0", "1", "10", "11", "2"


@pytest.mark.parametrize(
    "layers",
    [
        ("stem", "branch", "head"),
        ("features.3", "features.0", "classifier.1"),
        ("conv2", "conv1", "fc"),
        ("7", "07", "8"),
        ("0.0", "0", "1"),
        ("", "b", "a"),
    ],
)
def test_other_names_follow_the_files_order(layers: tuple[str, ...]) -> None:
    named = called(NET, *layers) if "" not in layers else {k.lstrip("."): v for k, v in called(NET, *layers).items()}
    assert_adopted(named, NET)
    with refused(CheckpointError, "file: nothing says whether", "comes first", "Rename"):
        adopt(named, NET, "file", in_order=False)


def test_old_names_of_gluon() -> None:
    assert_adopted(called(NET, "net0_conv0", "net0_conv1", "net0_dense0", by="_"), NET)


def test_a_bias_before_its_weight() -> None:
    named = called(NET, "0", "1", "3")
    assert_adopted({name: named[name] for name in sorted(named)}, NET)
    assert next(iter(sorted(named))) == "0.bias"


def test_layers_without_bias() -> None:
    plain = net({**CONV, "bias": False}, {"type": "flatten"}, {"type": "linear", "out_features": 2, "bias": False})
    assert_adopted(called(plain, "0", "2"), plain)


def test_a_net_without_parameters() -> None:
    assert adopt({}, net({"type": "flatten"}), "file") == {}
    with refused(CheckpointError, "unexpected: 0.weight"):
        adopt({"0.weight": np.zeros(3, np.float32)}, net({"type": "flatten"}), "file")


def test_kinds_of_numbers() -> None:
    for kind in (np.float16, np.float64, ">f4"):
        named = {name: (value % 50).astype(kind) for name, value in called(NET, "0", "1", "3").items()}
        for mine, theirs in zip(adopt(named, NET, "file").values(), named.values(), strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_array_equal(mine, theirs)
    bits = np.array([0x80000000, 0x7F800000, 0x7FC00001, 0x1, 0xFF800000, 0], np.uint32).view(np.float32)
    named = called(NET, "0", "1", "3")
    named["3.bias"] = bits[:3]
    assert adopt(named, NET, "file")["linear1.bias"].tobytes() == bits[:3].tobytes()
    named["3.bias"] = np.array([1e300, -1e300, 1e-300])
    assert adopt(named, NET, "file")["linear1.bias"].tolist() == [np.inf, -np.inf, 0]
    named["3.bias"] = np.arange(3)
    with refused(CheckpointError, "file: 3.bias holds int64; expected float32"):
        adopt(named, NET, "file")


def test_what_is_adopted_is_ours_to_write_on() -> None:
    named = called(NET, "0", "1", "3")
    adopt(named, NET, "file")["conv1.weight"][:] = -1
    assert named["0.weight"].min() >= 0


# --- and back --------------------------------------------------------------------------------------------------------


def test_the_chapters_own_names() -> None:
    nin = load("nin")
    layers = ["conv", "mlp1", "mlp2"]
    blocks = {"block1": 0, "block2": 2, "block3": 4, "block4": 7}
    roles = ("weight", "bias")
    for takes, step in ((True, 2), (False, 1)):
        assert book_names(nin, relu_takes_an_index=takes) == {
            f"{block}.{layer}.{role}": f"{place}.{step * i}.{role}"
            for block, place in blocks.items()
            for i, layer in enumerate(layers)
            for role in roles
        }


def test_where_an_activation_takes_no_place() -> None:
    relu, pool = {"type": "relu"}, {"type": "max_pool2d", "kernel_size": 1, "stride": 1}
    linear = {"type": "linear", "out_features": 2}
    # The first has nothing to be part of, the fourth neither; a second one in a row is a layer of its own.
    architecture = net(relu, CONV, relu, relu, pool, relu, CONV, pool, {"type": "flatten"}, linear, relu, linear)
    places = {
        name.rpartition(".")[0]: place.rpartition(".")[0]
        for name, place in book_names(architecture, relu_takes_an_index=False).items()
    }
    assert places == {"conv1": "1", "conv2": "5", "linear1": "8", "linear2": "9"}
    everywhere = book_names(architecture, relu_takes_an_index=True)
    assert [everywhere[f"{name}.weight"] for name in places] == ["1.weight", "6.weight", "9.weight", "11.weight"]


@settings(max_examples=100, deadline=None)
@given(architectures(), st.booleans(), st.sampled_from(["", "net."]), st.randoms(use_true_random=False))
def test_there_and_back(architecture: Architecture, takes: bool, prefix: str, order: random.Random) -> None:
    names = book_names(architecture, relu_takes_an_index=takes)
    assert list(names) == list(architecture.parameter_shapes())
    assert len(set(names.values())) == len(names)
    named = {prefix + names[name]: value for name, value in numbered(architecture).items()}
    shuffled = order.sample(sorted(named), len(named))
    assert_adopted({name: named[name] for name in shuffled}, architecture, in_order=False)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_another_net_is_told_by_what_does_not_fit() -> None:
    named = called(NET, "0", "1", "3")
    named["1.weight"] = named["1.weight"].reshape(4, 1, 1, 1)
    named["3.gamma"] = named.pop("3.bias")
    with refused(
        CheckpointError,
        "file: does not hold the parameters of architecture 'tiny'",
        "missing: linear1.bias",
        "unexpected: 3.gamma",
        "misshapen: 1.weight (4, 1, 1, 1) for conv2.weight (2, 2, 1, 1)",
    ):
        adopt(named, NET, "file")


def test_too_few_and_too_many_layers() -> None:
    named = called(NET, "0", "1", "3")
    short = {name: value for name, value in named.items() if not name.startswith("3")}
    with refused(CheckpointError, "missing: linear1.weight, linear1.bias"):
        adopt(short, NET, "file")
    with refused(CheckpointError, "unexpected: 5.weight"):
        adopt({**named, "5.weight": np.zeros((3, 3), np.float32)}, NET, "file")
    with refused(CheckpointError, "missing: conv1.weight, conv1.bias, conv2.weight and 3 more"):
        adopt({}, NET, "file")
    with refused(CheckpointError, "unexpected: 0.bias"):
        bare = net({**CONV, "bias": False}, {"type": "flatten"})
        adopt({"0.weight": np.zeros((2, 2, 1, 1), np.float32), "0.bias": np.zeros(2, np.float32)}, bare, "file")


def test_one_layer_under_two_names() -> None:
    named = called(NET, "0", "1", "3")
    with refused(CheckpointError, "unexpected: 1_weight"):
        adopt({**named, "1_weight": named["1.weight"]}, NET, "file")


def test_of_many_misfits_the_first_are_told() -> None:
    named = called(DEEP, *map(str, range(12)))
    with refused(CheckpointError, "unexpected: 3.weight, 3.bias, 4.weight and 15 more", "misshapen: 2.weight"):
        adopt(named, NET, "file")


@pytest.mark.parametrize("name", ["a\nb\nc.weight", "x" * 10_000, "\x1b[31m.weight", "\ud800"])
def test_names_cannot_disfigure_a_message(name: str) -> None:
    with refused(CheckpointError, "unexpected") as _:
        adopt({**called(NET, "0", "1", "3"), name: np.zeros(1, np.float32)}, NET, "file")
    with pytest.raises(CheckpointError) as caught:
        adopt({name: np.zeros(1, np.float32)}, NET, "file")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_many_names_take_no_long_time() -> None:
    named = {f"{'layer' * (i % 3)}{i}.weight": np.zeros(1, np.float32) for i in range(100_000)}
    with refused(CheckpointError, "unexpected", "and 99994 more"):
        adopt(named, NET, "file")


# --- safetensors of others -------------------------------------------------------------------------------------------


def test_somebody_elses_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    named = called(DEEP, *map(str, range(12)))
    save_file(named, path, metadata={"format": "pt"})
    assert not is_ours(path)
    found = read_safetensors(path)
    assert_adopted(found, DEEP, in_order=False)
    save_weights(path, numbered(DEEP), DEEP)
    assert is_ours(path)


def test_kinds_in_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    named = {str(kind): np.array([1.5, -0.0, np.inf], kind) for kind in ("float16", "float32", "float64")}
    save_file(named, path)
    for name, value in read_safetensors(path).items():
        assert value.dtype == named[name].dtype
        assert value.tobytes() == named[name].tobytes()
    path.write_bytes(raw("BF16", struct.pack("<HH", 0x3FC0, 0x8000)))
    assert read_safetensors(path)["v"].tobytes() == np.array([1.5, -0.0], np.float32).tobytes()
    for kind, size in (("I64", 8), ("BOOL", 1), ("U8", 1), ("F8_E4M3", 1)):
        path.write_bytes(raw(kind, bytes(2 * size)))
        with refused(CheckpointError, str(path), f"v holds {kind}; expected float32"):
            read_safetensors(path)


def raw(kind: str, content: bytes, pad: int = 0) -> bytes:
    """A file by the format's own description."""
    entry = {"dtype": kind, "shape": [2], "data_offsets": [0, len(content)]}
    text = json.dumps({"v": entry}).encode().ljust(pad)
    return struct.pack("<Q", len(text)) + text + content


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_begins_like_a_pickle(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw("F32", bytes(8), pad=length))
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    assert read_safetensors(path)["v"].tolist() == [0, 0]


def archive(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", pickle.dumps({"a": 1}, protocol=2))
    return path.read_bytes()


@pytest.mark.parametrize("read", [read_safetensors, load_weights])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "zip"])
def test_a_pickle_in_disguise_is_called_one(tmp_path: Path, read: Any, protocol: Any) -> None:
    path = tmp_path / "w.safetensors"
    content = archive(path) if protocol == "zip" else pickle.dumps({"a": np.zeros(9)}, protocol=protocol)
    path.write_bytes(content)
    what = "a zip archive with a pickle in it" if protocol == "zip" else "a pickle"
    with refused(CheckpointError, f"{path}: {what}; it is not opened", ".pt", "`nin_multi convert`"):
        read(path)
    assert path.read_bytes() == content


def test_an_archive_of_something_else_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    for content in (path.read_bytes(), path.read_bytes()[:40], b"PK"):
        path.write_bytes(content)
        with refused(CheckpointError, str(path), "not a complete safetensors file"):
            read_safetensors(path)


def test_damaged_safetensors(tmp_path: Path) -> None:
    path, draw, read = tmp_path / "w.safetensors", random.Random(1), 0
    whole = save({"0.weight": np.ones((2, 3), np.float32), "0.bias": np.ones(2, np.float16)})
    for _ in range(500):
        content = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.2 else whole)
        for _ in range(draw.randint(1, 4) if content else 0):
            content[draw.randrange(len(content))] = draw.choice([0, 0x30, 0x39, 0x7F, 0xFF, draw.randrange(256)])
        path.write_bytes(content)
        said = str(path)
        try:
            read += len(read_safetensors(path)) > 0
        except CheckpointError as error:
            said = str(error)
        assert str(path) in said
        assert 1 <= len(said.splitlines()) <= 2, said
        assert not is_ours(path)
    assert 0 < read < 500


def test_a_header_cannot_disfigure_a_message(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw("F\n\n\n3" + "x" * 9_000, bytes(8)))
    for read in (read_safetensors, load_weights):
        with refused(CheckpointError, str(path), "not a complete safetensors file"):
            read(path)


@pytest.mark.parametrize(("shape", "size"), [([1] * 70, 4), ([0, 2**62, 2], 0)])
def test_a_shape_that_numpy_cannot_have(tmp_path: Path, shape: list[int], size: int) -> None:
    path = tmp_path / "w.safetensors"
    text = json.dumps({"v": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    with refused(CheckpointError, str(path)):
        read_safetensors(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("/dev/zero")):
        with refused(CheckpointError, str(path)):
            read_safetensors(path)
        assert not is_ours(path)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_a_size_beyond_int64(tmp_path: Path, size: int) -> None:
    text = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [0, size], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with refused(CheckpointError, "conv1.weight", "a shape that cannot be"):
        read_safetensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("names", [[f"l{i}" for i in range(9_000)], [f"{'ab'[i == 8_999]}{i}" for i in range(9_000)]])
def test_thousands_of_layers_are_put_in_order_quickly(names: list[str]) -> None:
    deep = net(*[{**CONV, "out_channels": 1, "bias": False}] * 9_000, {"type": "flatten"}, size=(1, 1, 1))
    named = {f"{name}.weight": np.full((1, 1, 1, 1), i, np.float32) for i, name in enumerate(names)}
    began = time.process_time()
    if names[0] == "l0":
        assert [int(value.item()) for value in adopt(named, deep, "file", in_order=False).values()] == list(
            range(9_000)
        )
    else:
        with refused(CheckpointError, "nothing says whether"):
            adopt(named, deep, "file", in_order=False)
    assert time.process_time() - began < 10


def test_thousands_of_names_that_end_alike() -> None:
    deep = net(*[{**CONV, "out_channels": 1, "bias": False}] * 9_000, {"type": "flatten"}, size=(1, 1, 1))
    named = {f"x{i}.conv1.weight": np.zeros((1, 1, 1, 1), np.float32) for i in range(9_000)}
    began = time.process_time()
    adopt(named, deep, "file")
    assert time.process_time() - began < 10
