"""One Network in Network in PyTorch, MindSpore and MXNet Gluon: is it really the same network?

    import nin_multi
    nin = nin_multi.load("nin")             # an Architecture: shapes, parameters, multiply-adds
    torch = nin_multi.load_backend("torch")

Importing this imports no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nin_multi.architecture_file import load_architecture as load
    from nin_multi.registry import available
    from nin_multi.registry import load as load_backend
    from nin_multi.spec import Architecture

__all__ = ["Architecture", "available", "load", "load_backend"]

_HOMES = {
    "Architecture": ("nin_multi.spec", "Architecture"),
    "available": ("nin_multi.registry", "available"),
    "load": ("nin_multi.architecture_file", "load_architecture"),
    "load_backend": ("nin_multi.registry", "load"),
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `--help` and adapters need little of this."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'nin_multi' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
