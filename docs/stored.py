"""What the pages show of studies that have been run: tables and pictures from docs/studies/NAME.json, sources named.

A page's cell says `table("heads", "parameters", "test acc")` or `picture("heads")`. Nothing is run here, and only runs
of just what docs/studies/NAME.yaml asks for count. What has not been run is said to be so.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from IPython.display import SVG, Markdown

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tools"))

from study_file import Study, StudyRun, read_study  # noqa: E402  (beside the other tools, no package)
from study_rows import Row, Rows, answers  # noqa: E402

FAILED_BELOW = 0.80  # test accuracy; the bound by which the book's own builds were counted
NOT_RUN = "not run yet"


@dataclass(frozen=True)
class Group:
    """A case in one framework: the runs asked for, and the rows of those that are there."""

    case: str
    backend: str
    asked: list[StudyRun]
    rows: list[Row]

    def values(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows if row.get(name) is not None]


@cache
def _study(name: str) -> Study:
    return read_study(DOCS / "studies" / f"{name}.yaml")


def groups(name: str, cases: Sequence[str] = ()) -> list[Group]:
    """In the order of the study's file."""
    rows = Rows(DOCS / "studies" / f"{name}.json", name).read()
    found: dict[tuple[str, str], Group] = {}
    for one in _study(name).wanted():
        if not cases or one.case in cases:
            group = found.setdefault((one.case, one.backend), Group(one.case, one.backend, [], []))
            group.asked.append(one)
            group.rows.extend(row for row in rows if answers(row, one))
    order = list(_study(name).entry.cases)
    return sorted(found.values(), key=lambda group: order.index(group.case))


# --- columns ---------------------------------------------------------------------------------------------------------


def _spread(group: Group, values: Sequence[float], show: str) -> str:
    """One value as it is, of several the median and how far they lie apart."""
    if not values:
        return "diverged" if group.rows else NOT_RUN
    if len(values) == 1:
        return format(values[0], show)
    ends = f"{min(values):{show}} to {max(values):{show}}"
    return f"{statistics.median(values):{show}} ({ends})"


def _counted(values: Sequence[Any]) -> str:
    """fp32 x 4, bf16 x 16; one kind alone without its number."""
    kinds = {value: list(values).count(value) for value in dict.fromkeys(values)}
    return next(iter(kinds)) if len(kinds) == 1 else ", ".join(f"{kind} x {count}" for kind, count in kinds.items())


def has_failed(row: Row) -> bool:
    """Lost a class for good (a logit of 0 for every test image), diverged, or ended below 0.80."""
    return row["status"] == "diverged" or bool(row["dead_classes"]) or (row["test_acc"] or 0.0) < FAILED_BELOW


