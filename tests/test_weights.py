"""Weights files: bit for bit there and back, the same file for the same content, and refusal of all else."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from strategies import architectures, refused

from nin_multi import load
from nin_multi.errors import CheckpointError, RunError
from nin_multi.foreign_weights import read_safetensors
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture
from nin_multi.weights import KEY, is_ours, load_weights, save_weights

NET = Architecture.model_validate(
    {
        "name": "tiny",
        "input": [1, 4, 6],
        "layers": [
            {"type": "conv2d", "out_channels": 2, "kernel_size": [1, 3]},
            {"type": "flatten"},
            {"type": "linear", "out_features": 3},
        ],
    }
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, initial_parameters(NET, seed=3), NET, step=7, seed=3)
    return path


def assert_bits_equal(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_round_trip(file: Path) -> None:
    stored = load_weights(file)
    params = stored.params
    expected = initial_parameters(NET, seed=3)
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        assert_bits_equal(params[name], value)
    assert stored.architecture == NET
    assert stored.facts == {"step": 7, "seed": 3}


@settings(max_examples=30, deadline=None)
@given(architectures(), st.integers(0, 2**32))
def test_round_trip_of_any_architecture(tmp_path_factory: pytest.TempPathFactory, net: Architecture, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn.safetensors"
    save_weights(path, initial_parameters(net, seed), net)
    stored = load_weights(path)
    assert stored.architecture == net
    assert {name: value.shape for name, value in stored.params.items()} == net.parameter_shapes()
    for name, value in initial_parameters(net, seed).items():
        assert_bits_equal(stored.params[name], value)


def test_unusual_bits(tmp_path: Path) -> None:
    bits = [0x0, 0x80000000, 0x1, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC12345, 0x7F7FFFFF]
    values = np.array(bits, np.uint32).view(np.float32)
    params = initial_parameters(NET, seed=0)
    params["linear1.weight"].ravel()[:8] = values
    save_weights(tmp_path / "w", params, NET)
    stored = load_weights(tmp_path / "w").params["linear1.weight"]
    np.testing.assert_array_equal(stored.ravel()[:8].view(np.uint32), bits)


def test_one_altered_bit_is_noticed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with refused(CheckpointError, str(file), "was altered"):
        load_weights(file)


def test_one_altered_fact_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for old, new in ((b'step\\": 7', b'step\\": 9'), (b"tiny", b"tidy")):
        assert content.count(old) == 1
        file.write_bytes(content.replace(old, new))
        with refused(CheckpointError, str(file), "facts", "was altered"):
            load_weights(file)


def test_files_from_before_facts_had_a_checksum(file: Path) -> None:
    def drop(header: dict[str, Any]) -> None:
        ours = json.loads(header["__metadata__"][KEY])
        del ours["facts_sha256"]
        header["__metadata__"][KEY] = json.dumps(ours)

    file.write_bytes(header_edit(drop)(file.read_bytes()))
    assert load_weights(file).facts == {"step": 7, "seed": 3}


def test_velocities_round_trip_apart_from_parameters(tmp_path: Path) -> None:
    params, velocities = initial_parameters(NET, seed=0), initial_parameters(NET, seed=1)
    save_weights(tmp_path / "w", params, NET, velocities)
    stored = load_weights(tmp_path / "w", NET)
    assert list(stored.params) == list(stored.velocities) == list(params)
    for name in params:
        assert_bits_equal(stored.params[name], params[name])
        assert_bits_equal(stored.velocities[name], velocities[name])
    save_weights(tmp_path / "none", params, NET)
    assert load_weights(tmp_path / "none").velocities == {}
    save_weights(tmp_path / "few", params, NET, {"conv1.bias": velocities["conv1.bias"]})
    with refused(CheckpointError, str(tmp_path / "few"), "missing: conv1.weight, linear1.weight, linear1.bias"):
        load_weights(tmp_path / "few")


def test_the_parameters_of_another_architecture_are_named(file: Path) -> None:
    fields = NET.model_dump()
    fields["layers"] = [fields["layers"][0], {"type": "flatten"}, {"type": "linear", "out_features": 4, "name": "last"}]
    other = Architecture.model_validate({**fields, "name": "other"})
    with refused(CheckpointError, str(file), "'other'", "missing: last.weight", "unexpected: linear1.bias"):
        load_weights(file, other)
    fields["layers"][2]["name"] = "linear1"
    with refused(CheckpointError, "misshapen: linear1.weight (3, 32) for (4, 32), linear1.bias (3,) for (4,)"):
        load_weights(file, Architecture.model_validate(fields))


def test_arrays_in_another_memory_order(tmp_path: Path) -> None:
    params = initial_parameters(NET, seed=0)
    value = params["linear1.weight"]
    wide = np.repeat(value, 2, axis=1)
    for name, view in (
        ("transposed", value.T.copy().T),
        ("strided", wide[:, ::2]),
        ("fortran", np.asfortranarray(value)),
    ):
        assert not view.flags.c_contiguous
        save_weights(tmp_path / name, {**params, "linear1.weight": view}, NET)
        np.testing.assert_array_equal(load_weights(tmp_path / name).params["linear1.weight"], value)


SAVE = """
import sys
from pathlib import Path
from nin_multi import load
from nin_multi.randomness import initial_parameters
from nin_multi.weights import save_weights
params = initial_parameters(load("nin-mnist"), 1)
for i, order in enumerate((list(params), sorted(params), list(reversed(params)))):
    save_weights(Path(sys.argv[1], f"{i}"), {n: params[n] for n in order}, load("nin-mnist"), seed=1, lr=0.1, step=2)
