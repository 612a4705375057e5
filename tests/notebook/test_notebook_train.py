"""`nin_multi.train` and `open_run`, in real processes: what is shown, comes back, is raised, what a stop leaves."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from notebook_stop import stopped_after

import nin_multi
from nin_multi.architecture_file import format_architecture
from nin_multi.errors import BackendUnavailable, DataError, RunError, UsageError
from nin_multi.notebook.runs import Run
from nin_multi.spec import Architecture
from nin_multi.training.run_directory import RunDirectory


@pytest.fixture
def run(here: Path, tiny: Architecture, few: dict[str, Any]) -> Run:
    return nin_multi.train("numpy", tiny, **few, run_dir="run")


class TestARun:
    def test_it_is_what_its_files_say(self, run: Run, tiny: Architecture, here: Path) -> None:
        directory = RunDirectory.open(here / "run")
        assert run.path == Path("run")
        assert (run.result, run.events, run.facts) == (directory.result(), directory.events(), directory.facts())
        assert (run.architecture, run.status, run.recipe.epochs) == (tiny, "done", 2)
        params = run.params()
        assert {name: value.shape for name, value in params.items()} == tiny.parameter_shapes()
        assert all(isinstance(value, np.ndarray) for value in params.values())

    def test_opened_again_it_is_the_same(self, run: Run, here: Path) -> None:
        again = nin_multi.open_run(here / "run")
        assert (again.result, again.events) == (run.result, run.events)
        assert again.curve() == run.curve()

    def test_its_curve_is_the_one_of_the_directory(self, run: Run, here: Path) -> None:
        curve = run.curve()
        assert curve._repr_svg_().encode() == (here / "run" / "curve.svg").read_bytes()

    def test_in_a_line_and_in_a_notebook(self, run: Run, read_html) -> None:
        acc, loss = f"{run.result['test_acc']:.3f}", f"{run.result['loss']:.3f}"
        assert re.fullmatch(
            rf"<Run run: tiny on numpy, done, loss {loss}, train acc .*, test acc {acc}, .*>", repr(run)
        )
        read = read_html(run._repr_html_())
        assert read.rows[0] == ["", "", "loss", "train acc", "test acc", "images/s", "compute"]
        assert (read.rows[1][2], read.rows[1][4]) == (loss, acc)
        (address,) = [value for tag, name, value in read.attributes if (tag, name) == ("img", "src")]
        picture = base64.b64decode(address.removeprefix("data:image/svg+xml;base64,"))
        assert picture.decode() == run.curve()

    def test_no_run_there(self, here: Path) -> None:
        with pytest.raises(RunError, match="not a run directory"):
            nin_multi.open_run("nowhere")

    def test_without_weights_it_gives_those_of_its_last_checkpoint(self, run: Run, here: Path) -> None:
        whole = run.params()
        (here / "run" / "weights.safetensors").unlink()
        assert {name: value.tolist() for name, value in run.params().items()} == {
            name: value.tolist() for name, value in whole.items()
        }
        for path in RunDirectory.open(here / "run").checkpoints():
            path.unlink()
        with pytest.raises(RunError, match="it has left no weights, and no checkpoint"):
            run.params()


class TestTraining:
    def test_settings_arrive(self, here: Path, tiny: Architecture, few: dict[str, Any]) -> None:
        more = {"recipe": "dependable", "final_relu": True, "lr": 0.05, "dropout_rate": 0.25, "seed": 3}
        run = nin_multi.train("numpy", tiny, **few, **more, runs_dir=here / "mine", checkpoint_every=5)
        assert run.path.parent == here / "mine"
        told = run.recipe.as_dict()
        assert {name: told[name] for name in more if name != "recipe"} == {
            name: value for name, value in more.items() if name != "recipe"
        }
        assert (told["momentum"], told["init"], told["epochs"], told["batch_size"]) == (0.9, "he", 2, 10)
        assert run.facts["checkpoint_every"] == "5"

    def test_outside_a_notebook_it_says_lines(
        self, here: Path, tiny: Architecture, few: dict[str, Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        nin_multi.train("numpy", tiny, **few)
        out, err = capfd.readouterr()
        assert out == ""
        assert err.splitlines()[0] == "numpy  starts"
        assert re.search(r"^numpy  epoch 2/2: loss ", err, re.MULTILINE)
        assert err.splitlines()[-1] == "numpy  done"

    def test_its_own_error_is_raised_here(self, here: Path, tiny: Architecture, few: dict[str, Any]) -> None:
        with pytest.raises(DataError, match="no-such-folder"):
            nin_multi.train("numpy", tiny, **{**few, "dataset": "fashion-mnist"}, data_dir="no-such-folder")
        with pytest.raises(UsageError, match=r"knobs: none; got 'nope'"):
            nin_multi.train("numpy", tiny, **few, set={"nope": 1})
        with pytest.raises(BackendUnavailable, match="bf16"):
            nin_multi.train("numpy", tiny, **few, precision="bf16")
        assert not list(here.glob("runs/*"))

    def test_a_run_that_diverges_comes_back(
        self, here: Path, tiny: Architecture, few: dict[str, Any], read_html
    ) -> None:
        run = nin_multi.train("numpy", tiny.without_last_relu(), **few, lr=1e200)
        assert run.status == "diverged"
        shown = run._repr_html_()
        read_html(shown)
        assert "a smaller --lr may help" in shown

    def test_going_on(self, run: Run, tiny: Architecture, few: dict[str, Any]) -> None:
        more = nin_multi.train(resume=run.path, epochs=3)
        assert more.path == run.path
        assert [event["epoch"] for event in more.events if event["event"] == "epoch"] == [1, 2, 3]
        with pytest.raises(UsageError, match=r"^lr: a resumed run keeps"):
            nin_multi.train(resume=run.path, lr=0.5)
        with pytest.raises(RunError, match="all of its 3 epochs are done"):
            nin_multi.train(resume=run.path)


PROGRAM = """
import sys
import nin_multi
try:
    nin_multi.train("numpy", "tiny.yaml", dataset="synthetic", train_examples=64, test_examples=20, batch_size=16,
                    epochs=10**6, run_dir="run", checkpoint_every="epoch")
