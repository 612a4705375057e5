"""What data-parallel training should cost on machines that are not here: arithmetic on assumptions, no measurement.

Every figure that is assumed has a name, a default and a source; docs/scaling.md shows what comes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nin_multi.architecture_file import load_architecture

COUNTS = (1, 2, 8, 64, 512)
FLOAT32, FLOAT64 = 4, 8
BACKWARD = 2 / 3  # of a step's time: two products for each one of the forward pass
TRAIN_IMAGES = 60_000  # of Fashion-MNIST


@dataclass(frozen=True)
class Link:
    """A connection: bytes per second each way, seconds of a hop."""

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Cluster:
    """Nodes of `per_node` workers each, connected by `inside` in a node and by `between` from node to node."""

    inside: Link
    between: Link
    per_node: int

    def slowest(self, workers: int) -> float:
        return self.inside.bandwidth if workers <= self.per_node else self.between.bandwidth

    def nodes(self, workers: int) -> int:
        return math.ceil(workers / self.per_node)


def flat(link: Link) -> Cluster:
    """One worker per node."""
    return Cluster(link, link, 1)


# NVLink 4: 900 GB/s both ways together. InfiniBand NDR: 400 Gbit/s each way, one adapter per GPU. The latencies are
# those that NCCL plans with for a ring (LL128) in src/graph/tuning.cc, and for its tree.
NVLINK, INFINIBAND = Link(450e9, 1.9e-6), Link(50e9, 4.0e-6)
GPUS = Cluster(NVLINK, INFINIBAND, 8)
TREES = Cluster(replace(NVLINK, latency=1.2e-6), replace(INFINIBAND, latency=8.5e-6), 8)
TCP = 50e-6  # seconds of a hop
ETHERNETS = {"1 Gbit/s": Link(1e9 / 8, TCP), "10 Gbit/s": Link(10e9 / 8, TCP)}


def gradient_bytes(arch: str) -> int:
    """What each worker has to add to what the others have, in every step."""
    return load_architecture(arch).parameters * FLOAT32


def ring(workers: int, size: float, cluster: Cluster) -> float:
    """All-reduce in 2 (N - 1) hops, each of a piece of size / N; of the hops, 2 (nodes - 1) lead between nodes."""
    hops, between = 2 * (workers - 1), 2 * (cluster.nodes(workers) - 1)
    waits = (hops - between) * cluster.inside.latency + between * cluster.between.latency
    return hops / workers * size / cluster.slowest(workers) + waits


def gathering(workers: int, size: float, cluster: Cluster) -> float:
    """All-gather of so many bytes from each, around the ring: N - 1 hops, each of all of them."""
    between = cluster.nodes(workers) - 1
    waits = (workers - 1 - between) * cluster.inside.latency + between * cluster.between.latency
    return (workers - 1) * size / cluster.slowest(workers) + waits


def tree(workers: int, size: float, cluster: Cluster) -> float:
    """All-reduce up a tree of nodes and down again, along a chain in each node, as NCCL plans it."""
    if workers == 1:
        return 0.0
    nodes = cluster.nodes(workers)
    chain = math.ceil(workers / nodes) - 1
    waits = chain * cluster.inside.latency + math.log2(nodes) * cluster.between.latency
    return 2 * size / cluster.slowest(workers) + 2 * waits


def server_bytes(workers: int, size: float) -> float:
    """What goes into MXNet's one server in a step, and comes out of it again: a row of each worker's own from three on.

    Two send their gradients themselves, for a + b is b + a.
    """
    if workers == 1:
        return 0.0
    return workers * size * (1 if workers == 2 else workers)


def server(workers: int, size: float, cluster: Cluster) -> float:
    """All of it in, then all of it out."""
    if workers == 1:
        return 0.0
    return 2 * (server_bytes(workers, size) / cluster.between.bandwidth + cluster.between.latency)


def sum_bytes(batch: int, classes: int) -> int:
    """Loss and logits of the whole batch (nin_multi.workers.group.whole): a row more than there are images."""
    return (batch + 1) * classes * FLOAT64


def decision_bytes(workers: int) -> int:
    """A signal and whether to write a checkpoint, a row from each worker (nin_multi.training.together.decide)."""
    return workers * 2 * FLOAT64


def beside(backend: str, workers: int, batch: int, classes: int, cluster: Cluster) -> float:
    """What travels in a step beside the gradients, by the adapters' code (backends/*/group.py)."""
    if workers == 1:
        return 0.0
    sizes = (sum_bytes(batch, classes), decision_bytes(workers))
    if backend == "torch":
        return sum(ring(workers, size, cluster) for size in sizes)
    if backend == "mindspore":  # every worker's float64 travels, and a roll call comes before all three collectives
        return sum(gathering(workers, size, cluster) for size in sizes) + 3 * 2 * cluster.between.latency
    # MXNet: as 16 bits in a float32 each, which doubles them, and always in a row of each worker's own.
    return sum(2 * (workers**2 * 2 * size / cluster.between.bandwidth + cluster.between.latency) for size in sizes)


