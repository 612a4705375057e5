"""Hands the runs of a sweep to Dask and hears how they end; not what a run is, nor what is shown of it.

Dask holds the queue, places tasks by the resources that workers have, and notices workers that are gone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nin_multi import machine
from nin_multi.backend import cores
from nin_multi.errors import BackendUnavailable, UsageError
from nin_multi.sweep import worker
from nin_multi.sweep.plan import Outcome, Resources, Task

if TYPE_CHECKING:
    from distributed import Client

ATTEMPTS = 2  # of a run that failed by no fault of what was asked
ANSWERS_IN = 10.0  # seconds that a cluster has to answer
LOOK = 0.2  # seconds between two looks at what still runs
ENDS_IN = 120.0  # seconds that interrupted runs have for their checkpoints


def require() -> None:
    """Raises BackendUnavailable where Dask is missing."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise BackendUnavailable(
            "sweep needs Dask, which is not installed.\nInstall it: pip install -c constraints.txt 'nin-multi[sweep]'"
        ) from None


@contextlib.contextmanager
def cluster(address: str | None, jobs: int) -> Iterator[Client]:
    """A client of the cluster at an address, or of one worker process here that runs `jobs` tasks at once.

    Raises UsageError where nobody answers.
    """
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"logging": {"distributed": "critical"}}))
        if address is None:
            resources = {"cores": cores(), "memory": machine.granted_memory_bytes() or 2**62}
            here = LocalCluster(
                n_workers=1,
                threads_per_worker=jobs,
                processes=True,
                memory_limit=0,  # the runs are other processes: what they hold is not the worker's
                resources=resources,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=50,
            )
            yield stack.enter_context(Client(stack.enter_context(here)))
            return
        try:
            client = Client(address, timeout=ANSWERS_IN)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(
                f"--address {address}: no Dask scheduler answers there ({reason}).\nStart one: dask scheduler"
            ) from None
        yield stack.enter_context(client)


def check_room(client: Client, asked: Resources) -> None:
    """Raises UsageError where no worker could ever take such a run: Dask would wait for one without a word."""
    offered = [each.get("resources", {}) for each in client.scheduler_info(n_workers=-1)["workers"].values()]
    wanted = resources_of(asked)
    if not offered:
        raise UsageError("the cluster has no workers.\nStart some: dask worker ADDRESS --resources 'cores=2'")
    if not any(all(there.get(name, 0) >= count for name, count in wanted.items()) for there in offered):
        words = ", ".join(f"{name} {count:g}" for name, count in wanted.items())
        largest = {name: max(there.get(name, 0) for there in offered) for name in wanted}
        raise UsageError(
            f"a run asks for {words}; the workers have at most "
            + ", ".join(f"{name} {count:g}" for name, count in largest.items())
            + ".\nAsk for less under resources:, or give workers more: dask worker --resources"
        )


def resources_of(asked: Resources) -> dict[str, float]:
    """As Dask counts them."""
    found: dict[str, float] = {"cores": asked.cores or 1}
    return found if asked.memory_bytes is None else {**found, "memory": asked.memory_bytes}


def conduct(client: Client, tasks: Sequence[Task], asked: Resources, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Run all of them; one that fails is tried once more, and takes no other with it.

    Where we are to leave, what runs is told to write its checkpoint first.
    """
    from distributed import as_completed

    by_name = {task.name: task for task in tasks}
    places = {task.name: place for place, task in enumerate(tasks)}
    tried = dict.fromkeys(by_name, 0)

    def submit(task: Task) -> Any:
        tried[task.name] += 1
        return client.submit(
            worker.run_task,
            task,
            key=f"{task.name}/{tried[task.name]}",
            pure=False,
            priority=-places[task.name],
            resources=resources_of(asked),
        )

    ended: list[Outcome] = []
    waiting = as_completed([submit(task) for task in tasks])
    try:
        for future in waiting:
            name = str(future.key).rpartition("/")[0]
            outcome = replace(_heard(future, name), attempts=tried[name])
            if outcome.status == "failed" and outcome.may_help and tried[name] < ATTEMPTS:
                waiting.add(submit(by_name[name]))
                continue
            ended.append(outcome)
            tell(outcome)
    except BaseException:
        _leave(client)
        raise
    return ended


def _heard(future: Any, name: str) -> Outcome:
    """What a task says, or that its worker is gone."""
    try:
        outcome: Outcome = future.result()
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Outcome(name, "failed", None, f"its worker failed: {reason}", 3, may_help=True)
    return outcome


def _leave(client: Client) -> None:
    """Let what runs write its checkpoint; a worker that answers no more is not waited for."""
    with contextlib.suppress(Exception):
        client.run(worker.leave)
        ends = time.monotonic() + ENDS_IN
        while time.monotonic() < ends and any(client.processing().values()):
            time.sleep(LOOK)
