"""`pictures`: what it writes and says; the same samples for every run; what it does without images or parameters."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nin_multi import data, randomness
from nin_multi.architecture_file import load_architecture
from nin_multi.cli.pictures import FILES
from nin_multi.launcher import Child
from nin_multi.training.run_directory import RunDirectory

KEYS = {"run", "backend", "written", "samples", "pictures", "not_drawn"}
ALL = set(FILES)


@pytest.fixture
def trained(nin, flags: list[str]) -> Any:
    def train(name: str = "run", *more: str) -> Path:
        words = ["--lr", "0.05", "--init", "he", "--run-dir", name, *more]
        assert nin("train", "--backend", "numpy", *flags, *words).status == 0
        return Path(name)

    return train


@pytest.fixture
def run(trained) -> Path:
    path: Path = trained()
    return path


def _drawn(answer: dict[str, Any]) -> set[str]:
    return {name for name, svg in answer["pictures"].items() if svg}


def _change(run: Path, **facts: Any) -> None:
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **facts}))


class TestOfARun:
    def test_all_of_them(self, nin, run: Path) -> None:
        before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        found = nin("pictures", run, "--json")
        assert (found.status, found.err) == (0, "")
        answer = found.json
        assert answer.keys() == KEYS
        assert (answer["run"], answer["backend"], answer["not_drawn"]) == ("run", "numpy", {})
        assert answer["written"] == [f"run/{name}" for name in FILES.values()]
        assert answer["pictures"].keys() == ALL
        for name, svg in answer["pictures"].items():
            assert ET.fromstring(svg).tag.endswith("svg")
            assert (run / FILES[name]).read_text() == svg
        # Nothing else is touched, and the curve is the one that the run drew itself.
        assert all((run / name).read_bytes() == content for name, content in before.items())
        title = f"tiny on {json.loads((run / 'run.json').read_text())['dataset']['title']}, numpy"
        assert all(title in answer["pictures"][name] for name in ("class_maps", "filters", "activations"))

    def test_elsewhere_the_run_stays_as_it_is(self, nin, run: Path, content) -> None:
        before = content()
        found = nin("pictures", run, "--out", "a/b")
        assert found.status == 0
        assert found.out.splitlines() == [f"a/b/{name}" for name in FILES.values()]
        after = content()
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {"a", "a/b", *(f"a/b/{name}" for name in FILES.values())}

    def test_again_they_are_equal(self, nin, run: Path) -> None:
        assert nin("pictures", run, "--json").json == nin("pictures", run, "--json").json

    def test_samples(self, nin, run: Path, synthetic: data.Dataset) -> None:
        samples = nin("pictures", run, "--json").json["samples"]
        labels = synthetic.test.labels[:500]
        assert [sample["label"] for sample in samples[:10]] == list(range(10))
        assert [sample["index"] for sample in samples[:10]] == [int(np.argmax(labels == c)) for c in range(10)]
        assert len(samples) == 12
        for sample in samples:
            assert sample.keys() == {"index", "label", "predicted", "probabilities", "image"}
            assert sample["label"] == labels[sample["index"]]
            assert sample["predicted"] == int(np.argmax(sample["probabilities"]))
            assert sum(sample["probabilities"]) == pytest.approx(1, abs=1e-5)
            kind, _, png = sample["image"].partition(",")
            assert kind == "data:image/png;base64"
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
            np.testing.assert_array_equal(pixels, synthetic.test.images[sample["index"]])
        wrong = samples[10:]
        assert all(sample["predicted"] != sample["label"] for sample in wrong)
        assert max(wrong[0]["probabilities"]) >= max(wrong[1]["probabilities"])

    def test_other_runs_have_the_same_samples(self, nin, run: Path, trained) -> None:
        other = trained("other", "--seed", "9", "--test-examples", "30")
        first, second = (nin("pictures", path, "--json").json["samples"] for path in (run, other))
        assert [one["index"] for one in first[:10]] == [one["index"] for one in second[:10]]
        assert [one["probabilities"] for one in first] != [one["probabilities"] for one in second]

    def test_the_probabilities_are_those_of_predict(self, nin, run: Path, tmp_path: Path) -> None:
        (sample, *_) = nin("pictures", run, "--json").json["samples"]
        (tmp_path / "0.png").write_bytes(base64.b64decode(sample["image"].partition(",")[2]))
        (found,) = nin("predict", run, "0.png", "--no-invert", "--json").json["predictions"]
        assert found["probabilities"] == pytest.approx(sample["probabilities"], abs=1e-6)

    def test_without_class_maps(self, nin, tmp_path: Path, flags: list[str]) -> None:
        text = "name: flat\ninput: [1, 8, 8]\nlayers:\n  - {type: flatten}\n  - {type: linear, out_features: 10}\n"
        (tmp_path / "flat.yaml").write_text(text)
        flags[flags.index("--arch") + 1] = "flat.yaml"
        assert nin("train", "--backend", "numpy", *flags, "--run-dir", "flat").status == 0
        found = nin("pictures", "flat", "--json")
        assert found.status == 0
        assert _drawn(found.json) == {"activations", "curve", "diagram"}
        assert "global average pooling" in found.json["not_drawn"]["class_maps"]
        assert "no convolution" in found.json["not_drawn"]["filters"]
        assert len(found.json["samples"]) == 12

    def test_more_outputs_than_labels(self, nin, tmp_path: Path, tiny: str, flags: list[str]) -> None:
        (tmp_path / tiny).write_text((tmp_path / tiny).read_text().replace("out_channels: 10", "out_channels: 13"))
        assert nin("train", "--backend", "numpy", *flags, "--run-dir", "wide").status == 0
        found = nin("pictures", "wide", "--json").json
        assert _drawn(found) == ALL
        assert len(found["samples"][0]["probabilities"]) == 13

    def test_a_net_that_gives_nothing(self, nin, trained, monkeypatch: pytest.MonkeyPatch) -> None:
        draw = randomness.initial_parameters

        def drawn(*arguments: Any) -> Any:
            params = draw(*arguments)
            params["block1.mlp2.bias"][:] = -1e3
            return params

        monkeypatch.setattr(randomness, "initial_parameters", drawn)
        assert _drawn(nin("pictures", trained(), "--json").json) == ALL


class TestUnfinished:
    def test_from_its_last_checkpoint(self, nin, run: Path) -> None:
        whole = nin("pictures", run, "--out", "whole", "--json").json
        for name in ("weights.safetensors", "result.json"):
            (run / name).unlink()
        assert nin("pictures", run, "--json").json["samples"] == whole["samples"]

    def test_being_written(self, nin, run: Path) -> None:
        with RunDirectory.open(run).writing():
            found = nin("pictures", run, "--json")
        assert found.status == 0
        assert _drawn(found.json) == ALL
        assert found.err == "run: another process is writing this run; its net is seen as in its last checkpoint\n"

    def test_without_parameters_the_rest_is_drawn(self, nin, run: Path) -> None:
        shutil.rmtree(run / "checkpoints")
        (run / "weights.safetensors").unlink()
        found = nin("pictures", run)
        assert found.status == 0
        assert found.out.splitlines() == [f"run/{FILES[name]}" for name in ("activations", "curve", "diagram")]
        assert found.err.splitlines() == [
            f"not drawn: {FILES[name]}: it has left no weights, and no checkpoint" for name in ("filters", "class_maps")
        ]

    def test_just_begun(self, nin, run: Path) -> None:
        shutil.rmtree(run / "checkpoints")
        for name in ("weights.safetensors", "result.json", "events.jsonl", "curve.svg"):
            (run / name).unlink()
        found = nin("pictures", run, "--json").json
        assert _drawn(found) == {"diagram"}
        assert found["not_drawn"].keys() == ALL - {"diagram"}
        assert found["samples"] == []

    def test_an_older_run(self, nin, run: Path) -> None:
        events = [line for line in (run / "events.jsonl").read_text().splitlines() if '"layers"' not in line]
        (run / "events.jsonl").write_text("\n".join(events) + "\n")
        found = nin("pictures", run, "--json").json
        assert _drawn(found) == ALL - {"activations"}
        assert "an older run" in found["not_drawn"]["activations"]

    def test_parameters_that_are_no_numbers(self, nin, run: Path) -> None:
        from nin_multi.weights import load_weights, save_weights

        stored = load_weights(run / "weights.safetensors")
        params = {name: np.full_like(value, np.nan) for name, value in stored.params.items()}
        save_weights(run / "weights.safetensors", params, stored.architecture, **stored.facts)
        found = nin("pictures", run, "--json")
        assert found.status == 0
        assert "no number" in found.json["not_drawn"]["class_maps"]
        assert found.json["samples"] == []


class TestImagesThatAreNotHere:
    @pytest.mark.parametrize("name", ["fashion-mnist", "mine"])
    def test_nothing_is_fetched(self, nin, run: Path, name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
        _change(run, dataset={**json.loads((run / "run.json").read_text())["dataset"], "name": name})
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        found = nin("pictures", run, "--json")
        assert found.status == 0
        assert _drawn(found.json) == ALL - {"class_maps"}
        word = "no test images: " if name == "fashion-mnist" else "'mine' are not known"
        assert word in found.json["not_drawn"]["class_maps"]
        assert found.json["samples"] == []


class TestErrors:
    def test_no_run(self, nin) -> None:
        found = nin("pictures", "nowhere")
        assert (found.status, found.error) == (2, "nowhere: not a run directory (it has no run.json)")

    @pytest.mark.parametrize(("name", "text"), [("run.json", "{"), ("events.jsonl", "{\n{}\n"), ("result.json", "[")])
    def test_damaged(self, nin, run: Path, name: str, text: str) -> None:
        (run / name).write_text(text)
        found = nin("pictures", run)
        assert found.status == 2
        assert found.error.startswith(f"run/{name}: ")

    @pytest.mark.parametrize("word", ["missing", "broken"])
    def test_a_backend_that_cannot_start(self, nin, run: Path, others: Path, word: str, content) -> None:
        _change(run, backend=word)
        before = content()
        found = nin("pictures", run, inside=word)
        assert found.status == 3
        assert word in found.error
        assert content() == before
        assert nin("pictures", run, "--backend", "numpy").status == 0

    def test_its_own_backend_is_the_last_one_that_took_it_up(self, nin, run: Path, others: Path) -> None:
        _change(run, resumed=[{"backend": "missing", "device": "cpu", "precision": "fp64"}])
        assert nin("pictures", run, inside="missing").status == 3

    def test_a_place_where_nothing_can_be_written(self, nin, run: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        found = nin("pictures", run, "--out", "file")
        assert found.status == 2
        assert "file" in found.error

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ([], "--arch"),
            (["run", "--arch", "nin"], "--arch"),
            (["--arch", "nin", "--backend", "numpy"], "--backend"),
            (["--arch", ","], "--arch"),
            (["--arch", "nin,nun"], "nun"),
            (["run", "--backend", "nunpy"], "'numpy'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_bad_usage(self, nin, run: Path, arguments: list[str], word: str) -> None:
        found = nin("pictures", *arguments)
        assert found.status == 2
        assert word in found.error


class TestBlocksAlone:
    def test_of_some_architectures(self, nin, tiny: str) -> None:
        found = nin("pictures", "--arch", f"nin,alexnet,{tiny}", "--out", "blocks.svg")
        assert (found.status, found.out, found.err) == (0, "blocks.svg\n", "")
        text = "".join(ET.parse("blocks.svg").getroot().itertext())
        assert all(name in text for name in ("nin", "alexnet", "tiny"))

    def test_json(self, nin) -> None:
        answer = nin("pictures", "--arch", "vgg11", "--json").json
        assert answer.keys() == KEYS
        assert (answer["run"], answer["backend"], answer["written"]) == (None, None, ["diagram.svg"])
        assert _drawn(answer) == {"diagram"}
        assert f"{load_architecture('vgg11').parameters / 1e6:.0f} M parameters" in answer["pictures"]["diagram"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_sees_what_the_oracle_sees(nin, run: Path) -> None:
    command = ["pictures", str(run.absolute())]
    results = {name: Child(name, [*command, "--out", name, "--backend", name]).result() for name in ("torch", "numpy")}
    assert [result.exit_status for result in results.values()] == [0, 0]
    a, b = (np.array([one["probabilities"] for one in (r.answer or {})["samples"]]) for r in results.values())
    np.testing.assert_allclose(a, b, atol=2e-6)
    assert (results["torch"].answer or {})["backend"] == "torch"