def _seeds(seeds: Sequence[int]) -> str:
    """0-3, 7."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _epochs(group: Group) -> str:
    """As many as are asked for, or how far its runs went: 2 of 10."""
    asked = group.asked[0].recipe["epochs"]
    went = sorted({len(values) for values in group.values("test_accs")})
    return str(asked) if went in ([], [asked]) else f"{', '.join(map(str, went))} of {asked}"


def _per_run(count: Callable[[Row], int]) -> Callable[[Group], str]:
    return lambda group: str(sum(map(count, group.rows))) if group.rows else NOT_RUN


COLUMNS: dict[str, Callable[[Group], str]] = {
    "parameters": lambda group: f"{group.asked[0].architecture.parameters:,}",
    "multiply-adds": lambda group: f"{group.asked[0].architecture.multiply_adds:,}",
    "framework": lambda group: group.backend,
    "epochs": _epochs,
    "runs": lambda group: f"{len(group.rows)} of {len(group.asked)}",
    "seeds": lambda group: _seeds(group.values("seed")) or NOT_RUN,
    "precision": lambda group: _counted(group.values("precision")) if group.rows else NOT_RUN,
    "test acc": lambda group: _spread(group, group.values("test_acc"), ".3f"),
    "train acc": lambda group: _spread(group, [values[-1] for values in group.values("train_accs") if values], ".3f"),
    "test error %": lambda group: _spread(group, [100 * (1 - value) for value in group.values("test_acc")], ".2f"),
    "images/s": lambda group: _spread(group, group.values("examples_per_sec"), ".0f"),
    "memory, MB": lambda group: _spread(group, [value / 1e6 for value in group.values("peak_memory_bytes")], ".0f"),
    "minutes": lambda group: _spread(group, [values[-1] / 60 for values in group.values("seconds") if values], ".1f"),
    "failed": _per_run(lambda row: int(has_failed(row))),
    "lost classes": _per_run(lambda row: len(row["dead_classes"] or [])),
}


# --- what pages call -------------------------------------------------------------------------------------------------


def table(name: str, *columns: str, cases: Sequence[str] = ()) -> Markdown:
    """A line per case and framework, and below it what the figures come from."""
    found = groups(name, cases)
    several = len({group.backend for group in found}) > 1
    shown = [*(["framework"] if several and "framework" not in columns else []), *columns]
    lines = [" | ".join(["", "case", *shown, ""]).strip(), "|" + "---|" * (1 + len(shown))]
    lines += [
        " | ".join(["", group.case, *(COLUMNS[column](group) for column in shown), ""]).strip() for group in found
    ]
    return Markdown("\n".join(lines) + "\n\n" + source(name, cases))


def source(name: str, cases: Sequence[str] = ()) -> str:
    """One paragraph: how many runs, which directories, seeds, versions, machine; and what is missing."""
    found = groups(name, cases)
    rows = [row for group in found for row in group.rows]
    parts = [f"Study `{name}`: {len(rows)} of {sum(len(group.asked) for group in found)} runs."]
    if rows:
        images = sorted({f"{row['train_examples']:,}" for row in rows if row["train_examples"]})
        parts.append(f"Training images: {' or '.join(images)}; data set: {_counted([row['dataset'] for row in rows])}.")
        seeds = _seeds(sorted({row["seed"] for row in rows}))
        parts.append(f"Seeds {seeds}; precision: {_counted([row['precision'] for row in rows])}.")
        kept = sorted({row["run"] for row in rows} - {"not kept"})
        without = sum(row["run"] == "not kept" for row in rows)
        runs = [*(f"`{run}`" for run in kept), *([f"{without} not kept"] if without else [])]
        parts.append(f"Run directories: {', '.join(runs)}.")
        parts.append(f"Versions: {'; '.join(sorted({_versions(row) for row in rows}))}.")
        parts.append(f"Machine: {'; '.join(sorted({_machine(row) for row in rows}))}.")
    if words := missing(name, cases):
        parts.append(f"**{words}**")
    return " ".join(parts)


def _versions(row: Row) -> str:
    names = (row["backend"], "numpy", "python")
    return ", ".join(f"{name} {row['versions'][name]}" for name in names if name in row["versions"])


def _machine(row: Row) -> str:
    machine, cores = row["machine"], row["machine"].get("cores")
    used = "cores not recorded" if cores is None else f"{cores} core{'s' if cores > 1 else ''} used"
    where = "" if row["device"] in (None, "cpu") else f", {row['device']}"
    return f"{machine['processor']} ({', '.join(machine.get('instruction_sets', []))}), {used}{where}"


def missing(name: str, cases: Sequence[str] = ()) -> str:
    """A sentence on what has not been run; empty where nothing is missing."""
    short = [(group, len(group.asked) - len(group.rows)) for group in groups(name, cases)]
    parts = [f"{group.case} in {group.backend} ({count} of {len(group.asked)})" for group, count in short if count]
    return f"Not run yet: {', '.join(parts)}; `make study STUDY={name}` does it." if parts else ""


def value(name: str, case: str, column: str) -> str:
    """One cell, for a sentence; of the case's first framework."""
    return COLUMNS[column](groups(name, [case])[0])


def picture(name: str, kind: str = "curves", *, cases: Sequence[str] = (), both: bool = False) -> SVG | Markdown:
    """`curves`: test accuracy after each epoch; else a column whose cost the accuracy is drawn over, as "parameters".

    `both` draws the training accuracy too, dashed. A sentence where nothing has been run.
    """
    from stored_pictures import cost, curves

    found = [group for group in groups(name, cases) if group.rows]
    if not found:
        return Markdown(f"*No picture: no run of the study `{name}` is stored yet.*")
    return SVG(data=(curves(found, both) if kind == "curves" else cost(found, kind)).decode())