"""


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    # Several processes, because an order that hangs on hashes differs between them and not within one.
    found = set()
    for hash_seed in ("0", "1", "2"):
        subprocess.run([sys.executable, "-c", SAVE, str(tmp_path)], check=True, env={"PYTHONHASHSEED": hash_seed})
        found |= {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(found) == 1


def test_other_content_gives_other_files(tmp_path: Path, file: Path) -> None:
    save_weights(tmp_path / "other", initial_parameters(NET, seed=3), NET, step=8, seed=3)
    assert (tmp_path / "other").read_bytes() != file.read_bytes()


def test_the_file_is_plain_safetensors(file: Path) -> None:
    # By the format's own description: 8 bytes of length, a JSON header, the numbers.
    raw = file.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    assert list(header["__metadata__"]) == [KEY]
    begin, end = header["conv1.weight"]["data_offsets"]
    assert header["conv1.weight"]["dtype"] == "F32"
    assert header["conv1.weight"]["shape"] == [2, 1, 1, 3]
    data = raw[8 + length :][begin:end]
    assert data == initial_parameters(NET, seed=3)["conv1.weight"].tobytes()


# --- what is refused -------------------------------------------------------------------------------------------------


def header_edit(edit: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        length = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + length])
        edit(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + raw[8 + length :]

    return change


def safetensors_bytes(dtype: str, itemsize: int, metadata: dict[str, str]) -> bytes:
    entry = {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * itemsize]}
    text = json.dumps({"__metadata__": metadata, "v": entry}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(2 * itemsize)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "five bytes": lambda raw: raw[:5],
    "half a header": lambda raw: raw[:100],
    "one byte short": lambda raw: raw[:-1],
    "one byte long": lambda raw: raw + b"\0",
    "the length is huge": lambda raw: b"\xff" * 8 + raw[8:],
    "the length is short": lambda raw: struct.pack("<Q", 10) + raw[8:],
    "a broken bracket": lambda raw: raw.replace(b"{", b"[", 1),
    "header not UTF-8": lambda raw: raw[:20] + b"\xff" + raw[21:],
    "another shape": header_edit(lambda h: h["conv1.weight"].update(shape=[2, 1, 1, 4])),
    "offsets beyond the end": header_edit(lambda h: h["conv1.bias"].update(data_offsets=[0, 10**9])),
    "unknown type of number": header_edit(lambda h: h["conv1.bias"].update(dtype="F31")),
    "no entry of ours": header_edit(lambda h: h.pop("__metadata__")),
    "our entry is not JSON": header_edit(lambda h: h["__metadata__"].update({KEY: "{"})),
    "our entry is a list": header_edit(lambda h: h["__metadata__"].update({KEY: "[]"})),
    "our entry has no architecture": header_edit(lambda h: h["__metadata__"].update({KEY: '{"format": 1}'})),
    "a pickle": lambda raw: pickle.dumps({"conv1.weight": np.zeros(3)}),
    "text": lambda raw: b"these are no weights\n" * 50,
    "float64 of ours": lambda raw: safetensors_bytes("F64", 8, {KEY: '{"format": 1, "architecture": {}}'}),
    "bfloat16 of somebody else": lambda raw: safetensors_bytes("BF16", 2, {"format": "pt"}),
    "float8 of somebody else": lambda raw: safetensors_bytes("F8_E4M3", 1, {}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files(file: Path, damage: Callable[[bytes], bytes]) -> None:
    content = damage(file.read_bytes())
    assert content != file.read_bytes()
    file.write_bytes(content)
    with refused(CheckpointError, str(file)):
        load_weights(file)
    assert file.read_bytes() == content


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "ran").touch, ())

    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Evil()))
    with refused(CheckpointError, "a pickle; it is not opened"):
        load_weights(tmp_path / "weights.safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_foreign_file_is_called_foreign(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"features.0.weight": np.zeros((2, 2), np.float32)}, path, metadata={"format": "pt"})
    with refused(CheckpointError, str(path), f"without the entry {KEY!r}"):
        load_weights(path)
    assert path.exists()


def test_missing(tmp_path: Path) -> None:
    with refused(CheckpointError, str(tmp_path / "none"), "no such weights file"):
        load_weights(tmp_path / "none")


def test_directory(tmp_path: Path) -> None:
    with refused(CheckpointError, str(tmp_path)):
        load_weights(tmp_path)


def test_a_failed_write_leaves_the_old_file(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    with refused(RunError, "cannot be written"):
        save_weights(file / "inside", initial_parameters(NET, seed=0), NET)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_loaded_arrays_are_our_own(file: Path) -> None:
    load_weights(file).params["conv1.bias"][:] = 5
    assert not load_weights(file).params["conv1.bias"].any()


def test_the_chapters_net_has_the_size_of_its_parameters(tmp_path: Path) -> None:
    path = tmp_path / "nin.safetensors"
    save_weights(path, initial_parameters(load("nin"), seed=0), load("nin"))
    assert 0 < path.stat().st_size - 4 * 1_992_166 < 10_000


# --- nothing is read before it is known to fit --------------------------------------------------


def large_file(path: Path, sha256: str = "") -> Path:
    """A sparse file of 1 TB whose header is in order: 2.5 * 10^11 parameters of an architecture that says so."""
    layers = [{"type": "flatten"}, {"type": "linear", "out_features": 250_000, "bias": False}]
    architecture = {"name": "large", "input": [1, 1000, 1000], "layers": layers}
    facts: dict[str, Any] = {}
    ours = {"format": 1, "architecture": architecture, "facts": facts, "sha256": sha256}
    length = 4 * 250_000 * 10**6
    entry = {"dtype": "F32", "shape": [250_000, 10**6], "data_offsets": [0, length]}
    text = json.dumps({"__metadata__": {KEY: json.dumps(ours)}, "linear1.weight": entry}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + length)
    return path


def test_a_file_of_a_terabyte(tmp_path: Path) -> None:
    path = large_file(tmp_path / "w.safetensors")
    with refused(CheckpointError, str(path), "250,000,000,000 parameters", "3,000.0 GB", "--allow-large"):
        load_weights(path)
    with refused(CheckpointError, str(path), "do not belong to architecture 'tiny'", "missing: conv1.weight"):
        load_weights(path, NET)
    assert is_ours(path)


def test_a_foreign_file_of_a_terabyte(tmp_path: Path) -> None:
    with refused(CheckpointError, "a weights file of at most", "bytes, got 1,000,000,000"):
        read_safetensors(large_file(tmp_path / "w.safetensors"))


def test_a_header_without_end(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000) + b"{")
        file.truncate(100_000_000)
    with refused(CheckpointError, str(path), "a header of at most 10,000,000 bytes, got 90,000,000"):
        load_weights(path)
    assert not is_ours(path)


@pytest.mark.parametrize("where", ["architecture", "facts", "all"])
@pytest.mark.parametrize("depth", [60, 900, 100_000])
def test_an_entry_nested_without_end(file: Path, where: str, depth: int) -> None:
    deep = "[" * depth + "]" * depth

    def nest(header: dict[str, Any]) -> None:
        ours = json.loads(header["__metadata__"][KEY])
        ours[where] = "HERE"
        header["__metadata__"][KEY] = deep if where == "all" else json.dumps(ours).replace('"HERE"', deep)

    file.write_bytes(header_edit(nest)(file.read_bytes()))
    with refused(CheckpointError, str(file), "without a valid entry"):
        load_weights(file)


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with refused(CheckpointError, "pipe", "a folder or a device"):
        load_weights(tmp_path / "pipe")
    assert not is_ours(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["x" * 5_000, "a\nb\nc", "\u2028" * 9])
def test_names_and_shapes_cannot_disfigure_a_message(file: Path, name: str) -> None:
    def rename(header: dict[str, Any]) -> None:
        header["conv1.bias"]["shape"] = [1] * 5_000 + [2]
        header[name] = header.pop("linear1.bias")

    file.write_bytes(header_edit(rename)(file.read_bytes()))
    with refused(CheckpointError, "unexpected: ", "missing: linear1.bias", "misshapen: conv1.bias (1, 1"):
        load_weights(file)
    with pytest.raises(CheckpointError) as caught:
        load_weights(file)
    assert len(str(caught.value)) < 600


def test_the_longest_names_are_whole(tmp_path: Path) -> None:
    block = {"type": "nin_block", "name": "x" * 64, "out_channels": 1, "kernel_size": 1, "mlp_channels": [1] * 1_000}
    net = Architecture.model_validate({"name": "long", "input": [1, 1, 1], "layers": [block, {"type": "flatten"}]})
    params = initial_parameters(net, seed=0)
    save_weights(tmp_path / "w", params, net, params)
    assert load_weights(tmp_path / "w").velocities.keys() == params.keys()
