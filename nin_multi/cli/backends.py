"""`backends`: which frameworks are here, and why one cannot start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nin_multi.cli.common import BackendsOption, JsonOption, console, named_backends, print_json, table

if TYPE_CHECKING:
    from nin_multi.launcher import ChildResult


def backends(backend: BackendsOption = None, json: JsonOption = False) -> int:
    """Name, version and devices of every backend, and why one cannot start."""
    from nin_multi import launcher, registry

    names = named_backends(backend) if backend is not None else list(registry.available())
    if backend is not None and len(names) == 1:
        rows = [_examine(names[0])]
    else:
        rows = [_row(result) for result in launcher.ask_each(names, ["backends"])]
    if json:
        print_json({"backends": rows})
    else:
        _print_table(rows)
    broken = any(row["status"] != "ok" for row in rows)
    return 3 if broken and backend is not None else 0


def _examine(name: str) -> dict[str, Any]:
    """One backend, in this process."""
    from nin_multi.cli.common import one_backend
    from nin_multi.errors import BackendUnavailable

    try:
        backend = one_backend(name)
        version, devices = backend.version(), list(backend.devices())
    except BackendUnavailable as error:
        return _unavailable(name, str(error))
    return {"name": name, "version": version, "devices": devices, "status": "ok", "reason": ""}


def _row(result: ChildResult) -> dict[str, Any]:
    """What a child said of its backend; a child that crashed says it by that."""
    rows = (result.answer or {}).get("backends")
    return rows[0] if rows else _unavailable(result.backend, result.failure())


def _unavailable(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "version": None, "devices": [], "status": "unavailable", "reason": reason}


def _print_table(rows: list[dict[str, Any]]) -> None:
    grid = table("", "backend", "version", "devices", "status")
    for row in rows:
        grid.add_row(
            row["name"],
            row["version"] or "-",
            ", ".join(row["devices"]) or "-",
            row["reason"] or row["status"],
        )
    console().print(grid)
