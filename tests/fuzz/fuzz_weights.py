"""Weights files: checkpoints of ours, and the safetensors of others."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

from fuzz_harness import FRAGMENTS, NUMBERS, Parser, damaged, damaged_json, working_folder
from hypothesis import strategies as st

from nin_multi.errors import CheckpointError
from nin_multi.foreign_weights import adopt, read_safetensors
from nin_multi.randomness import initial_parameters
from nin_multi.spec import Architecture
from nin_multi.training.checkpoint import load_checkpoint
from nin_multi.training.recipe import Recipe
from nin_multi.weights import KEY, _digest_of_facts, is_ours, load_weights, save_weights

NET = Architecture.model_validate(
    {
        "name": "tiny",
        "input": [1, 4, 6],
        "layers": [
            {"type": "conv2d", "out_channels": 2, "kernel_size": [1, 3]},
            {"type": "nin_block", "out_channels": 2, "kernel_size": 1, "mlp_channels": [2]},
            {"type": "flatten"},
            {"type": "linear", "out_features": 3},
        ],
    }
)
RECIPE, DATA = Recipe(momentum=0.9), {"train": "ab", "test": "cd"}
TOTALS = {"loss": 1.5, "correct": 3, "count": 20, "seconds": 1.25, "compute_seconds": 1.0}
FACTS: dict[str, Any] = {
    "step": 7,
    "evaluated": 1,
    "recipe": RECIPE.as_dict(),
    "data_sha256": DATA,
    "epoch_totals": TOTALS,
    "run_totals": TOTALS,
    "test_loss": 0.5,
    "test_acc": 0.25,
}
FOLDER = working_folder()
FILE = FOLDER / "step-000007.safetensors"
PARAMS = initial_parameters(NET, seed=3)
save_weights(FILE, PARAMS, NET, PARAMS, **FACTS)
WHOLE = FILE.read_bytes()
LENGTH = struct.unpack("<Q", WHOLE[:8])[0]
HEADER = json.loads(WHOLE[8 : 8 + LENGTH])
DATA_PART = WHOLE[8 + LENGTH :]
OURS = json.loads(HEADER["__metadata__"][KEY])
FOREIGN = {f"net.{name}": entry for name, entry in HEADER.items() if not name.startswith(("velocity/", "__"))}
NUMBERED = {
    f"layer{i}.{word}": entry
    for i, (word, entry) in enumerate((name.rpartition(".")[2], entry) for name, entry in FOREIGN.items())
}
TOKENS = [
    *(
        b'{"',
        b'"shape":[',
        b'"F64"',
        b'"BF16"',
        b'"I64"',
        b'"data_offsets":[0,',
        b'"__metadata__"',
        b"velocity/",
        b"PK",
    ),
    *(b"\x80\x02", b"[0,18446744073709551615]", b"[" + b"1," * 40 + b"1]", *FRAGMENTS),
]


def packed(header: bytes, data: bytes = DATA_PART) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def with_entry(ours: bytes) -> bytes:
    """A whole file whose entry of ours is this text, with the checksum that it would have been written with."""
    try:
        header = json.loads(ours)
        header["facts_sha256"] = _digest_of_facts(header)
        ours = json.dumps(header).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return packed(json.dumps({**HEADER, "__metadata__": {KEY: ours.decode("utf-8", "replace")}}).encode())


def from_bytes(data: bytes) -> bytes:
    """For an engine that knows bytes alone: a whole file, or a header that gets its length."""
    return packed(data[1:]) if data[:1] == b"\1" else data[1:]


def parse_checkpoint(data: bytes) -> str:
    FILE.write_bytes(data)
    is_ours(FILE)
    load_weights(FILE)
    load_checkpoint(FILE, NET, RECIPE, DATA).put_into(SimpleNamespace(steps_per_epoch=7))  # type: ignore[arg-type]
    return "accepted"


def parse_foreign(data: bytes) -> str:
    FILE.write_bytes(data)
    adopt(read_safetensors(FILE), NET, str(FILE), in_order=False)
    return "accepted"


def framed(*whole: bytes) -> list[bytes]:
    return [b"\0" + file for file in whole] + [b"\1" + file[8 : 8 + struct.unpack("<Q", file[:8])[0]] for file in whole]


OTHERS = [packed(json.dumps(header).encode(), DATA_PART[: len(DATA_PART) // 2]) for header in (FOREIGN, NUMBERED)]
PARSERS = [
    Parser(
        "checkpoint",
        parse_checkpoint,
        (CheckpointError,),
        framed(WHOLE),
        damaged([WHOLE], TOKENS) | damaged_json([OURS]).map(with_entry) | damaged_json([HEADER]).map(packed),
        [*TOKENS, *NUMBERS],
        from_bytes,
    ),
    Parser(
        "foreign weights",
        parse_foreign,
        (CheckpointError,),
        framed(*OTHERS),
        damaged(OTHERS, TOKENS)
        | st.builds(
            packed, damaged_json([FOREIGN, NUMBERED]), st.sampled_from([DATA_PART, DATA_PART[: len(DATA_PART) // 2]])
        ),
        [*TOKENS, *NUMBERS],
        from_bytes,
    ),
]
