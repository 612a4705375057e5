"""What runs inside a Dask worker: one `train` process per task, on cores of its own; not which task comes when."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nin_multi.launcher import Child, ChildResult
from nin_multi.sweep.plan import Outcome, Task
from nin_multi.sweep.wanted import has_begun

_lock = threading.Lock()
_taken: set[int] = set()
_children: set[Child] = set()
_is_leaving = threading.Event()


def run_task(task: Task) -> Outcome:
    """Begin the run, or go on with it, and wait for its end."""
    with _cores(task.cores) as cores:
        if _is_leaving.is_set():
            return Outcome(task.name, "interrupted")
        _forget_what_dask_has_set()
        arguments = task.resume if has_begun(task.run) else task.begin
        child = Child(task.backend, ["train", *arguments], patience=task.patience, cores=cores)
        with _lock:
            _children.add(child)
        try:
            return _outcome(task.name, child.result())
        finally:
            with _lock:
                _children.discard(child)


def leave() -> None:
    """Tell all that runs here to write a checkpoint and end; what has not begun will not."""
    _is_leaving.set()
    with _lock:
        children = list(_children)
    for child in children:
        child.terminate()


def _outcome(name: str, ended: ChildResult) -> Outcome:
    answer = ended.answer or {}
    if not ended.died and answer.get("status") in ("done", "diverged", "interrupted"):
        return Outcome(name, answer["status"], answer, answer.get("reason") or "", ended.status)
    reason = ended.failure() or f"it ended with status {ended.exit_status}"
    return Outcome(name, "failed", None, reason, ended.status, may_help=ended.died or ended.exit_status not in (2, 3))


def _forget_what_dask_has_set() -> None:
    """One thread, and memory given back at once: that is for tasks that compute in the worker itself."""
    import dask

    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ", {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]


@contextmanager
def _cores(count: int) -> Iterator[frozenset[int]]:
    """So many of this worker's cores, taken by nobody else here; all of them where fewer are free."""
    everything = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    with _lock:
        free = sorted(everything - _taken)[:count]
        mine = frozenset(free if len(free) == count else everything)
        if len(free) == count:
            _taken.update(mine)
    try:
        yield mine
    finally:
        if len(free) == count:
            with _lock:
                _taken.difference_update(mine)
