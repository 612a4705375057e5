"""What a run's files say of it: curves written down by hand, and small real runs that were shut, stopped or damaged."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import refused

from nin_multi import architecture_file, randomness
from nin_multi.data import CLASSES, synthetic_dataset
from nin_multi.data.batches import prepare
from nin_multi.dead_channels import Look, look_into
from nin_multi.diagnosis import Diagnosis, diagnose
from nin_multi.errors import RunError
from nin_multi.health import Finding
from nin_multi.oracle import NumpyBackend
from nin_multi.run_story import Story, read_story
from nin_multi.spec import Architecture
from nin_multi.training.classes import loss_with_dead
from nin_multi.training.display import Silent
from nin_multi.training.job import Job
from nin_multi.training.progress import Progress
from nin_multi.training.recipe import RECIPES, Recipe
from nin_multi.training.run import train
from nin_multi.training.run_directory import RunDirectory

EPOCH = 469  # the chapter's: 60,000 images in batches of 128
GUESSING = math.log(10)


class Written:
    """A run of the chapter's net, event by event: losses are those of an epoch's fifths."""

    def __init__(self, folder: Path, **recipe: Any) -> None:
        self.path = folder
        self.recipe = Recipe(**recipe)
        self.events: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = {"status": "done"}
        self.dataset: dict[str, Any] = {"train_examples": 60_000, "test_examples": 10_000, "name": "fashion-mnist"}
        self.old = False

    def epoch(
        self,
        *losses: float,
        acc: float = 0.5,
        dead: list[list[int]] | None = None,
        tested: list[int] | None = None,
        missed: list[int] | None = None,
        test_loss: float | None = None,
        test_acc: float = 0.5,
    ) -> None:
        """One more epoch: points at its fifths, as the loop draws them, and its end where there are all five."""
        epoch = len([event for event in self.events if event["event"] == "epoch"])
        seen, total, event = 0, 0.0, {}
        for number, loss in enumerate(losses):
            step = EPOCH if number == 4 else (number + 1) * 93
            images = min(step * 128, 60_000)
            total, seen = total + loss * (images - seen), images
            event = {"event": "step", "step": epoch * EPOCH + step, "loss": total / images, "train_acc": acc}
            if not self.old:
                event["dead_classes"] = dead[number] if dead else []
            self.events.append(event)
        if len(losses) == 5:
            end = {"event": "epoch", "epoch": epoch + 1, "test_loss": test_loss or losses[-1], "test_acc": test_acc}
            classes = {
                "test_dead_classes": tested or [],
                "test_never_predicted": sorted({*(tested or []), *(missed or [])}),
            }
            self.events.append({**event, **end, **({} if self.old else classes)})

    def story(self) -> Story:
        architecture = self.recipe.applied_to(architecture_file.load_architecture("nin")).model_dump(mode="json")
        facts = {"backend": "torch", "device": "cpu", "precision": "fp32", "architecture": architecture}
        dataset = {"sha256": {}, **self.dataset}
        directory = RunDirectory.create(self.path)
        directory.begin({**facts, "recipe": self.recipe.as_dict(), "dataset": dataset})
        for event in self.events:
            directory.append(event)
        if self.result is not None:
            directory.finish(self.result)
        return read_story(directory)

    def diagnosis(self, look: Look | str = "its backend is not here") -> Diagnosis:
        return diagnose(self.story(), look)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "run", epochs=3)


def _of(found: Diagnosis, about: str, verdict: str | None = None) -> list[Finding]:
    return [one for one in found.findings if one.about == about and verdict in (None, one.verdict)]


def _look(dead: list[int], images: int = 500) -> Look:
    return Look(images, [{"name": "block4.relu2", "channels": 10, "dead": len(dead)}], dead)


class TestHealthy:
    def test_done_and_at_rest(self, written: Written) -> None:
        for loss in (0.9, 0.364, 0.36):
            written.epoch(*[loss] * 5, acc=0.87, test_acc=0.88)
        found = written.diagnosis(_look([]))
        assert found.is_well
        assert found.summary == "done, 3 epochs: no class is lost; loss 0.360, train acc 0.870, test acc 0.880"
        assert [(one.verdict, one.about) for one in found.findings] == [
            *(("ok", "end"), ("ok", "classes"), ("ok", "curve"), ("ok", "net")),
        ]
        assert found.classes == {
            "dead": [],
            "never_predicted": [],
            "since_step": None,
            "predicted_loss": pytest.approx(0.36),
            "loss": pytest.approx(0.36),
        }

    def test_still_falling(self, written: Written) -> None:
        for loss in (0.9, 0.6, 0.5):
            written.epoch(*[loss] * 5)
        (curve,) = _of(written.diagnosis(), "curve")
        assert (curve.verdict, curve.what) == (
            "note",
            "the loss was still falling: 0.500 in the last epoch, 0.600 before",
        )
        assert curve.remedy == f"nin_multi train --resume {written.path} --epochs 4"

    def test_still_falling_where_the_rate_has_come_to_its_end(self, tmp_path: Path) -> None:
        written = Written(tmp_path / "run", epochs=2, decay="cosine")
        for loss in (0.9, 0.6):
            written.epoch(*[loss] * 5)
        assert _of(written.diagnosis(), "curve")[0].remedy.startswith("a new run with --epochs 3")

    def test_still_falling_in_its_only_epoch(self, tmp_path: Path) -> None:
        written = Written(tmp_path / "run", epochs=1)
        written.epoch(2.0, 1.5, 1.2, 1.0, 0.8)
        assert "from 2.000 to 0.800 in its one epoch" in _of(written.diagnosis(), "curve")[0].what

    def test_learned_by_heart(self, written: Written) -> None:
        for loss, test_loss in ((0.5, 0.4), (0.2, 0.38), (0.05, 0.6)):
            written.epoch(*[loss] * 5, acc=0.98, test_acc=0.88, test_loss=test_loss)
        assert "by heart" in _of(written.diagnosis(), "curve", "note")[-1].what

    def test_a_gap_alone_is_not_overfitting(self, written: Written) -> None:
        for loss in (0.5, 0.3, 0.2):
            written.epoch(*[loss] * 5, acc=0.95, test_acc=0.88, test_loss=0.4)
        assert not any("by heart" in one.what for one in written.diagnosis().findings)


def test_points_are_what_came_between_two_events(written: Written) -> None:
    losses = [1.0, 0.9, 0.5, 0.7, 0.6]
    written.epoch(*losses)
    written.epoch(0.4, 0.3)
    points = written.story().points
    assert [point.loss for point in points] == pytest.approx([*losses, 0.4, 0.3])
    assert [point.step for point in points] == [93, 186, 279, 372, 469, 562, 655]


class TestLostClasses:
    def test_some(self, written: Written) -> None:
        dead = loss_with_dead(2)
        written.epoch(2.0, 1.5, 1.0, 0.9, 0.8, dead=[[6]] * 5, tested=[6])
        for _ in range(2):
            written.epoch(*[dead] * 5, acc=0.69, dead=[[4, 6]] * 5, tested=[4, 6], test_loss=dead)
        found = written.diagnosis()
        assert not found.is_well
        assert found.summary.startswith("done, 3 epochs: 2 of 10 classes are dead; loss 0.749, train acc 0.690")
        lost, predicted = _of(found, "classes")
        assert lost.verdict == "wrong"
        assert "Shirt, seen from step 93 (epoch 1) on; Coat, seen from step 562 (epoch 2) on" in lost.what
        assert "no gradient comes through" in lost.what
        assert lost.remedy.endswith("--final-relu off, --init he, --warm-up 500, --lr 0.05")
        assert predicted.what == (
            "with 2 dead the loss comes to rest near 0.75 (book's runs), accuracy is 0.80 at most; "
            "here 0.75 and 0.69, as predicted"
        )
        assert found.classes == {
            "dead": [4, 6],
            "never_predicted": [4, 6],
            "since_step": 93,
            "predicted_loss": pytest.approx(dead),
            "loss": pytest.approx(dead),
        }

    def test_all(self, written: Written) -> None:
        for _ in range(3):
            written.epoch(*[GUESSING] * 5, acc=0.1, dead=[list(range(10))] * 5, tested=list(range(10)))
        found = written.diagnosis()
        assert "10 of 10 classes are dead" in found.summary
        assert "all are dead: " in _of(found, "classes")[0].what
        assert "accuracy is 0.10 at most" in _of(found, "classes")[1].what
        assert not _of(found, "plateau")

    def test_dropout_may_stir_what_evaluation_finds_dead(self, written: Written) -> None:
        written.epoch(*[1.0] * 5, dead=[[]] * 5, tested=[3])
        written.epoch(*[1.0] * 5, dead=[[]] * 5, tested=[3])
        found = written.diagnosis()
        assert found.classes["since_step"] == EPOCH
        assert "but with dropout, in training, not always: Dress" in _of(found, "classes", "wrong")[0].what

    def test_alive_again(self, written: Written) -> None:
        written.epoch(*[1.0] * 5, dead=[[3]] * 5, tested=[3])
        written.epoch(*[0.9] * 5, dead=[[3]] * 5, missed=[5])
        found = written.diagnosis()
        assert found.is_well
        told = [one.what for one in _of(found, "classes", "note")]
        assert told == [
            "dead for a while, and alive again: Dress",
            "alive, but never predicted for the test images: Sandal",
        ]

    @pytest.mark.parametrize(("loss", "words"), [(1.4, "not learned yet"), (0.4, "better than the book's")])
    def test_other_than_predicted(self, written: Written, loss: float, words: str) -> None:
        for _ in range(2):
            written.epoch(*[loss] * 5, dead=[[1, 2]] * 5, tested=[1, 2])
        assert words in _of(written.diagnosis(), "classes")[1].what

    def test_flags_that_the_run_had_are_no_remedy(self, tmp_path: Path) -> None:
        written = Written(tmp_path / "run", init="he", warm_up=100, lr=0.2)
        written.epoch(*[1.0] * 5, tested=[3])
        assert _of(written.diagnosis(), "classes", "wrong")[0].remedy.endswith("of it: --final-relu off, --lr 0.1")


class TestPlateau:
    def test_from_its_first_step(self, written: Written) -> None:
        for _ in range(3):
            written.epoch(*[2.302] * 5, acc=0.11)
        found = written.diagnosis()
        assert not found.is_well
        assert "it only guesses" in found.summary
        (plateau,) = _of(found, "plateau")
        assert (
            "it has not begun to learn: from its first steps to step 1,407 (epoch 3) the loss is 2.302" in plateau.what
        )
        assert plateau.what.endswith("(ln 10 = 2.303); no class is dead")
        assert f"--resume {written.path} --epochs 6" in plateau.remedy
        assert plateau.remedy.endswith("--init he, --momentum 0.9, --batch-size 64")
        assert not _of(found, "curve")

    def test_worse_than_guessing(self, written: Written) -> None:
        written.epoch(*[2.4] * 5)
        (plateau,) = _of(written.diagnosis(), "plateau")
        assert "the loss is 2.400, no better than guessing" in plateau.what
        assert plateau.what.endswith("its steps are too large (inferred)")
        assert plateau.remedy == "in a new run: --warm-up 500, --lr 0.05"

    @pytest.mark.parametrize(
        ("changed", "remedy"),
        [({}, "in a new run: --lr 0.025"), ({"lr": 0.02}, "in a new run: --lr 0.01")]
        + [
            (changed, f"in a new run: --recipe dependable, or single flags of it: {flags}")
            for changed, flags in (({"lr": 0.1}, "--lr 0.05"), ({"warm_up": 0}, "--warm-up 500, --lr 0.025"))
        ],
    )
    def test_whoever_has_the_dependable_recipe_is_not_told_to_take_it(
        self, tmp_path: Path, changed: dict[str, Any], remedy: str
    ) -> None:
        written = Written(tmp_path / "run", **{**RECIPES["dependable"], **changed})
        written.epoch(*[2.302] * 5)
        found = written.diagnosis(Look(500, [{"name": "block1.relu", "channels": 4, "dead": 4}], []))
        assert _of(found, "net", "wrong")[0].remedy == remedy

    def test_a_layer_that_gives_nothing_explains_it(self, written: Written) -> None:
        written.epoch(*[2.302] * 5)
        layers = [{"name": "block1.relu", "channels": 4, "dead": 1}, {"name": "block1.relu1", "channels": 4, "dead": 4}]
        found = written.diagnosis(Look(500, layers, []))
        assert not _of(found, "plateau")
        (net,) = _of(found, "net", "wrong")
        assert net.what.startswith(
            "5 of 8 channels behind its ReLUs give 0 for all of 500 test images. No channel is left in"
        )
        assert "a layer gives nothing" in found.summary

    def test_it_has_just_been_left(self, written: Written) -> None:
        written.epoch(2.303, 2.303, 2.302, 2.301, 2.3, test_loss=2.25)
        assert not _of(written.diagnosis(), "plateau")

    def test_gone_back_to(self, written: Written) -> None:
        written.epoch(2.0, 1.0, 0.8, 0.7, 0.6)
        written.epoch(0.5, 2.2, GUESSING, GUESSING, GUESSING)
        found = written.diagnosis()
        (plateau,) = _of(found, "plateau")
        assert plateau.what.startswith(f"since step {EPOCH + 279} (epoch 2) the loss is 2.303")
        assert f"it had been 0.500 at step {EPOCH + 93} (epoch 2)" in plateau.what
        assert plateau.remedy == "in a new run: --warm-up 500, --lr 0.05"


class TestCollapse:
    def test_for_good(self, written: Written) -> None:
        written.epoch(1.0, 0.8, 0.7, 0.6, 0.5)
        written.epoch(0.45, 0.9, 0.88, 0.9, 0.89)
        found = written.diagnosis()
        assert not found.is_well
        (rise,) = _of(found, "collapse")
        assert rise.what == (
            f"the loss rose from 0.45 to 0.89 between step {EPOCH + 93} (epoch 2) and step {EPOCH + 186} (epoch 2), "
            "and stayed up; one lost class costs 0.19"
        )

    def test_for_a_while(self, written: Written) -> None:
        written.epoch(1.0, 0.8, 0.5, 1.2, 0.9)
        written.epoch(0.8, 0.7, 0.6, 0.5, 0.45)
        assert not _of(written.diagnosis(), "collapse")

    def test_few_images_scatter(self, written: Written) -> None:
        """Points of 512 images: a net at rest at 1.2 has some of them at 1.0."""
        written.dataset["train_examples"] = 512 * 5
        losses = [1.2, 1.0, 1.25, 1.2, 1.25]
        for number in range(1, 6):
            event = {"event": "step", "step": number * 4, "train_acc": 0.5}
            written.events.append({**event, "loss": sum(losses[:number]) / number})
        story = written.story()
        assert [point.images for point in story.points] == [512] * 5
        assert not _of(diagnose(story, ""), "collapse")

    def test_at_the_last_point_only(self, written: Written) -> None:
        written.epoch(1.0, 0.8, 0.5, 0.5, 0.9)
        assert not _of(written.diagnosis(), "collapse")


class TestOlderRuns:
    """Without a word of classes."""

    @pytest.fixture
    def old(self, written: Written) -> Written:
        written.old = True
        return written

    def test_what_is_not_known_is_said(self, old: Written) -> None:
        old.epoch(*[0.36] * 5, acc=0.87)
        found = old.diagnosis()
        assert found.is_well
        assert "nothing is lost that its loss could tell" in found.summary
        (classes,) = _of(found, "classes")
        assert classes.what == "whether any is dead is not known: its events do not say it (an older run)"
        assert (found.classes["dead"], found.classes["never_predicted"]) == (None, None)

    def test_a_loss_at_rest_where_dead_classes_leave_it(self, old: Written) -> None:
        for _ in range(3):
            old.epoch(*[loss_with_dead(3) + 0.02] * 5, acc=0.6)
        found = old.diagnosis()
        assert not found.is_well
        (loss,) = _of(found, "loss", "wrong")
        assert loss.what == "inferred: the loss, 0.96, is what 3 dead classes would leave, and it is at rest there"

    def test_a_loss_on_its_way_may_be_learning(self, old: Written) -> None:
        for loss in (2.0, 1.5, 0.9):
            old.epoch(*[loss] * 5, acc=0.6)
        found = old.diagnosis()
        assert found.is_well
        assert "or a net that is still learning" in _of(found, "loss", "note")[0].what

    def test_a_first_epoch_says_nothing_of_dead_classes(self, old: Written) -> None:
        old.epoch(2.0, 1.5, 1.0, 1.0, 1.0, acc=0.6)
        assert not _of(old.diagnosis(), "loss")

    def test_an_accuracy_that_so_many_dead_would_not_allow(self, old: Written) -> None:
        for _ in range(3):
            old.epoch(*[loss_with_dead(3)] * 5, acc=0.9)
        assert not _of(old.diagnosis(), "loss")

    def test_the_plateau(self, old: Written) -> None:
        old.epoch(*[GUESSING] * 5)
        found = old.diagnosis()
        assert _of(found, "plateau", "wrong")[0].what.endswith("whether its classes are dead is not known")

    def test_the_net_itself_tells(self, old: Written) -> None:
        old.epoch(*[1.0] * 5)
        found = old.diagnosis(_look([2, 9]))
        assert (found.classes["dead"], found.classes["since_step"]) == ([2, 9], None)
        assert "Pullover, Ankle boot, seen in the net itself" in _of(found, "classes", "wrong")[0].what
        assert "so do the logits of Pullover, Ankle boot" in _of(found, "net")[0].what

    def test_a_net_seen_on_few_images_tells_nothing(self, old: Written) -> None:
        old.epoch(*[1.0] * 5)
        assert old.diagnosis(_look([2, 9], images=20)).classes["dead"] is None


class TestEnds:
    def test_diverged(self, written: Written) -> None:
        written.epoch(1.0, 0.9)
        reason = (
            "the loss is nan at step 200 (epoch 1): layer 'block1.conv' gives the first; a smaller --lr may help.\nKept"
        )
        written.result = {"status": "diverged", "reason": reason, "layer": "block1.conv", "steps": 200}
        found = written.diagnosis()
        assert not found.is_well
        (end,) = _of(found, "end")
        assert end.what.startswith("it diverged at step 200 (epoch 1): the loss is nan")
        assert end.what.endswith("'block1.conv' gives the first")
        assert end.remedy == "in a new run: --warm-up 500, --lr 0.05"
        assert found.summary.startswith("diverged at step 200 of 1,407: its numbers are none any more")

    def test_killed_without_a_result(self, written: Written) -> None:
        written.epoch(1.0, 0.9)
        written.result = None
        found = written.diagnosis()
        assert found.is_well
        assert found.summary.startswith("unfinished, last heard of at step 186 of 1,407: no class is lost so far")
        (end,) = _of(found, "end", "note")
        assert end.what.endswith("after step 186 (epoch 1); it has no checkpoint")
        assert end.remedy == f"to go on: nin_multi train --resume {written.path} (from its first step)"

    def test_before_its_first_point(self, written: Written) -> None:
        written.result = None
        found = written.diagnosis("it has left no weights")
        assert found.is_well
        assert found.summary == "unfinished, last heard of at step 0 of 1,407: nothing can be said of the net yet"
        assert found.classes["loss"] is None

    def test_being_written(self, written: Written) -> None:
        written.epoch(1.0, 0.9)
        written.result = None
        story = written.story()
        assert not RunDirectory(written.path).is_being_written()
        before = {path: path.stat().st_mtime_ns for path in written.path.rglob("*")}
        with RunDirectory.open(written.path).writing():
            assert RunDirectory(written.path).is_being_written()
            running = read_story(RunDirectory.open(written.path))
        assert (story.status, running.status) == ("unfinished", "running")
        found = diagnose(running, "it would be slowed down")
        assert "another process is writing it; its last word is 0 s old" in _of(found, "end")[0].what
        assert not RunDirectory(written.path).is_being_written()
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_nothing_is_made_where_there_is_no_lock(self, written: Written) -> None:
        written.story()
        assert not RunDirectory(written.path).is_being_written()
        assert not (written.path / "lock").exists()


class TestDamaged:
    @pytest.mark.parametrize(
        ("file", "text", "word"),
        [
            ("run.json", "{", "cannot be read as JSON"),
            ("events.jsonl", '{"event": "step", "step": 1, "loss": "much"}\n', "loss"),
            ("events.jsonl", '{"event": "step", "step": 1, "loss": NaN}\n', "NaN is no JSON"),
            ("events.jsonl", f'{{"event": "step", "step": {10**30}}}\n', "without its step"),
            ("events.jsonl", f'{{"event": "step", "step": 93, "epoch": {10**30}}}\n', "without its step"),
            ("events.jsonl", '{"event": "step", "step": 1, "dead_classes": {}}\n', "dead_classes"),
            ("events.jsonl", "{}\n", "without its step"),
            ("result.json", "[]", "expected an object"),
            ("result.json", '{"status": 5}', "status"),
        ],
    )
    def test_it_is_said_which_file(self, written: Written, file: str, text: str, word: str) -> None:
        written.epoch(1.0)
        written.story()
        (written.path / file).write_text(text)
        with refused(RunError, str(written.path / file), word):
            read_story(RunDirectory.open(written.path))

    def test_examples_that_are_none(self, written: Written) -> None:
        written.dataset["train_examples"] = 0
        with refused(RunError, "run.json", "train_examples"):
            written.story()

    @pytest.mark.parametrize(
        "event",
        [
            {"step": 2**53, "loss": 1e39, "train_acc": 1.0},
            {"step": 0, "loss": 0.0, "train_acc": 0.0},
            {"step": 93, "dead_classes": [-1, 99], "test_dead_classes": [10**30], "epoch": 2**53},
            {"step": 93, "loss": None, "train_acc": None, "dead_classes": None},
        ],
    )
    def test_odd_values_are_survived(self, written: Written, event: dict[str, Any]) -> None:
        written.epoch(1.0)
        written.events.append({"event": "step", **event})
        written.epoch(1.0)
        diagnose(written.story(), "")


Shut = Callable[[list[int]], None]


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> Shut:
    """Lets every later run begin with these channels closed."""
    draw = randomness.initial_parameters

    def change(classes: list[int]) -> None:
        def drawn(*arguments: Any) -> Any:
            params = draw(*arguments)
            params["block1.mlp2.bias"][classes] = -1e3
            return params

        monkeypatch.setattr(randomness, "initial_parameters", drawn)

    return change


class TestRealRuns:
    """600 training and 500 test images, the least that say something of classes."""

    @pytest.fixture
    def architecture(self) -> Architecture:
        layers = [
            {"type": "nin_block", "out_channels": 10, "kernel_size": 3, "stride": 2},
            {"type": "global_avg_pool2d"},
            {"type": "flatten"},
        ]
        return Architecture.model_validate({"name": "tiny", "input": (1, 8, 8), "layers": layers})

    @pytest.fixture
    def job(self, architecture: Architecture) -> Job:
        recipe = Recipe(epochs=2, batch_size=50, lr=0.01)
        return Job(NumpyBackend(), "cpu", "fp64", architecture, synthetic_dataset(600, 500), recipe)

    def test_shut_channels_are_found(self, job: Job, tmp_path: Path, shut: Shut) -> None:
        shut([1, 7])
        train(job, RunDirectory.create(tmp_path / "run"), Silent())
        story = read_story(RunDirectory.open(tmp_path / "run"))
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        network = job.backend.build(
            job.architecture, randomness.initial_parameters(job.architecture, 0), device="cpu", precision="fp64"
        )
        look = look_into(network, job.architecture, job.dataset.test.images, 10)
        found = diagnose(story, look)
        assert not found.is_well
        assert found.classes["dead"] == result["dead_classes"]
        assert {1, 7} <= set(found.classes["dead"])
        assert found.classes["since_step"] == 10  # the first point with 500 images
        assert {CLASSES[1], CLASSES[7]} <= set(
            _of(found, "classes")[0].what.replace(",", ":").replace(": ", ":").split(":")
        )

    def test_what_is_seen_in_a_net(self, job: Job, shut: Shut) -> None:
        shut([1, 7])
        params = randomness.initial_parameters(job.architecture, 0)
        network = job.backend.build(job.architecture, params, device="cpu", precision="fp64")
        look = look_into(network, job.architecture, job.dataset.test.images[:120], 10)
        values: dict[str, list[np.ndarray]] = {}
        for name, value in network.activations(prepare(job.dataset.test.images[:120], job.architecture)):
            values.setdefault(name, []).append(value)
        expected = {
            name: int((np.abs(values[f"block1.{name}"][0]).max((0, 2, 3)) == 0).sum())
            for name in ("relu", "relu1", "relu2")
        }
        assert look.images == 120
        assert [(layer["name"], layer["channels"]) for layer in look.layers] == [
            *(("block1.relu", 10), ("block1.relu1", 10), ("block1.relu2", 10)),
        ]
        assert {layer["name"][7:]: layer["dead"] for layer in look.layers} == expected
        assert {1, 7} <= set(look.dead)
        assert len(look.dead) == expected["relu2"]
        assert look_into(network, job.architecture, job.dataset.test.images[:120], 5).dead == [
            n for n in look.dead if n < 5
        ]

    def test_interrupted(self, job: Job, tmp_path: Path) -> None:
        class Stops(Silent):
            def step(self, progress: Progress) -> None:
                if progress.step == 17:
                    signal.raise_signal(signal.SIGTERM)

        train(job, RunDirectory.create(tmp_path / "run"), Stops())
        directory = RunDirectory.open(tmp_path / "run")
        story = read_story(directory)
        assert (story.status, story.checkpoints) == ("interrupted", [12, 17])
        (end,) = _of(diagnose(story, ""), "end", "note")
        assert end.what == "it was interrupted at step 17 (epoch 2); its last checkpoint is after step 17"
        assert end.remedy == f"to go on: nin_multi train --resume {tmp_path / 'run'}"
        for path in directory.checkpoints():
            path.unlink()
        (end,) = _of(diagnose(read_story(directory), ""), "end", "note")
        assert end.remedy == "train anew: weights alone are nothing to go on from"
