"""What the live page costs a training that goes on beside it, with many browsers listening.

In pairs, a short training alone and one beside a `LivePage` that is fed from its events.jsonl and, four times a second,
with its step; so many streams listen. Of each pair the ratio of the two speeds, then the median of the ratios.

    python tools/bench_live.py --pairs 5 --streams 200

The browsers belong to other machines, so their processor time must not count: training and server share processor 0,
with one thread to train, and the streams are read on another (--cpus TRAIN,READ). With --free nothing is bound,
training has all its threads, and what the readers take counts against the page: an upper bound.

    alone, with page   the training's own examples/sec
    ratio              of the two: what a user sees, and everything else that the machine does meanwhile
    work               ratio of the processor time that the two trainings took, start to end: on a busy machine it says
                       whether the page makes the steps themselves slower; what the server takes comes on top
    server, process    processor time of the server's thread, and of its whole process, per second of the training
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

FEED_SECONDS = 0.25  # between two looks at the run
CONNECT_SECONDS = 60.0
RUN = "run"


def main() -> int:
    """The exit status is 1 where the median is below --least, or streams were told different things."""
    options = _options()
    if options.child:
        return CHILDREN[options.child](options)
    pairs = []
    for number in range(options.pairs):
        pairs.append(_pair(options, number))
        print(_line(pairs[-1], number), flush=True)
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    print(f"median of {len(pairs)} ratios: {ratio:.4f}, {1 - ratio:+.2%} of the time (least: {options.least})")
    if options.json is not None:
        options.json.write_text(
            json.dumps({"ratio": ratio, "options": _shown(options), "pairs": pairs}, indent=1) + "\n"
        )
    return int(ratio < options.least or not all(pair["alike"] for pair in pairs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--streams", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--backend", default="torch", help="(%(default)s)")
    parser.add_argument("--arch", default="nin-mnist", help="(%(default)s)")
    parser.add_argument("--train-examples", type=int, default=3200, help="(%(default)s)")
    parser.add_argument("--cpus", default="0,1", metavar="TRAIN,READ", help="processors to bind to (%(default)s)")
    parser.add_argument("--free", action="store_true", help="bind nothing")
    parser.add_argument("--least", type=float, default=0.98, help="ratio that is good enough (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    parser.add_argument("--child", choices=("serve", "listen"), help=argparse.SUPPRESS)
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("train", nargs="*", help="after --, more arguments of `train`")
    return parser.parse_args()


def _shown(options: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(options).items() if isinstance(value, str | int | float | list)}


def _pair(options: argparse.Namespace, number: int) -> dict[str, Any]:
    """One training alone and one beside the page; which comes first changes, as a machine becomes warmer."""
    found: dict[str, Any] = {}
    for beside in (number % 2 == 1, number % 2 == 0):
        with tempfile.TemporaryDirectory(prefix="bench-live-") as folder:
            run_dir = Path(folder) / RUN
            if beside:
                found |= _beside(options, run_dir)
            else:
                found["alone"], found["work_alone"] = _train(options, run_dir)
    return {**found, "ratio": found["speed"] / found["alone"], "work_ratio": found["work_alone"] / found["work"]}


def _line(pair: dict[str, Any], number: int) -> str:
    words = ("pair", "alone", "with page", "ratio", "work", "server", "process", "points", "alike")
    speeds = (f"{pair[key]:.1f}/s" for key in ("alone", "speed"))
    ratios = (f"{pair[key]:.4f}" for key in ("ratio", "work_ratio"))
    shares = (f"{pair[key]:.2%}" for key in ("server", "process"))
    cells = (str(number), *speeds, *ratios, *shares, str(pair["points"]), "yes" if pair["alike"] else "NO")
    return "\n".join("".join(f"{cell:>10}" for cell in row) for row in ((words, cells) if number == 0 else (cells,)))


def _beside(options: argparse.Namespace, run_dir: Path) -> dict[str, Any]:
    """A training beside a page with its streams; what each of the three has to say."""
    where = ["--run-dir", str(run_dir)]
    with _child(options, "serve", where, options.cpus.split(",")[0]) as (server, told):
        address = json.loads(told.readline())["address"]
        listen = ["--address", address, "--streams", str(options.streams)]
        with _child(options, "listen", listen, options.cpus.split(",")[1]) as (listeners, heard):
            connected = json.loads(heard.readline())["connected"]
            server.write("begin\n")
            server.flush()
            speed, work = _train(options, run_dir)
            server.write("end\n")
            server.flush()
            cost = json.loads(told.readline())
            listeners.close()
            streams = json.loads(heard.readline())
    return {"speed": speed, "work": work, "connected": connected, **cost, **streams}


def _train(options: argparse.Namespace, run_dir: Path) -> tuple[float, float]:
    """Images a second of one training, by its own clock, and the seconds of processor time that it took in all."""
    command = [*_bound(options, options.cpus.split(",")[0]), sys.executable, "-m", "nin_multi", "train"]
    command += ["--backend", options.backend, "--arch", options.arch, "--epochs", "1", "--tune", "off"]
    command += ["--train-examples", str(options.train_examples), "--test-examples", "256", "--run-dir", str(run_dir)]
    threads = {} if options.free else {"OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **threads}
    before = _seconds(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [*command, *options.train, "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    answer = json.loads(ended.stdout or "{}")
    if "examples_per_sec" not in answer:
        raise SystemExit(f"the training has failed: {answer.get('error', {}).get('message', ended.returncode)}")
    return float(answer["examples_per_sec"]), _seconds(resource.RUSAGE_CHILDREN) - before


def _bound(options: argparse.Namespace, processor: str) -> list[str]:
    return [] if options.free else ["taskset", "-c", processor]


@contextmanager
def _child(
    options: argparse.Namespace, part: str, arguments: list[str], processor: str
) -> Iterator[tuple[IO[str], IO[str]]]:
    """This program once more, as one of `CHILDREN`; what it reads and what it writes."""
    command = [*_bound(options, processor), sys.executable, __file__, "--child", part, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        except BaseException:
            process.kill()
            raise


# The server, as `compare --live` has it: one thread follows the run, the other serves.


def _serve(options: argparse.Namespace) -> int:
    from nin_multi.live import LivePage

    run = {"id": RUN, "label": options.backend, "status": "starting", "step": 0, "events": []}
    comparison = {"format": 1, "title": "bench", "over": False, "runs": [run]}
    page = LivePage(lambda comparison, *, events: "", comparison, port=0)
    page.start()
    _say(address=page.address)
    sys.stdin.readline()
    thread = page._thread
    assert thread is not None
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    before = time.clock_gettime(clock), _seconds(resource.RUSAGE_SELF), time.monotonic()
    points = _follow(options.run_dir, page)
    after = time.clock_gettime(clock), _seconds(resource.RUSAGE_SELF), time.monotonic()
    server, process, seconds = (late - early for early, late in zip(before, after, strict=True))
    _say(server=server / seconds, process=process / seconds, seconds=seconds, points=points)
    page.finish(comparison)
    page.close(5)
    return 0


def _follow(run_dir: Path, page: Any) -> int:
    """Tell the page of each event that the run writes, until stdin says that it has ended; how many there were."""
    events, rest, points, looks = None, "", 0, 0
    while not select.select([sys.stdin], [], [], FEED_SECONDS)[0]:
        looks += 1
        page.change(RUN, {"status": "training", "step": looks, "seconds_left": 1.0 / looks})
        path = run_dir / "events.jsonl"
        if events is None and path.exists():
            events = path.open(encoding="utf-8")
        *lines, rest = (rest + (events.read() if events is not None else "")).split("\n")
        for line in lines:
            page.point(RUN, json.loads(line))
            points += 1
    sys.stdin.readline()
    if events is not None:
        events.close()
    return points


def _seconds(of: int) -> float:
    """Processor time of this process, or of its children that have ended."""
    used = resource.getrusage(of)
    return used.ru_utime + used.ru_stime


# The browsers: they read, and say whether they were all told the same.


def _listen(options: argparse.Namespace) -> int:
    asyncio.run(_listen_to(options.address, options.streams))
    return 0


async def _listen_to(address: str, count: int) -> None:
    connections = []
    for _ in range(count):
        connections.append(await asyncio.wait_for(_connect(address), CONNECT_SECONDS))
    _say(connected=len(connections))
    heard = await asyncio.gather(*(_hear(reader) for reader, _ in connections))
    for _, writer in connections:
        writer.close()
    _say(alike=len(set(heard)) == 1, messages=heard[0][0], bytes=heard[0][1])


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has been sent its snapshot."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET /events HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    await reader.readuntil(b"event: snapshot")
    await reader.readuntil(b"\n\n")
    return reader, writer


async def _hear(reader: asyncio.StreamReader) -> tuple[int, int, str]:
    """All messages to the end: how many, how many bytes, and their hash."""
    messages, size, seen = 0, 0, hashlib.sha256()
    async for line in reader:
        if line.startswith((b"id:", b"event:", b"data:")):
            messages += line.startswith(b"event:")
            size += len(line)
            seen.update(line)
        if line == b"event: over\n":
            break
    return messages, size, seen.hexdigest()


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


CHILDREN = {"serve": _serve, "listen": _listen}


if __name__ == "__main__":
    sys.exit(main())
