"""`export --format onnx`: which weights, the check against the oracle, and the file; not what is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nin_multi.cli.common import load_architecture, note, print_json

if TYPE_CHECKING:
    from nin_multi.backend import Params
    from nin_multi.cli.stored import Stored
    from nin_multi.spec import Architecture

IMAGES = 2  # random ones, for the check


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line; None where nothing was."""

    arch: str | None
    size: str | None
    weights: Path | None
    seed: int | None
    check: bool | None
    allow_large: bool


def export_onnx(wishes: Wishes, out: Path, json: bool) -> int:
    """Write the file, unless its logits are not the oracle's: then 1."""
    from nin_multi.export.onnx_file import ALLOWED, logits_error, onnx_model, runtime_version
    from nin_multi.files import write_bytes

    version = runtime_version() if _is_checked(wishes.check) else None
    architecture, params, said = _weights(wishes)
    content = onnx_model(architecture, params, said)
    error = logits_error(content, architecture, params, IMAGES) if version else None
    agree = None if error is None else error <= ALLOWED
    if agree is not False:
        write_bytes(out, content)
    found = {
        "arch": architecture.name,
        **_facts(wishes, len(content)),
        "runtime_version": version,
        "logits_rel_err": error if error is None or math.isfinite(error) else None,
        "agree": agree,
        "out": str(out) if agree is not False else None,
    }
    if json:
        print_json(found)
    else:
        _print(found, said, error, ALLOWED, out)
    return 1 if agree is False else 0


def _facts(wishes: Wishes, size: int) -> dict[str, Any]:
    """What is known of a file before it is checked."""
    from nin_multi.export.onnx_file import IR_VERSION, OPSET

    stored = wishes.weights
    return {
        "format": "onnx",
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "bytes": size,
        "weights": None if stored is None else str(stored),
        "seed": (wishes.seed or 0) if stored is None else None,
    }


def _is_checked(check: bool | None) -> bool:
    from nin_multi.export.onnx_file import can_run

    if check is None and not can_run():
        note("not checked: onnxruntime is not installed; it comes with 'nin-multi[onnx]'")
        return False
    return check is not False


def _weights(wishes: Wishes) -> tuple[Architecture, Params, str]:
    """Architecture, parameters, and what they are in words that hold no path."""
    from nin_multi.cli.stored import read_stored
    from nin_multi.errors import UsageError
    from nin_multi.export.onnx_file import check_length
    from nin_multi.randomness import initial_parameters

    seed = wishes.seed or 0
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed: expected 0 to 2^63 - 1, got {seed}")
    if wishes.weights is None:
        architecture = load_architecture(wishes.arch or "nin", wishes.size, allow_large=wishes.allow_large)
        check_length(architecture)  # before so many are drawn
        return architecture, initial_parameters(architecture, seed), f"the initial weights of seed {seed}"
    if wishes.seed is not None:
        raise UsageError("--seed: it draws initial weights, and --weights names others; leave one of the two out")
    stored = read_stored(wishes.weights, wishes.allow_large)
    return _architecture(wishes, stored.architecture), stored.params, _describe(stored)


def _describe(stored: Stored) -> str:
    trained = f", trained with {stored.backend}" if stored.backend else ""
    return f"stored weights{trained}{f' on {stored.dataset}' if stored.dataset else ''}"


def _architecture(wishes: Wishes, stored: Architecture) -> Architecture:
    """The weights' own, or another that they may fit: a net that ends in global average pooling takes many sizes."""
    from nin_multi.cli.common import parse_size
    from nin_multi.limits import check_size

    if wishes.arch is not None:
        return load_architecture(wishes.arch, wishes.size, allow_large=wishes.allow_large)
    if wishes.size is None:
        return stored
    architecture = stored.with_input(parse_size(wishes.size))
    check_size(architecture, allow_large=wishes.allow_large)
    return architecture


def _print(found: dict[str, Any], said: str, error: float | None, allowed: float, out: Path) -> None:
    if error is not None:
        how = f"onnxruntime {found['runtime_version']}: logits off by {error:.1e} from the float64 oracle's"
        print(f"{how}, at most {allowed:.0e} ({IMAGES} random images)")
    if found["agree"] is False:
        print(f"{out}: not written")
        return
    size = f"{found['bytes']:,} bytes, opset {found['opset']}, IR {found['ir_version']}"
    print(f"{out}: {found['arch']} with {said}; {size}")