@dataclass(frozen=True)
class Work:
    """How long one worker computes. `floor`: seconds below which no step comes, however few images it has."""

    images_per_sec: float
    floor: float = 0.0

    def seconds(self, batch: int, workers: int) -> float:
        """Of the worker with the most images."""
        return max(math.ceil(batch / workers) / self.images_per_sec, self.floor)


@dataclass(frozen=True)
class Step:
    """One step of all the workers, in seconds."""

    compute: float
    exchange: float

    @property
    def alone(self) -> float:
        """One after the other."""
        return self.compute + self.exchange

    @property
    def overlapped(self) -> float:
        """The exchange goes on behind the whole backward pass: a bound, for the last gradients have nothing behind."""
        return self.compute + max(self.exchange - BACKWARD * self.compute, 0.0)


def efficiency(work: Work, batch: int, workers: int, seconds: float) -> float:
    """Images per second over what so many times one worker's speed would be, that speed at its floorless best."""
    return batch / seconds / (workers * work.images_per_sec)


def global_batch(mode: str, batch: int, workers: int) -> int:
    """Strong scaling divides a batch among the workers; weak gives each of them so many images."""
    return batch if mode == "strong" else batch * workers


def as_built(step: float, extra: float, batch: int, prepared_per_sec: float) -> float:
    """A step as this project makes it: every worker prepares the whole batch, a thread ahead of the step."""
    return max(step + extra, batch / prepared_per_sec)


@dataclass(frozen=True)
class Assumptions:
    """Where each comes from is in docs/scaling.md."""

    arch: str = "nin"
    batch: int = 128
    gpu: Work = Work(60_000.0, 0.5e-3)
    cpus: tuple[tuple[str, float], ...] = (("torch", 25.1), ("mindspore", 14.3), ("mxnet", 30.1))
    prepared_per_sec: float = 11_525.0

    @property
    def classes(self) -> int:
        return load_architecture(self.arch).classes

    @property
    def volume(self) -> int:
        return gradient_bytes(self.arch)


def tables(assumed: Assumptions) -> Iterator[str]:
    """Markdown, a table after another."""
    yield (
        f"Gradients of `{assumed.arch}`: {assumed.volume // FLOAT32:,} x {FLOAT32} = {assumed.volume:,} bytes per step "
        f"and worker. A GPU: {assumed.gpu.images_per_sec:,.0f} images/s, no step under {_ms(assumed.gpu.floor)} ms."
    )
    for mode in ("strong", "weak"):
        yield _gpus(assumed, mode)
    yield _changes(assumed)
    for backend, speed in assumed.cpus:
        yield _machines(assumed, backend, speed)
    yield _server(assumed)


def _gpus(assumed: Assumptions, mode: str) -> str:
    work, rows = assumed.gpu, []
    gloo = flat(Link(INFINIBAND.bandwidth, TCP))  # carries what is no gradient, also between GPUs
    for workers in COUNTS:
        batch = global_batch(mode, assumed.batch, workers)
        step = Step(work.seconds(batch, workers), ring(workers, assumed.volume, GPUS))
        here = step.alone
        if workers > 1:
            extra = beside("torch", workers, batch, assumed.classes, gloo)
            here = as_built(step.alone, extra, batch, assumed.prepared_per_sec)
        shares = (efficiency(work, batch, workers, seconds) for seconds in (step.alone, step.overlapped, here))
        each = f"{batch / workers:g}" if mode == "strong" else f"{batch:,}"
        more = [] if mode == "strong" else [f"{math.ceil(TRAIN_IMAGES / batch):,}"]
        rows.append([f"{workers}", each, *more, _ms(step.compute), _ms(step.exchange), *map(_percent, shares)])
    more = [] if mode == "strong" else ["steps an epoch"]
    each = "images each" if mode == "strong" else "global batch"
    name = f"global batch {assumed.batch}" if mode == "strong" else f"{assumed.batch} images each"
    ends = ("efficiency, no overlap", "full overlap", "as built")
    return _markdown(f"GPUs, {name}:", ["GPUs", each, *more, "compute, ms", "ring, ms", *ends], rows)


