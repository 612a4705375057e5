"""One Network in Network in PyTorch, MindSpore and MXNet Gluon: is it really the same network?

    import nin_multi
    nin = nin_multi.load("nin")             # an Architecture: shapes, parameters, multiply-adds
    torch = nin_multi.load_backend("torch")
    run = nin_multi.train("torch", "nin-mnist", epochs=2)       # in a process of its own
    nin_multi.compare(["torch", "mxnet"], "nin-mnist", epochs=2).save("report.html")

Importing this imports no framework.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nin_multi.architecture_file import load_architecture as load
    from nin_multi.notebook.comparing import compare
    from nin_multi.notebook.runs import open_run
    from nin_multi.notebook.training import train
    from nin_multi.registry import available
    from nin_multi.registry import load as load_backend
    from nin_multi.spec import Architecture

__all__ = ["Architecture", "available", "compare", "load", "load_backend", "open_run", "train"]

_HOMES = {
    "Architecture": ("nin_multi.spec", "Architecture"),
    "available": ("nin_multi.registry", "available"),
    "compare": ("nin_multi.notebook.comparing", "compare"),
    "load": ("nin_multi.architecture_file", "load_architecture"),
    "load_backend": ("nin_multi.registry", "load"),
    "open_run": ("nin_multi.notebook.runs", "open_run"),
    "train": ("nin_multi.notebook.training", "train"),
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `--help` and adapters need little of this."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'nin_multi' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


class _Package(ModuleType):
    """`nin_multi.compare` is a function; the package of that name would stand in its place once it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
