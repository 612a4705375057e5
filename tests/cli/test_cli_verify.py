"""`verify`: what it prints and returns where values agree or differ; what is compared is tested elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nin_multi import registry
from nin_multi.architecture_file import load_architecture
from nin_multi.backend import Params
from nin_multi.cli import verify
from nin_multi.randomness import initial_parameters
from nin_multi.weights import save_weights

ARCH = ["verify", "--arch", "tiny.yaml", "--steps", "2", "--batch-size", "4"]
NUMPY = [*ARCH, "--backend", "numpy"]
LAYERS = [
    *(f"block1.{part}" for part in ("conv", "relu", "mlp1", "relu1", "mlp2", "relu2")),
    *("block1", "dropout1", "global_avg_pool1", "flatten1"),
]
GRADIENTS = [f"block1.{layer}.{kind}" for layer in ("conv", "mlp1", "mlp2") for kind in ("weight", "bias")]
CONTRACT = {"arch", "seed", "precision", "backends", "agree"}
OF_A_BACKEND = {"logits_rel_err", "loss_rel_err", "grad_rel_err", "step_rel_err", "first_divergence"}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console of 80 columns."""
    made = lambda: Console(width=80, highlight=False, markup=False)  # noqa: E731
    monkeypatch.setattr("nin_multi.cli.verify.console", made)


