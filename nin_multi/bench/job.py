"""What one worker process is to measure, as it goes to it in JSON; not how."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nin_multi.data.dataset import Dataset, Split
from nin_multi.data.fashion_mnist import FILES
from nin_multi.data.idx import idx_header, read_idx
from nin_multi.spec import Architecture


@dataclass(frozen=True)
class Job:
    """One backend in one precision: everything in `whats`, on the images in a folder.

    `counts` are the training and test images there. A device of None is the backend's best; with a `tune` of "auto",
    knobs that `tuning` leaves open are as stored for this machine.
    """

    backend: str
    precision: str
    whats: tuple[str, ...]
    architecture: Architecture
    batch_size: int
    files: Path
    counts: tuple[int, int]
    device: str | None = None
    tuning: Mapping[str, str] = field(default_factory=dict)
    tune: str = "off"

    def to_json(self) -> str:
        """On one line."""
        fields = {name: getattr(self, name) for name in (f.name for f in dataclasses.fields(self))}
        fields |= {"architecture": self.architecture.model_dump(mode="json"), "files": str(self.files)}
        return json.dumps({**fields, "tuning": dict(self.tuning)})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        architecture = Architecture.model_validate(fields.pop("architecture"))
        files, whats, counts = Path(fields.pop("files")), tuple(fields.pop("whats")), tuple(fields.pop("counts"))
        return cls(architecture=architecture, files=files, whats=whats, counts=(counts[0], counts[1]), **fields)

    def split(self, examples: int) -> Split:
        """The first training images, or all if there are fewer."""
        total = self.counts[0]
        images = read_idx(self.files / FILES[0].name, (total, *FILES[0].shape[1:]))
        labels = read_idx(self.files / FILES[1].name, (total,))
        return Split(images[:examples], labels[:examples])


@contextmanager
def files_of(data: Dataset) -> Iterator[Path]:
    """A folder with the set's four files, for our batches and the book's loader alike, while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="nin-multi-bench-"))
    try:
        write_files(data, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_files(data: Dataset, folder: Path) -> None:
    """The four IDX files, uncompressed."""
    arrays = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    for file, array in zip(FILES, arrays, strict=True):
        (folder / file.name).write_bytes(idx_header(array.shape) + array.tobytes())
