"""`predict`, and what it has in common with `evaluate`: a run directory or a weights file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from nin_multi import randomness, registry
from nin_multi.architecture_file import parse_architecture
from nin_multi.data import CLASSES, Dataset
from nin_multi.data.batches import evaluation_batches
from nin_multi.data.dataset import Split
from nin_multi.weights import load_weights, save_weights

TWELVE = """\
name: twelve
input: [3, 8, 8]
layers:
  - {type: flatten}
  - {type: linear, out_features: 12}
"""


@pytest.fixture
def run(nin, flags: list[str], tmp_path: Path) -> Path:
    """A little trained, with numbers that differ from picture to picture."""
    more = ["--lr", "0.2", "--seed", "3", "--init", "he", "--epochs", "4", "--run-dir", "run"]
    assert nin("train", "--backend", "numpy", *flags, *more).status == 0
    return tmp_path / "run"


@pytest.fixture
def pictures(tmp_path: Path, synthetic: Dataset) -> list[str]:
    """The first five test images, as files."""
    names = [f"{number}.png" for number in range(5)]
    for name, image in zip(names, synthetic.test.images, strict=False):
        Image.fromarray(image).save(tmp_path / name)
    return names


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


class TestJson:
    def test_pictures_of_test_images_give_what_evaluation_gives_to_the_bit(
        self, nin, run: Path, pictures: list[str], synthetic: Dataset
    ) -> None:
        found = nin("predict", "run", *pictures, "--top", "2", "--json")
        assert found.status == 0
        result = found.json
        assert result.keys() == {"weights", "backend", "predictions"}
        assert (result["weights"], result["backend"]) == ("run", "numpy")
        stored = load_weights(run / "weights.safetensors")
        network = registry.load("numpy").build(stored.architecture, stored.params, device="cpu", precision="fp64")
        split = Split(synthetic.test.images[:5], synthetic.test.labels[:5])
        (batch,) = evaluation_batches(split, stored.architecture, 128)
        expected = _softmax(network.logits(batch.x))
        assert len({row.tobytes() for row in expected}) == 5
        for name, row, prediction in zip(pictures, expected, result["predictions"], strict=True):
            assert prediction.keys() == {"image", "inverted", "top", "probabilities"}
            assert (prediction["image"], prediction["inverted"]) == (name, False)
            assert prediction["probabilities"] == row.tolist()
            best = np.argsort(-row)[:2].tolist()
            assert prediction["top"] == [
                {"label": label, "name": CLASSES[label], "probability": row[label]} for label in best
            ]

    def test_inverted_pictures_and_how_to_say_otherwise(self, nin, run, pictures, tmp_path: Path) -> None:
        Image.fromarray(255 - np.asarray(Image.open(tmp_path / "3.png"))).save(tmp_path / "white.png")
        plain, itself = nin("predict", "run", "3.png", "white.png", "--json").json["predictions"]
        assert (plain["inverted"], itself["inverted"]) == (False, True)
        assert itself["probabilities"] == plain["probabilities"]
        (told,) = nin("predict", "run", "white.png", "--no-invert", "--json").json["predictions"]
        assert told["inverted"] is False
        assert told["probabilities"] != plain["probabilities"]
        (turned,) = nin("predict", "run", "3.png", "--invert", "--json").json["predictions"]
        assert turned["inverted"] is True
        assert turned["probabilities"] == told["probabilities"]

    @pytest.mark.parametrize("top", [1, 3, 10, 99])
    def test_top(self, nin, run, pictures, top: int) -> None:
        (found,) = nin("predict", "run", "0.png", "--top", str(top), "--json").json["predictions"]
        assert len(found["top"]) == min(top, 10)
        chances = [choice["probability"] for choice in found["top"]]
        assert chances == sorted(found["probabilities"], reverse=True)[:top]
        assert sum(found["probabilities"]) == pytest.approx(1.0)

    def test_more_pictures_than_fit_a_batch(self, nin, run, pictures) -> None:
        found = nin("predict", "run", *(pictures * 30), "--json").json["predictions"]
        assert [one["image"] for one in found] == pictures * 30
        rows = [one["probabilities"] for one in found]
        np.testing.assert_allclose(rows, rows[:5] * 30, rtol=1e-12)


class TestForPeople:
    def test_a_little_table_each(self, nin, run, pictures, tmp_path: Path) -> None:
        Image.fromarray(255 - np.asarray(Image.open(tmp_path / "3.png"))).save(tmp_path / "white.png")
        found = nin("predict", "run", "3.png", "white.png", "--top", "2")
        assert found.status == 0
        assert "synthetic images" in found.err
        lines = found.out.splitlines()
        assert [lines[0], lines[3]] == ["3.png", "white.png (inverted: its ground is light)"]
        assert lines[1:3] == lines[4:6]
        (json_found,) = nin("predict", "run", "3.png", "--top", "2", "--json").json["predictions"]
        for line, choice in zip(lines[1:3], json_found["top"], strict=True):
            shown = re.fullmatch(r"  (\S.*?) +(\d+\.\d\d) %", line)
            assert shown is not None, line
            assert shown[1] == choice["name"]
            assert float(shown[2]) == pytest.approx(100 * choice["probability"], abs=0.0051)

    def test_eighty_columns(self, nin, run, pictures, tmp_path: Path) -> None:
        long = tmp_path / ("folder-" * 10) / ("picture-" * 10 + "end\n.png")
        long.parent.mkdir()
        shutil.copy(tmp_path / "3.png", long)
        Image.fromarray(255 - np.asarray(Image.open(long))).save(long)
        for more, told in (
            ([], " (inverted: its ground is light)"),
            (["--invert"], " (inverted)"),
            (["--no-invert"], ""),
        ):
            found = nin("predict", "run", long.relative_to(tmp_path), *more)
            lines = found.out.splitlines()
            assert len(lines) == 4
            assert all(len(line) <= 80 for line in lines)
            assert re.fullmatch(rf"\.\.\.[a-z-]*-end\\n\.png'{re.escape(told)}", lines[0])


class TestNames:
    def test_other_class_counts_have_numbers(self, nin, pictures, tmp_path: Path) -> None:
        twelve = parse_architecture(TWELVE)
        params = randomness.initial_parameters(twelve, 0)
        params["linear1.bias"][11] = 9
        save_weights(tmp_path / "w.safetensors", params, twelve, backend="numpy", dataset="fashion-mnist")
        (found,) = nin("predict", "w.safetensors", "0.png", "--json").json["predictions"]
        assert (found["top"][0]["label"], found["top"][0]["name"]) == (11, "class 11")
        assert {choice["name"] for choice in found["top"]} == {f"class {choice['label']}" for choice in found["top"]}
        assert len(found["probabilities"]) == 12
        assert "class 11" in nin("predict", "w.safetensors", "0.png").out

    @pytest.mark.parametrize("facts", [{}, {"dataset": "cifar10"}, {"dataset": 3}])
    def test_so_have_ten_classes_of_something_unknown(self, nin, run, pictures, tmp_path: Path, facts) -> None:
        stored = load_weights(run / "weights.safetensors")
        save_weights(tmp_path / "w.safetensors", stored.params, stored.architecture, **facts)
        (found,) = nin("predict", "w.safetensors", "0.png", "--backend", "numpy", "--json").json["predictions"]
        assert found["top"][0]["name"] == f"class {found['top'][0]['label']}"


class TestWeightsFile:
    def test_like_its_run(self, nin, run, pictures) -> None:
        for command in (["predict"], ["evaluate"]):
            more = pictures if command == ["predict"] else ["--test-examples", "20"]
            answers = [nin(*command, path, *more, "--json").json for path in ("run", "run/weights.safetensors")]
            names = [answer.pop("weights" if command == ["predict"] else "run") for answer in answers]
            assert names == ["run", "run/weights.safetensors"]
            if command == ["evaluate"]:  # in batches of 10 and of 128
                assert answers[0].pop("loss") == pytest.approx(answers[1].pop("loss"), rel=1e-12)
            assert answers[0] == answers[1]

    def test_a_checkpoint_is_one_too(self, nin, run, pictures) -> None:
        path = "run/checkpoints/step-000028.safetensors"
        assert (
            nin("predict", path, "0.png", "--json").json["predictions"]
            == (nin("predict", "run", "0.png", "--json").json["predictions"])
        )

    def test_what_it_does_not_say_has_to_be_said(self, nin, run, pictures, tmp_path: Path) -> None:
        stored = load_weights(run / "weights.safetensors")
        save_weights(tmp_path / "w.safetensors", stored.params, stored.architecture)
        assert nin("predict", "w.safetensors", "0.png").error.startswith("--backend: w.safetensors does not say")
        found = nin("evaluate", "w.safetensors", "--backend", "numpy")
        assert (found.status, found.error.split(" ")[0]) == (2, "--dataset:")
        more = ["--backend", "numpy", "--dataset", "synthetic", "--test-examples", "20", "--json"]
        whole = nin("evaluate", "run", "--test-examples", "20", "--json").json
        assert nin("evaluate", "w.safetensors", *more).json["loss"] == pytest.approx(whole["loss"], rel=1e-12)

    def test_more_labels_than_classes(self, nin, tmp_path: Path) -> None:
        text = TWELVE.replace("12", "9")
        nine = parse_architecture(text)
        save_weights(tmp_path / "w.safetensors", randomness.initial_parameters(nine, 0), nine, backend="numpy")
        found = nin("evaluate", "w.safetensors", "--dataset", "synthetic")
        assert found.status == 2
        assert "10 classes" in found.error


def _refused(nin, content, command: list[str], status: int, *fragments: str) -> None:
    before = content()
    plain, as_json = nin(*command), nin(*command, "--json")
    assert plain.status == as_json.status == status, plain.err
    assert plain.out == ""
    assert plain.error == as_json.error == as_json.json["error"]["message"]
    for fragment in fragments:
        assert fragment in plain.error
    assert content() == before


class TestRefused:
    @pytest.mark.parametrize(
        ("command", "fragments"),
        [
            (["predict"], ["Missing", "RUN|FILE"]),
            (["predict", "run"], ["Missing", "PICTURE"]),
            (["predict", "run", "none.png"], ["none.png: no such picture"]),
            (["predict", "run", "0.png", "tiny.yaml"], ["tiny.yaml: no picture", "PNG, JPEG"]),
            (["predict", "run", "run"], ["run: expected a picture file, got a folder"]),
            (["predict", "run", "0.png", "--top", "0"], ["--top: expected at least 1, got 0"]),
            (["predict", "run", "0.png", "--top", "all"], ["--top"]),
            (["predict", "nowhere", "0.png"], ["nowhere: no such run directory, and no such weights file"]),
            (["predict", ".", "0.png"], ["not a run directory", "run.json"]),
            (["predict", "0.png", "0.png"], ["0.png", "not a complete safetensors file", "nin_multi convert"]),
            (["predict", "/dev/null", "0.png"], ["/dev/null"]),
            (["predict", "run", "0.png", "--backend", "nunpy"], ["Did you mean 'numpy'?"]),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) and value[0] == "predict" else "",
    )
    def test_bad_input(self, nin, content, run, pictures, command: list[str], fragments: list[str]) -> None:
        _refused(nin, content, command, 2, *fragments)

    def test_what_cannot_start(self, nin, content, run, pictures) -> None:
        for more, fragment in ((["--device", "cuda:0"], "usable now: cpu"), (["--precision", "bf16"], "fp64")):
            _refused(nin, content, ["predict", "run", "0.png", *more], 3, fragment)

    def test_truncated_pictures(self, nin, content, run, pictures, tmp_path: Path) -> None:
        whole = (tmp_path / "1.png").read_bytes()
        (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
        _refused(nin, content, ["predict", "run", *pictures], 2, "1.png: damaged, or not wholly there")

    def test_files_of_other_frameworks_go_through_convert(self, nin, content, run, pictures, tmp_path: Path) -> None:
        save_file({"0.0.weight": np.zeros((2, 2), np.float32)}, tmp_path / "theirs.safetensors", {"format": "pt"})
        (tmp_path / "theirs.pt").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
        (tmp_path / "theirs.ckpt").write_bytes(b"\n\x10\n\x0eblock1.weight")
        for name in ("theirs.safetensors", "theirs.pt", "theirs.ckpt"):
            for command in (["predict", name, "0.png"], ["evaluate", name]):
                _refused(nin, content, command, 2, name, "nin_multi convert")

    @pytest.mark.parametrize("command", [["predict", "run", "0.png"], ["evaluate", "run"]], ids=lambda c: c[0])
    def test_weights_of_another_architecture_in_the_run(
        self, nin, content, run: Path, pictures, tmp_path: Path, command: list[str]
    ) -> None:
        layers = [{"type": "nin_block", "out_channels": 10, "kernel_size": 2, "mlp_channels": [10]}]
        text = json.dumps({"name": "other", "input": [1, 8, 8], "layers": [*layers, {"type": "flatten"}]})
        other = parse_architecture(text)
        save_weights(run / "weights.safetensors", randomness.initial_parameters(other, 0), other)
        fragments = (
            "run/weights.safetensors: parameters do not belong to architecture 'tiny'",
            "missing: block1.mlp2.weight, block1.mlp2.bias",
            "misshapen: block1.conv.weight (10, 1, 2, 2) for (10, 1, 3, 3)",
        )
        _refused(nin, content, command, 2, *fragments)
        save_weights(run / "weights.safetensors", {**_params_of(run), "odd": np.zeros(1)}, other)
        _refused(nin, content, command, 2, "unexpected: odd")

    def test_weights_that_are_no_numbers(self, nin, content, run: Path, pictures) -> None:
        """As a run leaves them that diverged."""
        stored = load_weights(run / "weights.safetensors")
        params = {name: np.full_like(value, np.nan) for name, value in stored.params.items()}
        save_weights(run / "weights.safetensors", params, stored.architecture)
        _refused(nin, content, ["predict", "run", "0.png"], 2, "run: what the net gives is no number", "diverged")
        found = nin("evaluate", "run", "--test-examples", "20", "--json")
        assert (found.status, found.json["loss"]) == (0, None)
        assert "loss nan" in nin("evaluate", "run", "--test-examples", "20").out


def _params_of(run: Path) -> dict[str, np.ndarray]:
    facts = json.loads((run / "run.json").read_text())
    return randomness.initial_parameters(parse_architecture(json.dumps(facts["architecture"])), 0)
