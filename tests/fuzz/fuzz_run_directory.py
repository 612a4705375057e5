"""A run directory: run.json and events.jsonl."""

from __future__ import annotations

import json
from typing import Any

from fuzz_harness import FRAGMENTS, Parser, damaged, damaged_json, working_folder
from hypothesis import strategies as st

from nin_multi import load
from nin_multi.errors import RunError
from nin_multi.training.recipe import Recipe
from nin_multi.training.run_directory import EVENTS, RUN, RunDirectory

FACTS: dict[str, Any] = {
    "recipe": Recipe().as_dict(),
    "architecture": load("nin-mnist").model_dump(mode="json"),
    "dataset": {"name": "synthetic", "sha256": {"train": "ab", "test": "cd"}},
    "backend": "numpy",
    "device": "cpu",
    "precision": "fp64",
    "tuning": {"micro_batch": "8"},
    "resumed": [{"backend": "numpy", "device": "cpu", "precision": "fp64", "at": 3}],
}
STEP = {"event": "step", "step": 3, "progress": 0.5, "loss": 2.5, "train_acc": 0.25}
EPOCH = {"event": "epoch", "step": 6, "epoch": 1, "test_loss": 2.0, "test_acc": 0.5}
LINES = [STEP, EPOCH, {**STEP, "step": 9}]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES).encode()
TOKENS = [b"\n", b"\r", b"{}", b"[", b'{"step": ', b"\xe2\x80\xa8", b"\xff", b"\x00", *FRAGMENTS]
FOLDER = working_folder()
DIRECTORY = RunDirectory(FOLDER)


def parse_events(data: bytes) -> str:
    (FOLDER / EVENTS).write_bytes(data)
    found = DIRECTORY.events()
    DIRECTORY.forget_events_after(7, 1)
    assert len(DIRECTORY.events()) <= len(found)
    return "accepted"


def parse_facts(data: bytes) -> str:
    """All three readers, whichever of them refuses first."""
    (FOLDER / RUN).write_bytes(data)
    refused: list[RunError] = []
    readers = DIRECTORY.facts, DIRECTORY.architecture, DIRECTORY.recipe
    for read in readers:
        try:
            read()
        except RunError as error:
            refused.append(error)
    if refused:
        raise refused[-1]
    return "accepted"


def _lines(values: list[bytes]) -> bytes:
    return b"".join(value + b"\n" for value in values)


PARSERS = [
    Parser(
        "events",
        parse_events,
        (RunError,),
        [TEXT],
        damaged([TEXT], TOKENS) | st.lists(damaged_json(LINES), min_size=1, max_size=4).map(_lines),
        TOKENS,
    ),
    Parser(
        "run.json",
        parse_facts,
        (RunError,),
        [json.dumps(FACTS).encode()],
        damaged([json.dumps(FACTS).encode()], TOKENS) | damaged_json([FACTS]),
        TOKENS,
    ),
]
