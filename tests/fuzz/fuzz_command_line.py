"""Command lines, in this process, up to where a framework, another process or the network would come in."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from typing import Any, NoReturn
from unittest import mock

import typer.rich_utils  # noqa: F401  (typer loads it late, from the folder that it was imported in)
from fuzz_harness import Parser, check_words, working_folder
from fuzz_run_directory import FACTS, TEXT
from fuzz_weights import WHOLE
from hypothesis import strategies as st

from nin_multi import checks, cli, registry
from nin_multi.errors import BackendUnavailable, NinMultiError

FOLDER = working_folder()
RUN = FOLDER / "run"
(RUN / "checkpoints").mkdir(parents=True)
(RUN / "run.json").write_text(json.dumps(FACTS))
(RUN / "events.jsonl").write_bytes(TEXT)
(RUN / "checkpoints" / "step-000007.safetensors").write_bytes(WHOLE)
(FOLDER / "ours.safetensors").write_bytes(WHOLE)
(FOLDER / "empty").mkdir()
(FOLDER / "noise.bin").write_bytes(bytes(range(256)) * 40)
(FOLDER / "broken.yaml").write_text("name: a\ninput: [1, 8\n")
(FOLDER / "small.yaml").write_text("name: a\ninput: [1, 8, 8]\nlayers:\n  - {type: flatten}\n")
(FOLDER / "large.yaml").write_text(
    "name: large\ninput: [1, 1000, 1000]\nlayers:\n  - {type: flatten}\n  - {type: linear, out_features: 1000000}\n"
)
_COMMANDS = "backends doctor shapes summary verify train compare bench evaluate predict convert"
_OPTIONS = """--arch --input --backend --dataset --data-dir --set --tune --json --help -h --debug --batch-size --expand
    --epochs --lr --momentum --init --dropout --seed --device --precision --train-examples --test-examples --run-dir
    --runs-dir --resume --recipe --warm-up --decay --names --steps --history --no-history --picture --vs --weights
    --invert --no-invert --allow-large --version --"""
_VALUES = """nin nin-mnist alexnet vgg11 numpy torch numpy,torch , small.yaml broken.yaml large.yaml none.yaml run empty
    ours.safetensors noise.bin none.safetensors new.safetensors new.pt new.params run/run.json . .. / -1 0 1 128 1.5
    nan inf 1e999 2147483648 9999999999999999999999 1x28x28 1x0x8 axbxc 99999x99999x99999 1x99999x99999 micro_batch=8
    a=b = auto off now cpu cuda:0 cuda:99999999999999999999 fp32 bf16 he xavier shared native spec book synthetic
    fashion-mnist - -x --= [/] [bold] %s {} é \x1b[31m '' \\"""
COMMANDS, OPTIONS = _COMMANDS.split(), _OPTIONS.split()
VALUES = [*_VALUES.split(), "", "\n", "\u2028", "\udcff", "x" * 5_000]
WORDS = [*COMMANDS * 3, *OPTIONS * 2, *VALUES]
# Where a process, a framework, the network, or minutes of the oracle's own computing would come in.
OUTSIDE = (
    (subprocess, "Popen"),
    (os, "execve"),
    (registry, "load"),
    (socket.socket, "connect"),
    (checks, "clear_problem"),
    (checks, "stored_problem"),
    (checks, "find_truth"),
)


def _no_process(*_: Any, **__: Any) -> NoReturn:
    raise BackendUnavailable("not in here")


def parse(data: bytes) -> str:
    """The words of a command line, NUL between them, as a system hands them over."""
    words = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace" if i else "strict") for i in (0, 1))
    with contextlib.ExitStack() as stack:
        for target, name in OUTSIDE:
            stack.enter_context(mock.patch.object(target, name, _no_process))
        stack.enter_context(mock.patch.object(sys, "argv", ["nin_multi", *words]))
        stack.enter_context(mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(FOLDER), "XDG_DATA_HOME": str(FOLDER)}))
        stack.enter_context(contextlib.chdir(FOLDER) if sys.version_info >= (3, 11) else _inside())
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        status = _status()
    said, told = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    assert "Traceback" not in told, told
    assert status in (0, 1, 2, 3), f"exit status {status}"
    if status >= 2:
        check_words(told.rpartition("error: ")[2], most=50_000)  # a word of the line is quoted as it is
        if "--json" in words:
            assert set(json.loads(said)) == {"error"}, said
    return f"exit {status}"


def _status() -> int:
    try:
        cli.main()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1 if left.code else 0
    except Exception as error:
        if "--debug" in sys.argv and cli._expected(error):  # there the traceback is what was asked for
            raise NinMultiError("a traceback, as asked for") from None
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    raise AssertionError("main came back")


@contextlib.contextmanager
def _inside() -> Any:
    before = os.getcwd()
    os.chdir(FOLDER)
    try:
        yield
    finally:
        os.chdir(before)


def _joined(words: list[str]) -> bytes:
    return b"\0".join(word.encode("utf-8", "surrogatepass").replace(b"\0", b"") for word in words)


_WORD = st.sampled_from(WORDS) | st.text(max_size=6)
SEEDS = [
    _joined(line.split())
    for line in (
        "summary --arch nin --batch-size 4 --expand --json",
        "train --backend numpy --arch small.yaml --epochs 1 --lr 0.1 --run-dir new",
        "evaluate run --backend numpy --json",
        "predict ours.safetensors noise.bin",
        "convert ours.safetensors new.safetensors",
    )
]
PARSERS = [
    Parser(
        "command line",
        parse,
        (NinMultiError,),
        SEEDS,
        st.builds(
            lambda command, words: _joined([command, *words]),
            st.sampled_from([*COMMANDS, *["summary"] * 6]) | _WORD,
            st.lists(_WORD, max_size=8),
        ),
        [word.encode("utf-8", "surrogatepass") for word in WORDS if 0 < len(word) < 64],
    )
]