@pytest.fixture
def discovered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends that are there where none is named; to be filled. No framework is started for these tests."""
    names: list[str] = []
    monkeypatch.setattr(registry, "available", lambda: tuple(names))
    return names


def _rows(text: str) -> dict[str, list[str]]:
    """Of each row of a table its first cell, and the others."""
    cells = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return {first: rest for first, *rest in cells if rest}


class TestAgreement:
    def test_json(self, nin, tiny: str) -> None:
        found = nin(*NUMPY, "--seed", "3", "--json")
        assert found.status == 0
        told = found.json
        assert told.keys() >= CONTRACT
        assert (told["arch"], told["input"], told["seed"], told["steps"]) == ("tiny", [4, 1, 8, 8], 3, 2)
        assert (told["precision"], told["agree"]) == ("fp64", True)
        assert told["nearest_decision"] >= 1e-5
        assert list(told["backends"]) == ["numpy"]
        report = told["backends"]["numpy"]
        assert report.keys() >= OF_A_BACKEND
        assert (report["first_divergence"], report["agree"]) == (None, True)
        for field in OF_A_BACKEND - {"first_divergence"}:
            assert 0 <= report[field] < 1e-6, field
        assert list(report["layers"]) == LAYERS
        assert list(report["gradients"]) == GRADIENTS

    def test_for_people(self, nin, tiny: str) -> None:
        found = nin(*NUMPY)
        assert found.status == 0
        assert found.out.startswith("tiny, input 4x1x8x8, fp64 against the float64 oracle\n")
        assert found.out.endswith("\nAll values agree: float64 oracle, numpy.\n")
        rows = _rows(found.out)
        assert rows["relative error of"] == ["allowed", "numpy"]
        assert rows["logits"][1] == "0.0e+00"
        assert rows["loss of 2 steps"][1] == "0.0e+00"
        assert 0 < float(rows["gradients, the furthest"][1]) < float(rows["gradients, the furthest"][0])
        # The tiny net drops half; 0.2 is always asked.
        assert [float(*rows[f"its own dropout at {rate} drops"]) for rate in (0.2, 0.5)] == pytest.approx(
            [0.2, 0.5], abs=0.03
        )
        assert "diverges" not in found.out
        assert "block1.conv" not in found.out

    def test_runs_repeat_and_seeds_differ(self, nin, tiny: str) -> None:
        one, again, other = (nin(*NUMPY, "--seed", seed, "--json").json for seed in ("1", "1", "2"))
        assert one == again
        assert one["nearest_decision"] != other["nearest_decision"]

    def test_layers(self, nin, tiny: str) -> None:
        rows = _rows(nin(*NUMPY, "--layers").out)
        assert {name: rows[name] for name in LAYERS} == {name: ["0.0e+00"] for name in LAYERS}
        for name in GRADIENTS:
            assert 0 <= float(*rows[name]) < 1e-6

    def test_layers_of_a_net_without_parameters(self, nin, tmp_path: Path) -> None:
        (tmp_path / "flat.yaml").write_text("name: flat\ninput: [1, 2, 2]\nlayers:\n  - {type: flatten}\n")
        command = ["verify", "--arch", "flat.yaml", "--backend", "numpy", "--layers"]
        found = nin(*command)
        assert found.status == 0
        assert _rows(found.out)["flatten1"] == ["0.0e+00"]
        assert not re.search(r"^ gradient\b", found.out, re.M)
        assert nin(*command, "--json").json["nearest_decision"] is None  # nothing decides

    def test_no_steps(self, nin, tiny: str) -> None:
        command = [*NUMPY, "--steps", "0"]
        found = nin(*command)
        assert found.status == 0
        assert "steps  " not in found.out
        told = nin(*command, "--json").json
        assert (told["steps"], told["agree"]) == (0, True)
        assert "curve_rel_err" not in told["backends"]["numpy"]

    def test_another_input_and_batch(self, nin, tiny: str) -> None:
        told = nin(*NUMPY, "--input", "2x9x7", "--batch-size", "1", "--json").json
        assert (told["input"], told["agree"]) == ([1, 2, 9, 7], True)


class TestDivergence:
    def test_json(self, nin, others, tiny: str) -> None:
        found = nin(*ARCH, "--backend", "summing", "--json", inside="summing")
        assert found.status == 1
        told = found.json
        assert told.keys() >= CONTRACT
        assert told["agree"] is False
        report = told["backends"]["summing"]
        assert (report["agree"], report["loss_rel_err"], report["logits_rel_err"]) == (False, 0, 0)
        assert report["grad_rel_err"] == pytest.approx(3, rel=1e-5)  # four images
        first = report["first_divergence"]
        assert (first["check"], first["where"]) == ("gradient", "block1.mlp2.bias")
        assert first["error"] == pytest.approx(3, rel=1e-5)
        assert "summed over the batch" in first["causes"][0]
        assert first == report["divergences"][0]

    def test_for_people(self, nin, others, tiny: str) -> None:
        found = nin(*ARCH, "--backend", "summing", inside="summing")
        assert found.status == 1
        assert found.out.endswith("\nThe values DISAGREE: float64 oracle, summing.\n")
        lines = found.out.splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("summing diverges: "))
        assert re.fullmatch(
            r"summing diverges: gradient, block1\.mlp2\.bias, error 3\.0e\+00 \(allowed \de-0\d\)", lines[at]
        )
        expected, observed = (line.split()[1:] for line in lines[at + 1 : at + 3])
        np.testing.assert_allclose(np.array(observed, float), 4 * np.array(expected, float), rtol=1e-5)
        assert lines[at + 3] == "  this would explain it: gradients: summed over the batch, not averaged"
        # What comes after the first is told as that.
        assert [line.split(":")[0] for line in lines if line.startswith("summing")] == [
            "summing diverges",
            *["summing, after that"] * 3,
        ]

    def test_a_wrong_shape_is_no_number(self, nin, others, tiny: str) -> None:
        command = [*ARCH, "--backend", "wrong"]
        found = nin(*command, "--layers", inside="wrong")
        assert found.status == 1
        rows = _rows(found.out)
        assert rows["activations, the furthest"][1] == "inf"
        assert (rows["block1.conv"], rows["block1.mlp1"]) == (["0.0e+00"], ["inf"])
        assert "wrong diverges: activation, block1.mlp1 (allowed" in found.out
        assert rows["expected"] == ["shape 4x10x3x3"]
        assert rows["observed"] == ["shape 4x10x2x3"]
        report = nin(*command, "--json", inside="wrong").json["backends"]["wrong"]
        assert (report["activation_rel_err"], report["layers"]["block1.mlp1"]) == (None, None)
        assert report["first_divergence"]["where"] == "block1.mlp1"

    def test_several_backends_in_processes_of_their_own(self, nin, others, tiny: str) -> None:
        command = [*ARCH, "--backend", "numpy,summing"]
        found = nin(*command, "--json")
        assert found.status == 1
        told = found.json
        assert list(told["backends"]) == ["numpy", "summing"]
        assert [report["agree"] for report in told["backends"].values()] == [True, False]
        assert told["agree"] is False
        # They got the very problem that a single backend gets.
        alone = nin(*NUMPY, "--json").json
        assert told["backends"]["numpy"] == alone["backends"]["numpy"]
        assert told["nearest_decision"] == alone["nearest_decision"]
        found = nin(*command)
        assert found.status == 1
        rows = _rows(found.out)
        assert rows["relative error of"] == ["allowed", "numpy", "summing"]
        assert rows["gradients, the furthest"][2] == "3.0e+00"
        assert "numpy diverges" not in found.out
        assert found.out.endswith("The values DISAGREE: float64 oracle, numpy, summing.\n")

    def test_all_that_were_found_agree(self, nin, others, discovered: list[str], tiny: str) -> None:
        discovered += ["missing", "numpy"]
        found = nin(*ARCH, "--json")
        assert found.status == 0
        assert (list(found.json["backends"]), found.json["agree"]) == (["numpy"], True)
        assert "\nleft out: missing: the package 'a_framework_that_is_nowhere' is not installed.\n" in found.err
        assert "error:" not in found.err

    def test_one_crashes_and_one_differs(self, nin, others, discovered: list[str], tiny: str) -> None:
        discovered += ["crashing", "summing"]
        found = nin(*ARCH)
        assert found.status == 1
        assert "\nleft out: crashing: its process was ended by SIGABRT (the framework crashed)\n" in found.err
        assert found.out.endswith("The values DISAGREE: float64 oracle, summing.\n")


class TestWidth:
    """On a terminal of 80 columns nothing is cut off, and no row is broken in two."""

    @pytest.mark.parametrize("layers", [[], ["--layers"]], ids=["", "--layers"])
    def test_four_backends(self, nin, others, narrow, discovered: list[str], tiny: str, layers: list[str]) -> None:
        discovered += ["mindspore", "mxnet", "numpy", "torch"]
        reports: dict[str, Any] = {}
        for name in discovered:
            of_one = nin(*ARCH, "--backend", "summing", "--json", inside="summing").json["backends"]["summing"]
            reports[name] = {**of_one, "precision": "fp64" if name == "numpy" else "fp32"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nin_multi.cli.verify._verify_each", lambda *_: reports)
            found = nin(*ARCH, *layers)
        assert found.status == 1
        assert max(map(len, found.out.splitlines())) <= 80
        assert "…" not in found.out
        rows = _rows(found.out)
        assert rows["relative error of"] == ["allowed", *discovered]
        words = ["activations, the furthest", "logits", "loss", "parameters after a step", "after two with momentum"]
        for row in (*words, "gradients, the furthest", "loss of 2 steps"):
            assert len(rows[row]) == 5, row
        for row in (*LAYERS, *GRADIENTS) if layers else ():
            assert len(rows[row]) == 4, row
        assert found.out.startswith("tiny, input 4x1x8x8, fp32 and fp64 against the float64 oracle\n")

    @pytest.mark.parametrize("name", ["numpy", "wrong", "summing"])
    def test_one_backend(self, nin, others, narrow, tiny: str, name: str) -> None:
        found = nin(*ARCH, "--backend", name, inside=name)
        assert max(map(len, found.out.splitlines())) <= 80
        assert "…" not in found.out

    def test_what_is_too_long_goes_on_below_its_headline(self, narrow, capsys: pytest.CaptureFixture[str]) -> None:
        told = {"check": "step", "where": "the net", "error": None, "allowed": 0.0, "expected": "an answer"}
        verify._print_finding("torch diverges", {**told, "observed": "much " * 40, "causes": ["long " * 40]})
        first, *rest = capsys.readouterr().out.splitlines()
        assert first == "torch diverges: step, the net"
        assert rest[0] == "  expected  an answer"
        assert max(map(len, rest)) <= 80
        assert all(line.startswith(("  observed  ", "  this would explain it: ", "      ")) for line in rest[1:])
        assert " ".join(rest).count("much") == " ".join(rest).count("long") == 40

    def test_a_terminal(self, others, tmp_path: Path, tiny: str) -> None:
        """The one test with a terminal: what is too large is red there, and the rest is not."""
        pty = pytest.importorskip("pty")
        ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NIN_MULTI_ENVIRONMENT": "summing"}
        environment.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "nin_multi", *ARCH, "--backend", "summing"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way of saying that the other side is closed
                break
            if not part:
                break
            seen += part
        os.close(ours)
        assert process.wait(timeout=60) == 1
        text = seen.decode()
        assert "\x1b[31m3.0e+00\x1b[0m" in text
        assert re.search(r"logits +\S+ +0\.0e\+00", text)
        assert "\x1b[31msumming diverges" in text
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 80


class TestStoredWeights:
    @pytest.fixture
    def params(self, tmp_path: Path, tiny: str) -> Params:
        return initial_parameters(load_architecture(str(tmp_path / tiny)), seed=0)

    def _store(self, folder: Path, params: Params) -> None:
        save_weights(folder / "mine.safetensors", params, load_architecture(str(folder / "tiny.yaml")))

    def test_they_are_taken_as_they_are(self, nin, tmp_path: Path, params: Params) -> None:
        self._store(tmp_path, params)
        command = ["verify", "--weights", "mine.safetensors", "--backend", "numpy", "--batch-size", "4", "--steps", "1"]
        told = nin(*command, "--json").json
        assert (told["arch"], told["input"], told["agree"]) == ("tiny", [4, 1, 8, 8], True)
        random = nin(*NUMPY, "--json").json
        assert told["nearest_decision"] != random["nearest_decision"]
        found = nin(*command)
        assert found.status == 0
        near = f"{told['nearest_decision']:.0e}"
        assert f"The nearest decision of a ReLU or a max pool is {near} from being another.\n" in found.out
        assert "from being another" not in nin(*NUMPY).out

    def test_a_near_decision_is_told(self, nin, tmp_path: Path, params: Params) -> None:
        weight, bias = np.asarray(params["block1.mlp2.weight"]), np.asarray(params["block1.mlp2.bias"])
        weight[3], bias[3] = 0, 1e-12
        self._store(tmp_path, params)
        command = ["verify", "--weights", "mine.safetensors", "--backend", "numpy", "--steps", "0"]
        found = nin(*command)
        assert found.status == 0
        told = nin(*command, "--json").json["nearest_decision"]
        assert 1e-13 < told < 1e-9
        assert f"A ReLU or a max pool is within {told:.0e} of deciding otherwise" in found.out

    def test_they_reach_other_processes(self, nin, others, tmp_path: Path, params: Params) -> None:
        self._store(tmp_path, params)
        command = ["verify", "--weights", "mine.safetensors", "--batch-size", "4", "--steps", "1", "--json"]
        several = nin(*command, "--backend", "numpy,summing").json
        alone = nin(*command, "--backend", "numpy").json
        assert several["backends"]["numpy"] == alone["backends"]["numpy"]
        assert several["nearest_decision"] == alone["nearest_decision"]

    def test_numbers_that_are_none(self, nin, tmp_path: Path, params: Params) -> None:
        np.asarray(params["block1.conv.bias"])[0] = np.nan
        self._store(tmp_path, params)
        found = nin("verify", "--weights", "mine.safetensors", "--backend", "numpy")
        assert (found.status, found.out) == (2, "")
        assert "block1.conv.bias" in found.error
        assert "NaN" in found.error

    def test_an_input_beside_them(self, nin, tmp_path: Path, params: Params) -> None:
        self._store(tmp_path, params)
        found = nin("verify", "--weights", "mine.safetensors", "--input", "1x9x9", "--backend", "numpy")
        assert (found.status, found.out) == (2, "")
        assert "--input" in found.error
        assert "mine.safetensors" in found.error


def _refused(nin, command: list[str], status: int, *fragments: str, inside: str = "numpy") -> None:
    """The same error for people, in one or two lines, and as JSON."""
    plain, as_json = nin(*command, inside=inside), nin(*command, "--json", inside=inside)
    assert plain.status == as_json.status == status, plain.err
    assert plain.out == ""
    assert plain.error == as_json.error
    for fragment in fragments:
        assert fragment in plain.error
    assert as_json.json.keys() == {"error"}
    assert (as_json.json["error"]["exit_status"], as_json.json["error"]["message"]) == (status, plain.error)


class TestRefusals:
    @pytest.mark.parametrize(
        ("more", "fragments"),
        [
            (["--batch-size", "0"], ["--batch-size"]),
            (["--batch-size", "many"], ["--batch-size"]),
            (["--steps", "-1"], ["--steps"]),
            (["--seed", "-1"], ["--seed: expected 0 to", "got -1"]),
            (["--seed", str(2**64)], ["--seed: expected 0 to", f"got {2**64}"]),
            (["--input", "1x8"], ["--input", "1x161x193", "got '1x8'"]),
            (["--input", "1x2x2"], ["block1", "kernel does not fit"]),
            (["--arch", "nowhere.yaml"], ["nowhere.yaml: no such architecture file"]),
            (["--arch", "nin-minst"], ["'nin-minst'", "Did you mean 'nin-mnist'?"]),
            (["--weights", "nowhere"], ["nowhere: no such weights file"]),
            (["--weights", "tiny.yaml"], ["tiny.yaml", "not a complete safetensors file"]),
            (["--backend", "nunpy"], ["'nunpy'", "Did you mean 'numpy'?"]),
            (["--backend", "numpy,nunpy"], ["'nunpy'", "Did you mean 'numpy'?"]),
            (["--backend", ","], ["--backend: expected one or more names"]),
            (["--layer"], ["--layer"]),
            (["extra"], ["extra"]),
        ],
        ids=lambda value: " ".join(value)[:40],
    )
    def test_bad_input(self, nin, tiny: str, more: list[str], fragments: list[str]) -> None:
        _refused(nin, [*NUMPY, *more], 2, *fragments)

    @pytest.mark.parametrize(
        ("more", "fragments"),
        [
            (["--device", "cuda:0"], ["numpy", "'cuda:0'", "usable now: cpu"]),
            (["--precision", "bf16"], ["numpy", "'bf16'", "it offers fp64"]),
        ],
        ids=["device", "precision"],
    )
    def test_what_cannot_start(self, nin, others, tiny: str, more: list[str], fragments: list[str]) -> None:
        _refused(nin, [*NUMPY, *more], 3, *fragments)
        assert "the oracle" not in nin(*NUMPY, *more).err  # it is not asked in vain: for a large net that takes minutes
        found = nin(*ARCH, "--backend", "numpy,summing", *more)  # from another process
        assert (found.status, found.out) == (3, "")
        for fragment in fragments:
            assert fragment in found.error

    @pytest.mark.parametrize(("name", "reason"), [("missing", "is not installed"), ("broken", "libbroken.so.1")])
    def test_a_named_backend_that_cannot_start(self, nin, others, tiny: str, name: str, reason: str) -> None:
        _refused(nin, [*ARCH, "--backend", name], 3, f"{name}: ", reason, inside=name)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("missing", "is not installed"), ("crashing", "SIGABRT"), ("unloadable", "RuntimeError: bad adapter")],
    )
    def test_one_of_several_that_cannot_start(self, nin, others, tiny: str, name: str, reason: str) -> None:
        found = nin(*ARCH, "--backend", f"numpy,{name}", "--json")
        assert found.status == 3
        assert found.error.startswith(f"{name}: ")
        assert reason in found.error
        error = found.json["error"]
        assert (error["type"], error["message"], error["exit_status"]) == ("BackendUnavailable", found.error, 3)

    def test_where_none_can_start_nothing_agrees(self, nin, others, discovered: list[str], tiny: str) -> None:
        discovered += ["missing", "numpy"]
        found = nin(*ARCH, "--device", "cuda:7", "--json")
        assert found.status == 3
        assert "--device cuda:7" in found.error
        assert found.err.count("left out: ") == 2
        assert found.json["error"]["type"] == "BackendUnavailable"

    def test_folders_for_children_are_taken_away(
        self, nin, others, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        aside = tmp_path / "aside"
        aside.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(aside))
        assert nin(*ARCH, "--backend", "wrong,missing").status == 3
        assert list(aside.iterdir()) == []


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(nin, flag: str) -> None:
    found = nin("verify", flag)
    assert (found.status, found.err) == (0, "")
    for option in ("--json", "--layers", "--weights", "--steps"):
        assert option in found.out
    assert "--truth" not in found.out  # for processes of our own


def test_a_process_by_itself(tmp_path: Path, tiny: str) -> None:
    """As a user calls it, with one JSON object on stdout and the words for people on stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "nin_multi", *NUMPY, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["agree"] is True
    assert "asking the oracle" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
