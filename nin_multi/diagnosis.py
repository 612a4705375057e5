"""What became of a run and why, from its files and from the net itself; not what training does about it.

What the files do not say, and only its loss suggests, is called inferred.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nin_multi.dead_channels import Look
from nin_multi.health import Finding
from nin_multi.run_story import Story
from nin_multi.training.classes import ENOUGH, loss_with_dead
from nin_multi.training.recipe import RECIPES, Recipe

AT_CHANCE = 0.01  # below ln(classes): a net that has begun to learn is past that within some hundred steps
RISE = 0.1  # of the loss, for good: half of what one lost class costs (0.19); and beyond that SCATTER
SCATTER = 4  # times loss / sqrt(images): one image's loss scatters by about as much as the mean, or twice that
AT_REST = 0.02  # of the loss, from epoch to epoch: the mean over 60,000 images scatters by less than 0.01 of it
OVERFIT_ACC, OVERFIT_LOSS = 0.05, 1.1  # train above test accuracy, and test loss above its least: either alone is usual
DEPENDABLE = RECIPES["dependable"]
CALM = ("init", "warm_up", "decay")  # what the recipe has, beside its rate, for a net to stay alive
AS_PREDICTED = 0.1  # from the loss that so many dead classes predict: half the way to one class more


@dataclass(frozen=True)
class Diagnosis:
    """The verdict in one sentence, the findings behind it, and what is known of classes."""

    summary: str
    findings: list[Finding]
    classes: dict[str, Any]

    @property
    def is_well(self) -> bool:
        return all(finding.verdict != "wrong" for finding in self.findings)


def diagnose(story: Story, look: Look | str) -> Diagnosis:
    """`look`: what was seen of the net itself, or why it was not looked into."""
    dead = _dead(story, look)
    findings = [_judge_end(story), *_judge_classes(story, dead), *_judge_loss(story, dead, look)]
    findings.append(_judge_net(story, look, dead))
    return Diagnosis(_summary(story, dead, findings), findings, _figures(story, dead))


def _dead(story: Story, look: Look | str) -> dict[int, int | None] | None:
    """Each class that is dead in the end, and the step at which that was first seen; None: nothing is known."""
    if not story.sights:
        return None if isinstance(look, str) or look.images < ENOUGH else dict.fromkeys(look.dead)
    since: dict[int, int | None] = {}
    for sight in story.sights:
        since = {index: since.get(index, sight.step) for index in sight.dead}
    return since


def _figures(story: Story, dead: dict[int, int | None] | None) -> dict[str, Any]:
    missed = [sight.missed for sight in story.sights if sight.missed is not None]
    steps = [step for step in (dead or {}).values() if step is not None]
    return {
        "dead": None if dead is None else sorted(dead),
        "never_predicted": sorted(missed[-1]) if missed else None,
        "since_step": min(steps, default=None),
        "predicted_loss": None if dead is None else loss_with_dead(len(dead), len(story.names)),
        "loss": story.points[-1].loss if story.points else None,
    }


def _summary(story: Story, dead: dict[int, int | None] | None, findings: Sequence[Finding]) -> str:
    """One sentence; its figures are those of the epoch so far, as `train` prints them."""
    step = f"step {story.last_step:,} of {story.per_epoch * story.recipe.epochs:,}"
    state = {
        "done": f"done, {_epochs(story)}",
        "running": f"under way, {step}",
        "unfinished": f"unfinished, last heard of at {step}",
        "interrupted": f"interrupted at {step}",
        "diverged": f"diverged at {step}",
    }[story.status]
    last = story.events[-1] if story.events else None
    named = [("loss", last and last.loss), ("train acc", last and last.train_acc), ("test acc", last and last.test_acc)]
    figures = ", ".join(f"{name} {value:.3f}" for name, value in named if value is not None)
    return f"{state}: {_verdict(story, dead, findings)}" + (f"; {figures}" if figures else "")


def _verdict(story: Story, dead: dict[int, int | None] | None, findings: Sequence[Finding]) -> str:
    wrong = {finding.about for finding in findings if finding.verdict == "wrong"}
    words = {
        "end": "its numbers are none any more",
        "classes": f"{len(dead or ())} of {len(story.names)} classes are dead",
        "plateau": "it only guesses",
        "collapse": "its loss rose for good",
        "loss": "it has lost classes, by its loss",
        "net": "a layer gives nothing" if not dead else "",
    }
    if wrong:
        return ", and ".join(text for about, text in words.items() if text and about in wrong)
    if not story.points:
        return "nothing can be said of the net yet"
    known = "no class is lost" if dead is not None else "nothing is lost that its loss could tell"
    return known if story.status == "done" else f"{known} so far"


def _epochs(story: Story) -> str:
    return f"{story.recipe.epochs} epoch{'s' * (story.recipe.epochs > 1)}"


def _judge_end(story: Story) -> Finding:
    """How it ended, and how to go on."""
    resume = f"to go on: nin_multi train --resume {story.path}{'' if story.checkpoints else ' (from its first step)'}"
    if story.has_weights and not story.checkpoints:
        resume = "train anew: weights alone are nothing to go on from"
    left, behind = "it has no checkpoint", 0
    if story.checkpoints:
        kept = story.checkpoints[-1]
        left, behind = f"its last checkpoint is after step {kept:,}", story.last_step - kept
    repeated = f"; what came after that, {behind:,} steps at least, is done again" if behind > 0 else ""
    match story.status:
        case "done":
            return Finding("ok", "end", f"it did all that it was to do: {_epochs(story)}")
        case "diverged":
            reason = story.result.reason.splitlines()[0] if story.result.reason else "the loss was no number"
            at = "" if story.result.steps is None else f" at {story.when(story.result.steps)}"
            what = f"it diverged{at}: {reason.partition('; a smaller')[0]}"
            return Finding("wrong", "end", what, f"in a new run: {_calmer(story.recipe)}")
        case "running":
            what = f"another process is writing it; its last word is {story.written:,.0f} s old; {left}"
            return Finding("note", "end", what, "what follows is about a run that goes on")
        case "interrupted":
            at = "" if story.result.steps is None else f" at {story.when(story.result.steps)}"
            return Finding("note", "end", f"it was interrupted{at}; {left}{repeated}", resume)
    what = f"it ended without a result (inferred: killed, or out of disk) after {story.when(story.last_step)}; {left}"
    return Finding("note", "end", f"{what}{repeated}", resume)


def _judge_classes(story: Story, dead: dict[int, int | None] | None) -> Iterator[Finding]:
    total = len(story.names)
    if dead is None:
        counted = not story.events or any(event.dead_classes is not None for event in story.events)
        why = f"fewer than {ENOUGH} images were counted" if counted else "its events do not say it (an older run)"
        yield Finding("note", "classes", f"whether any is dead is not known: {why}")
        return
    if dead:
        yield Finding("wrong", "classes", _what_is_dead(story, dead), _remedies(story))
        yield _as_predicted(story, len(dead), total)
    else:
        yield Finding("ok", "classes", f"none of {total} is dead{'' if story.sights else ': seen in the net itself'}")
    if revived := frozenset[int]().union(*(sight.dead for sight in story.sights)) - dead.keys():
        yield Finding("note", "classes", f"dead for a while, and alive again: {story.show(revived)}")
    missed = next((sight.missed for sight in reversed(story.sights) if sight.missed is not None), frozenset()) or ()
    if alive := frozenset(missed) - dead.keys():
        what = f"alive, but never predicted for the test images: {story.show(alive)}"
        yield Finding("note", "classes", what, "that may come with more epochs" if len(alive) < total / 2 else "")


def _what_is_dead(story: Story, dead: dict[int, int | None]) -> str:
    by_step: dict[int | None, list[int]] = {}
    for index, step in dead.items():
        by_step.setdefault(step, []).append(index)
    told = [
        story.show(found) + (f", seen from {story.when(step)} on" if step is not None else ", seen in the net itself")
        for step, found in sorted(by_step.items(), key=lambda item: item[0] or 0)
    ]
    counted = [set(event.dead_classes) for event in story.events if event.dead_classes is not None]
    stirs = dead.keys() - counted[-1] if counted else ()
    means = (
        f"; but with dropout, in training, not always: {story.show(stirs)}" if stirs else ", no gradient comes through"
    )
    head = "all are" if len(dead) == len(story.names) else f"{len(dead)} of {len(story.names)} are"
    return f"{head} dead: {'; '.join(told)}; logit 0 for every image{means}"


def _as_predicted(story: Story, dead: int, total: int) -> Finding:
    """The loss and the accuracy beside what so many dead classes leave possible."""
    most = max(1 - dead / total, 1 / total)
    predicted = loss_with_dead(dead, total)
    what = f"with {dead} dead the loss comes to rest near {predicted:.2f} (book's runs), accuracy is {most:.2f} at most"
    if not story.points:
        return Finding("note", "classes", what)
    last = story.points[-1]
    means = "as predicted"
    if last.loss > predicted + AS_PREDICTED:
        means = "above that: the other classes are not learned yet"
    elif last.loss < predicted - AS_PREDICTED:
        means = "below that: the other classes are learned better than the book's runs have them"
    return Finding("note", "classes", f"{what}; here {last.loss:.2f} and {last.acc:.2f}, {means}")


def _judge_loss(story: Story, dead: dict[int, int | None] | None, look: Look | str) -> Iterator[Finding]:
    if not story.points or story.status == "diverged":
        return
    is_cut = len(dead or ()) == len(story.names) or bool(_cuts(look))
    start = _sits_at_chance(story)
    if start is not None and not is_cut:
        yield _plateau(story, start, dead)
    elif (found := _rise(story)) is not None:
        yield found
    elif dead is None and (inferred := _nearest(story)) is not None:
        yield inferred
    if start is None:
        yield from filter(None, (_fall(story), _overfitting(story)))


def _chance(story: Story) -> float:
    """The loss of guessing: among the labels, or among all outputs, where there are more of them."""
    losses = math.log(len(story.names)), math.log(story.architecture.classes)
    return min(losses, key=lambda loss: abs(loss - story.points[-1].loss))


def _sits_at_chance(story: Story) -> int | None:
    """The step since which the loss has been no better than that of guessing; None where it is."""
    chance, since = _chance(story), None
    for point in reversed(story.points):
        if point.loss < chance - AT_CHANCE:
            break
        since = point.step
    last = story.events[-1].test_loss
    return None if last is not None and last < chance - AT_CHANCE else since


def _plateau(story: Story, since: int, dead: dict[int, int | None] | None) -> Finding:
    """It has not begun, or it has gone back."""
    recipe, chance = story.recipe, _chance(story)
    loss = f"{story.points[-1].loss:.3f}, no better than guessing (ln {round(math.exp(chance))} = {chance:.3f})"
    alive = {None: "; whether its classes are dead is not known", 0: "; no class is dead"}
    means = alive.get(None if dead is None else len(dead), "")
    if since != story.points[0].step:
        least = min(story.points, key=lambda point: point.loss)
        what = f"since {story.when(since)} the loss is {loss}; it had been {least.loss:.3f} at {story.when(least.step)}"
        return Finding("wrong", "plateau", f"{what}{means}", f"in a new run: {_calmer(recipe)}")
    what = f"it has not begun to learn: from its first steps to {story.when(story.points[-1].step)} the loss is {loss}"
    if story.points[-1].loss > chance + AT_CHANCE:
        means += "; its steps are too large (inferred)"
        return Finding("wrong", "plateau", f"{what}{means}", f"in a new run: {_calmer(recipe)}")
    flags = ["--init he"] * (recipe.init != "he") + ["--momentum 0.9"] * (not recipe.momentum)
    flags.append(f"--batch-size {max(recipe.batch_size // 2, 1)}")
    more = f"nin_multi train --resume {story.path} --epochs {2 * recipe.epochs}"
    return Finding("wrong", "plateau", f"{what}{means}", f"more epochs ({more}), or in a new run {', '.join(flags)}")


def _rise(story: Story) -> Finding | None:
    """A loss that rose in mid-run and did not come back."""
    least = min(range(len(story.points)), key=lambda index: story.points[index].loss)
    low = story.points[least]
    bound = low.loss + RISE + SCATTER * low.loss / math.sqrt(low.images)
    good = max(index for index, point in enumerate(story.points) if point.loss <= bound)
    after = story.points[good + 1 :]
    if len(after) < 2:  # one may come back
        return None
    last = after[-1].loss
    lost = loss_with_dead(1, len(story.names)) - loss_with_dead(0, len(story.names))
    what = (
        f"the loss rose from {low.loss:.2f} to {last:.2f} between {story.when(story.points[good].step)} and "
        f"{story.when(after[0].step)}, and stayed up; one lost class costs {lost:.2f}"
    )
    return Finding("wrong", "collapse", what, f"in a new run: {_calmer(story.recipe)}")


def _nearest(story: Story) -> Finding | None:
    """Where nobody has counted classes: how many dead ones would give this loss."""
    last, total = story.points[-1], len(story.names)
    dead = min(range(total), key=lambda count: abs(loss_with_dead(count, total) - last.loss))
    fallen = _fallen(story)  # in its first epoch any loss is on its way
    if dead == 0 or fallen is None or last.acc > 1 - dead / total + AT_REST:
        return None
    what = f"inferred: the loss, {last.loss:.2f}, is what {dead} dead class{'es' * (dead > 1)} would leave"
    if fallen < AT_REST:
        return Finding("wrong", "loss", f"{what}, and it is at rest there", _remedies(story))
    return Finding("note", "loss", f"{what}, or a net that is still learning", "look into the net: its weights tell")


def _fallen(story: Story) -> float | None:
    """The share by which the last epoch's loss was less than that of the one before."""
    losses = [event.loss for event in story.epochs[-2:] if event.loss]
    return 1 - losses[1] / losses[0] if len(losses) > 1 else None