def _changes(assumed: Assumptions) -> str:
    """What the greatest number of GPUs would gain, at so many images each."""
    workers, work, volume = COUNTS[-1], assumed.gpu, assumed.volume
    ways: Sequence[tuple[str, Callable[[int, float, Cluster], float], float, Cluster, int]] = (
        ("as above", ring, volume, GPUS, 1),
        ("gradients in bfloat16", ring, volume / 2, GPUS, 1),
        ("a tree in place of the ring", tree, volume, TREES, 1),
        ("both", tree, volume / 2, TREES, 1),
        ("ring, 8 times the images each", ring, volume, GPUS, 8),
    )
    rows = []
    for name, way, size, cluster, times in ways:
        batch = assumed.batch * times * workers
        step = Step(work.seconds(batch, workers), way(workers, size, cluster))
        shares = (efficiency(work, batch, workers, seconds) for seconds in (step.alone, step.overlapped))
        rows.append([name, f"{batch:,}", _ms(step.compute), _ms(step.exchange), *map(_percent, shares)])
    head = ["change", "global batch", "compute, ms", "exchange, ms", "efficiency, no overlap", "full overlap"]
    return _markdown(f"{workers} GPUs:", head, rows)


def _machines(assumed: Assumptions, backend: str, speed: float) -> str:
    work, rows = Work(speed), []
    for workers in COUNTS:
        row = [f"{workers}"]
        for mode in ("strong", "weak"):
            batch = global_batch(mode, assumed.batch, workers)
            compute = work.seconds(batch, workers)
            row.append(_s(compute))
            for link in ETHERNETS.values():
                exchange = exchanged(backend, workers, batch, assumed, link)
                row += [_s(exchange)] if mode == "strong" else []
                here = as_built(compute + exchange, 0.0, batch, assumed.prepared_per_sec)
                row.append(_percent(efficiency(work, batch, workers, here)))
        rows.append(row)
    strong = [word for name in ETHERNETS for word in (f"exchange, s, {name}", "efficiency")]
    weak = [f"efficiency, {name}" for name in ETHERNETS]
    fixed, each = f"global batch {assumed.batch}: compute, s", f"{assumed.batch} each: compute, s"
    title = f"{backend} on machines of {speed:g} images/s:"
    return _markdown(title, ["machines", fixed, *strong, each, *weak], rows)


def exchanged(backend: str, workers: int, batch: int, assumed: Assumptions, link: Link) -> float:
    """All that a step sends, one worker per machine, nothing of it behind the backward pass."""
    way = server if backend == "mxnet" else ring
    return way(workers, assumed.volume, flat(link)) + beside(backend, workers, batch, assumed.classes, flat(link))


def _server(assumed: Assumptions) -> str:
    rows = []
    for workers in COUNTS[1:]:
        star, round_ = server_bytes(workers, assumed.volume), 2 * (workers - 1) / workers * assumed.volume
        own = star / workers
        rows.append([f"{workers}", *(f"{size / 1e6:,.1f}" for size in (round_, own, star))])
    head = ["workers", "ring: out of each, MB", "MXNet: out of each, MB", "into its server, and out of it, MB"]
    return _markdown("Gradients on the wire, per step:", head, rows)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3f}" if seconds < 1e-3 else f"{1e3 * seconds:,.2f}"


def _s(seconds: float) -> str:
    return f"{seconds:,.3f}" if seconds < 1 else f"{seconds:,.1f}"


def _percent(share: float) -> str:
    if share < 1e-4:
        return "< 0.01 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [title, "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
