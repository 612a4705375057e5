"""What the page on hyper-parameters shows of the search: docs/studies/search.json as tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from IPython.display import SVG, Markdown

from nin_multi.drawing.sheet import style, to_svg

STORE = Path(__file__).parent / "studies" / "search.json"
NOT_RUN = "*No trial of this search is stored yet: `make search MINUTES=60` runs some.*"


def _stored() -> dict[str, Any]:
    return dict(json.loads(STORE.read_text(encoding="utf-8"))) if STORE.exists() else {"trials": []}


def trials(most: int = 10) -> Markdown:
    """The best ones, best first, with what each was judged by; and what they were run on."""
    stored = _stored()
    if not stored["trials"]:
        return Markdown(NOT_RUN)
    ordered = sorted(stored["trials"], key=lambda trial: -max(trial["test_accs"], default=0.0))
    names = list(stored["first"])
    head = ["trial", "state", *(name.replace("_", " ") for name in names), "acc after each epoch"]
    lines = [head, ["---"] * len(head)]
    for trial in ordered[:most]:
        values = [_short(trial["params"].get(name)) for name in names]
        accuracies = " ".join(f"{value:.3f}" for value in trial["test_accs"])
        lines.append([str(trial["number"]), trial["state"].lower(), *values, accuracies])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n" + _source(stored))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _source(stored: dict[str, Any]) -> str:
    found = [trial for trial in stored["trials"] if trial["versions"]]
    states = [trial["state"] for trial in stored["trials"]]
    counts = ", ".join(f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(states))
    kinds = sorted(
        {f"{trial['backend']} {trial['versions'][trial['backend']]}, {trial['precision']}" for trial in found}
    )
    machines = sorted({f"{trial['machine']['processor']}, {trial['machine']['cores']} core used" for trial in found})
    images = sorted({f"{trial['train_examples']:,}" for trial in found})
    parts = [
        f"{len(states)} trials ({counts}) of `{stored['arch']}`, {stored['epochs']} epochs each at most, seed 0",
        f"{' or '.join(images)} training images, judged by the first {stored['judged_by']:,} test images",
        "; ".join(kinds + machines),
        f"Run directories: {', '.join(f'`{run}`' for run in dict.fromkeys(trial['run'] for trial in found))}",
    ]
    return ". ".join(parts) + "."


def best() -> Markdown | None:
    """The best trial, and the recipe that it had to beat, on the images that have not chosen it."""
    stored = _stored()
    if not stored.get("best"):
        return None  # an empty one would be shown as the object that it is
    lines = [_measured("Best is", stored["best"])]
    if stored["recipe"] and stored["recipe"]["number"] != stored["best"]["number"]:
        lines.append(_measured("The recipe is", stored["recipe"]))
    return Markdown(" ".join(lines))


def _measured(words: str, found: dict[str, Any]) -> str:
    words += f" trial {found['number']} (`{found['run']}`): {found['judged_acc']:.4f} on the images that judge"
    if found["held_out_acc"] is None:
        return f"{words}; its run was not at hand to be measured on the others."
    return f"{words}, {found['held_out_acc']:.4f} on the 5,000 others."


def importances() -> SVG | None:
    """How much each hyper-parameter mattered (PED-ANOVA, Watanabe, Bansal and Hutter, 2023)."""
    found = _stored().get("importances")
    if not found:
        return None  # an empty one would be shown as the object that it is
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.6, 2.0), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(list(found)[::-1], list(found.values())[::-1], color="C0")
        axes.set(xlabel="importance, of 1 in all")
        return SVG(data=to_svg(figure, "What mattered").decode())


def history() -> SVG | None:
    """Each trial's last accuracy, and the best one so far."""
    found = [
        (trial["number"], trial["test_accs"][-1], trial["state"]) for trial in _stored()["trials"] if trial["test_accs"]
    ]
    if not found:
        return None  # an empty one would be shown as the object that it is
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.6, 2.4), layout="constrained")
        axes = figure.add_subplot()
        for state in dict.fromkeys(state for *_, state in found):
            points = [(number, accuracy) for number, accuracy, other in found if other == state]
            axes.plot([x for x, _ in points], [y for _, y in points], "o", markersize=4, label=state.lower())
        complete = [(number, accuracy) for number, accuracy, state in found if state == "COMPLETE"]
        tops = [max(accuracy for _, accuracy in complete[: end + 1]) for end in range(len(complete))]
        axes.plot([number for number, _ in complete], tops, color="0.5", linewidth=0.8, label="best so far")
        axes.set(xlabel="trial", ylabel="test accuracy")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=6)
        axes.grid(alpha=0.3)
        return SVG(data=to_svg(figure, "Trials").decode())