except KeyboardInterrupt as stop:
    print(stop)
print(sorted({"torch", "mindspore", "mxnet"} & sys.modules.keys()))
"""


def test_who_stops_it_at_once_is_told_so(here: Path, tiny: Architecture) -> None:
    (here / "tiny.yaml").write_text(format_architecture(tiny))
    out, _ = stopped_after(PROGRAM, here, ["starts"])
    assert out.startswith("stopped ")
    assert not (here / "run").exists() or nin_multi.open_run(here / "run").status in ("interrupted", "unfinished")


def test_who_stops_it_gets_a_run_to_go_on_with(here: Path, tiny: Architecture) -> None:
    """As the notebook's stop button does, by SIGINT; the run ends with a checkpoint, and no framework came in here."""
    (here / "tiny.yaml").write_text(format_architecture(tiny))
    out, _ = stopped_after(PROGRAM, here, ["step "])
    run = nin_multi.open_run(here / "run")
    assert run.status == "interrupted"
    said, modules = out.splitlines()
    step = run.result["steps"]
    assert said == (
        f"stopped at step {step:,}; to look at it: nin_multi.open_run('run'); to go on: "
        "nin_multi.train(resume='run'), or nin_multi train --resume run"
    )
    assert modules == "[]"
    assert RunDirectory.open(run.path).checkpoints()[-1].stem == f"step-{step:06d}"
    assert "to go on" in run._repr_html_()
    assert not RunDirectory.open(run.path).is_being_written()


class TestInANotebook:
    def test_the_curve_grows_in_place(self, cell, tiny: Architecture, few: dict[str, Any], read_html) -> None:
        """One output that is replaced, with the curve once there are points; nothing as plain lines beside it."""
        result, outputs = cell("import nin_multi\nrun = nin_multi.train('numpy', tiny, **few)", tiny=tiny, few=few)
        assert result.success
        assert [output["update"] for output in map(vars_of, outputs)] == [False] + [True] * (len(outputs) - 1)
        assert len({output["transient"]["display_id"] for output in map(vars_of, outputs)}) == 1
        first, last = (vars_of(outputs[index])["data"] for index in (0, -1))
        assert "<img" not in first["text/html"]
        assert "waiting" in first["text/plain"]
        read = read_html(last["text/html"])
        run = nin_multi.open_run(next(Path("runs").iterdir()))
        (address,) = [value for tag, name, value in read.attributes if (tag, name) == ("img", "src")]
        assert base64.b64decode(address.partition(",")[2]).decode() == run.curve()
        assert f"{run.result['test_acc']:.3f}" in last["text/plain"]
        assert [f"{run.result['loss']:.3f}" in row for row in read.rows] == [False, True]

    def test_the_run_itself_is_shown_below_without_its_curve_again(self, cell, tiny, few: dict[str, Any]) -> None:
        result, outputs = cell("import nin_multi\nrun = nin_multi.train('numpy', tiny, **few)\nrun", tiny=tiny, few=few)
        assert result.success
        shown = vars_of(outputs[-1])["data"]["text/html"]
        assert "<img" not in shown
        _, (again,) = cell("run")
        assert "<img" in vars_of(again)["data"]["text/html"]

    def test_a_failure_is_shown_and_raised(self, cell, tiny: Architecture, few: dict[str, Any]) -> None:
        code = "import nin_multi\nnin_multi.train('numpy', tiny, **few, precision='bf16')"
        result, outputs = cell(code, tiny=tiny, few=few)
        assert isinstance(result.error_in_exec, BackendUnavailable)
        assert "bf16" in vars_of(outputs[-1])["data"]["text/html"]
        assert "failed" in vars_of(outputs[-1])["data"]["text/plain"]

    def test_an_architecture_shows_its_table(self, cell) -> None:
        _, (output,) = cell("import nin_multi\nnin_multi.load('nin-mnist')")
        assert "349,674" in vars_of(output)["data"]["text/html"]


def vars_of(output: Any) -> dict[str, Any]:
    """What was published, of either kind of output."""
    return output if "update" in output else {"update": False, "transient": {}, **output}
