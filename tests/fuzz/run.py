"""`make fuzz-input`: N damaged inputs for every parser, each parser in a process of its own with bounded memory.

--engine hypothesis draws structured damage and makes what fails smaller; --engine atheris (pip install atheris) goes
by the branches that an input reaches. A fault ends with exit status 1 and the input in a file.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
MODULES = {
    "spec": "fuzz_spec",
    "idx": "fuzz_idx",
    "checkpoint": "fuzz_weights",
    "foreign weights": "fuzz_weights",
    "events": "fuzz_run_directory",
    "run.json": "fuzz_run_directory",
    "pictures": "fuzz_pictures",
    "command line": "fuzz_command_line",
}
ADDRESS_SPACE = 2 * 10**9  # bytes more than the libraries take: an allocation beyond that fails at once
STUCK = 120.0  # seconds after which not even a hang was noticed, within a library


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    options.add_argument("--inputs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--parser", choices=MODULES, action="append")
    options.add_argument("--inside", choices=MODULES, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.inside:
        return fuzz(asked.inside, asked.engine, asked.inputs, asked.seed)
    failed = []
    for name in asked.parser or MODULES:
        command = [sys.executable, __file__, "--inside", name, "--engine", asked.engine]
        command += ["--inputs", str(asked.inputs), "--seed", str(asked.seed)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"FAULTS in {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def fuzz(name: str, engine: str, count: int, seed: int) -> int:
    """All inputs of one parser, in this process."""
    tracing: Any = contextlib.nullcontext()
    if engine == "atheris":
        import atheris

        tracing = atheris.instrument_imports(include=["nin_multi", "yaml"])
    with tracing:
        module = importlib.import_module(MODULES[name])
    parser = next(parser for parser in module.PARSERS if parser.name == name)
    bound_memory()
    with noting_failures(name):
        (by_branches if engine == "atheris" else by_structure)(parser, count, seed)
    return 0


def bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextlib.contextmanager
def noting_failures(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {str(error)[:2_000]}", flush=True)
        raise


def by_structure(parser: Any, count: int, chosen: int) -> None:
    from fuzz_harness import Tally
    from hypothesis import HealthCheck, Phase, given, seed, settings

    tally = Tally()

    @seed(chosen)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(parser.inputs)
    def examine(data: bytes) -> None:
        _examine(tally, parser, data)

    examine()
    assert tally.inputs >= count, f"only {tally.inputs:,} of {count:,} inputs were drawn"
    print(tally.line(parser), flush=True)


def _examine(tally: Any, parser: Any, data: bytes) -> None:
    faulthandler.dump_traceback_later(STUCK, exit=True)
    try:
        tally.examine(parser, data)
    except BaseException:
        found = Path(tempfile.gettempdir()) / f"nin_multi-fault-{parser.name.replace(' ', '-')}"
        found.write_bytes(data)
        print(f"{parser.name}: fault with the input in {found} ({len(data):,} bytes)", flush=True)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()


def by_branches(parser: Any, count: int, seed: int) -> None:
    """Does not come back: libFuzzer ends the process."""
    import atheris
    from fuzz_harness import Tally

    folder = Path(tempfile.mkdtemp(prefix="nin_multi-corpus-"))
    for number, content in enumerate(parser.seeds):
        (folder / f"seed{number}").write_bytes(content)
    words = folder.with_suffix(".dict")
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in parser.tokens if 0 < len(token) <= 64))
    tally = Tally()

    def examine(data: bytes) -> None:
        _examine(tally, parser, parser.frame(data))
        if tally.inputs == count:
            print(tally.line(parser), flush=True)

    arguments = [f"-runs={count + 1}", f"-seed={seed + 1}", f"-dict={words}", "-max_len=70000", "-timeout=0"]
    atheris.Setup([sys.argv[0], *arguments, "-rss_limit_mb=0", "-verbosity=0", str(folder)], examine)
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main())
