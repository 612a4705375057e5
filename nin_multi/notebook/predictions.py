"""What several nets took the same test images for, side by side in a notebook; not how that was found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nin_multi.compare.comparison import Comparison
from nin_multi.notebook import markup


class Predictions(Sequence[dict[str, Any]]):
    """One entry for each image: "index", "label", "image" (an address), "predicted": run -> class and probability."""

    def __init__(self, comparison: Comparison) -> None:
        self._classes = comparison["classes"]
        self._labels = [run["label"] for run in comparison["runs"] if run["samples"]]
        found: dict[int, dict[str, Any]] = {}
        for run in comparison["runs"]:
            for sample in run["samples"]:
                entry = found.setdefault(sample["index"], self._entry(sample))
                known = [share for share in sample["probabilities"] if share is not None]  # none of a net that diverged
                entry["predicted"][run["label"]] = self._name(sample["predicted"]), max(known, default=None)
        self._entries = list(found.values())

    def _entry(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        known = {"index": sample["index"], "label": self._name(sample["label"]), "image": sample["image"]}
        return {**known, "predicted": {}}

    def _name(self, index: int) -> str:
        return str(self._classes[index]) if index < len(self._classes) else f"class {index}"

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Predictions of {len(self)} images by {', '.join(self._labels) or 'no run'}>"

    def _repr_html_(self) -> str:
        if not self._entries:
            return markup.block(markup.line("There are no pictures: compare with pictures=True."))
        head = ("", "is", *self._labels)
        return markup.block(markup.table(head, [self._row(entry) for entry in self._entries]))

    def _row(self, entry: Mapping[str, Any]) -> str:
        size = "width: 56px; height: 56px; image-rendering: pixelated"
        image = f'<img alt="{escape(entry["label"])}" style="{size}" src="{escape(entry["image"])}">'
        said = [self._said(entry, entry["predicted"].get(label)) for label in self._labels]
        return markup.row([markup.cell(text) for text in (image, escape(entry["label"]), *said)])

    @staticmethod
    def _said(entry: Mapping[str, Any], predicted: tuple[str, float | None] | None) -> str:
        """Mistakes in bold and with a mark, which is seen without colours too."""
        if predicted is None:
            return "-"
        name, probability = predicted
        text = escape(name) + ("" if probability is None else f" {probability:.0%}")
        return text if name == entry["label"] else f"<strong>&#10007; {text}</strong>"
