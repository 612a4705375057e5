"""Writing files so that a reader finds the old content or the new, never half, and reading them; not what they mean."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from nin_multi.errors import CheckpointError, RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to disk, rename, flush the folder. Raises RunError; then `path` is as it was.

    A process that is killed in between leaves its temporary file, ".NAME.xxxxxxxx"; `remove_leftovers` takes it away.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def flush_folder(folder: Path) -> None:
    """See to it that names given in a folder are still there after a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock on a file. It is asked for a moment, shared, and the file never made."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (ImportError, OSError):  # no such lock here
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def remove_leftovers(folder: Path, names: str) -> None:
    """Take away the temporary files of processes that were killed while they wrote a file called so (a pattern)."""
    for path in folder.glob(f".{names}.????????"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, indented, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_whole(path: Path) -> bytes:
    """The content of a weights file. Raises CheckpointError where there is no regular file or it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # a device would never end
            raise CheckpointError(f"{path}: expected a weights file, got a folder or a device")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weights file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def refuse_pickle(path: Path) -> None:
    """Raises CheckpointError where a file is a pickle, bare or in a zip archive: opening one can run any code."""
    if not path.is_file():  # a pipe would be waited for
        return
    try:
        with path.open("rb") as file:
            what = _kind_of_pickle(file)
    except Exception:  # a damaged archive raises anything: whoever reads the file says what is wrong with it
        return
    if what:
        raise CheckpointError(
            f"{path}: {what}; it is not opened here, for opening a pickle can run any code.\n"
            "If it is a state_dict, end its name in .pt or .pth and give it to `nin_multi convert`."
        )


def _kind_of_pickle(file: BinaryIO) -> str:
    """What to call it; empty where it is none."""
    first = file.read(9)
    # A safetensors file begins with the length of its header, which may be 640, b"\x80\x02" too; then comes "{".
    if first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and first[6:] != b"\0\0{":
        return "a pickle"
    if first[:2] == b"PK":
        with zipfile.ZipFile(file) as archive:
            return "a zip archive with a pickle in it" if any(map(_is_pickle, archive.namelist())) else ""
    return ""


def _is_pickle(name: str) -> bool:
    return name.endswith((".pkl", ".pickle"))