def _fall(story: Story) -> Finding | None:
    """Whether more epochs would help."""
    fallen = _fallen(story)
    if story.status != "done" or (fallen is not None and fallen < -AT_REST):
        return None
    if fallen is None:  # within one epoch everything falls, and points scatter more
        before, last = story.points[0].loss, story.points[-1].loss
        if len(story.points) < 2 or last > (1 - 5 * AT_REST) * before:
            return None
        what = f"the loss was still falling: from {before:.3f} to {last:.3f} in its one epoch"
    else:
        a, b = (event.loss for event in story.epochs[-2:])
        rests = fallen < AT_REST
        what = f"the loss {'is at rest' if rests else 'was still falling'}: {b:.3f} in the last epoch, {a:.3f} before"
        if rests:
            return Finding("ok", "curve", what)
    epochs = story.recipe.epochs + max(story.recipe.epochs // 2, 1)
    if story.recipe.decay != "none":
        return Finding("note", "curve", what, f"a new run with --epochs {epochs}: the rate has fallen to 0 in this one")
    return Finding("note", "curve", what, f"nin_multi train --resume {story.path} --epochs {epochs}")


def _overfitting(story: Story) -> Finding | None:
    """Only where the test loss has risen while the training images go far better than the test images."""
    if not story.epochs or story.dataset.test_examples < ENOUGH:
        return None
    last, losses = story.epochs[-1], [event.test_loss for event in story.epochs if event.test_loss is not None]
    if last.train_acc is None or last.test_acc is None or not losses:
        return None
    if last.train_acc - last.test_acc < OVERFIT_ACC or losses[-1] < OVERFIT_LOSS * min(losses):
        return None
    what = (
        f"it learns its training images by heart: test accuracy {last.test_acc:.3f} for {last.train_acc:.3f} in "
        f"training, and the test loss is {losses[-1]:.3f} after {min(losses):.3f}"
    )
    return Finding("note", "curve", what, "fewer --epochs, or more --train-examples")


def _judge_net(story: Story, look: Look | str, lost: dict[int, int | None] | None) -> Finding:
    if isinstance(look, str):
        return Finding("absent", "net", f"not looked into: {look}")
    channels, dead = (sum(layer[key] for layer in look.layers) for key in ("channels", "dead"))
    what = f"{dead:,} of {channels:,} channels behind its ReLUs give 0 for all of {look.images} test images"
    if look.dead:
        what += (
            "; so do all logits"
            if len(look.dead) == len(story.names)
            else f"; so do the logits of {story.show(look.dead)}"
        )
    if cuts := _cuts(look):
        what += f". No channel is left in {', '.join(cuts)}: nothing of these images comes through"
        return Finding("wrong", "net", what, "" if lost else _remedies(story))
    return Finding("note" if dead or look.dead else "ok", "net", what)


def _cuts(look: Look | str) -> list[str]:
    """Layers of which every channel is dead: behind them every image is alike."""
    layers = [] if isinstance(look, str) else look.layers
    return [layer["name"] for layer in layers if layer["dead"] == layer["channels"]]


def _remedies(story: Story) -> str:
    """Flags that this run did not have."""
    recipe = story.recipe
    cut = story.architecture.without_last_relu() != story.architecture
    flags = ["--final-relu off"] * cut + ["--init he"] * (recipe.init != "he") + [_calmer(recipe)]
    if not cut and recipe.lr <= DEPENDABLE["lr"] and all(getattr(recipe, name) == DEPENDABLE[name] for name in CALM):
        return f"in a new run: {', '.join(flags)}"
    return f"in a new run: --recipe dependable, or single flags of it: {', '.join(flags)}"


def _calmer(recipe: Recipe) -> str:
    """Flags for smaller steps, at first or all the time."""
    return ("" if recipe.warm_up else "--warm-up 500, ") + f"--lr {recipe.lr / 2:g}"
