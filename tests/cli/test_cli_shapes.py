"""`shapes` and `summary`: the table of the book, for people and as JSON."""

from __future__ import annotations

import re

import pytest

from nin_multi import load
from nin_multi.checks import expected_shapes
from nin_multi.cli.shapes import _compare as compare_shapes

# The book's printout of nin_net.layer_summary((1, 1, 224, 224)).
BOOK = [
    ("block1", [1, 96, 54, 54]),
    ("pool1", [1, 96, 26, 26]),
    ("block2", [1, 256, 26, 26]),
    ("pool2", [1, 256, 12, 12]),
    ("block3", [1, 384, 12, 12]),
    ("pool3", [1, 384, 5, 5]),
    ("dropout1", [1, 384, 5, 5]),
    ("block4", [1, 10, 5, 5]),
    ("global_avg_pool1", [1, 10, 1, 1]),
    ("flatten1", [1, 10]),
]
TYPES = ["nin_block", "max_pool2d"] * 3 + ["dropout", "nin_block", "global_avg_pool2d", "flatten"]
# (in, out, kernel area, positions) of each convolution, by hand from the book's network.
CONVOLUTIONS = [
    *[(1, 96, 121, 54**2), (96, 96, 1, 54**2), (96, 96, 1, 54**2)],
    *[(96, 256, 25, 26**2), (256, 256, 1, 26**2), (256, 256, 1, 26**2)],
    *[(256, 384, 9, 12**2), (384, 384, 1, 12**2), (384, 384, 1, 12**2)],
    *[(384, 10, 9, 25), (10, 10, 1, 25), (10, 10, 1, 25)],
]


def _rows(text: str) -> list[tuple[str, list[int]]]:
    """First column, and the first cell with sizes in it, of each row of a printed table."""
    rows = re.findall(r"^\W*([a-z_]+\d[a-z_0-9.]*)\s.*?\s(\d+(?: ?x ?\d+)+)\s", text, re.M)
    return [(name, [int(size) for size in sizes.split("x")]) for name, sizes in rows]


class TestShapes:
    def test_json(self, nin) -> None:
        found = nin("shapes", "--backend", "numpy", "--json")
        assert found.status == 0
        table = found.json
        assert table.keys() >= {"arch", "input", "layers", "agree"}
        assert (table["arch"], table["input"], table["agree"]) == ("nin", [1, 1, 224, 224], True)
        assert all(row.keys() >= {"name", "type", "expected", "observed"} for row in table["layers"])
        assert [(row["name"], row["expected"]) for row in table["layers"]] == BOOK
        assert [row["type"] for row in table["layers"]] == TYPES
        assert [row["observed"] for row in table["layers"]] == [{"numpy": shape} for _, shape in BOOK]

    def test_for_people(self, nin) -> None:
        found = nin("shapes", "--backend", "numpy")
        assert (found.status, found.err) == (0, "")
        assert _rows(found.out) == BOOK
        assert found.out.count("same") == 10
        assert "All layers agree: spec, numpy." in found.out

    def test_another_input(self, nin) -> None:
        table = nin("shapes", "--backend", "numpy", "--input", "1x161x193", "--json").json
        sizes = [(38, 46), (18, 22), (18, 22), (8, 10), (8, 10), (3, 4), (3, 4), (3, 4), (1, 1)]
        assert table["input"] == [1, 1, 161, 193]
        assert [tuple(row["expected"][2:]) for row in table["layers"]] == [*sizes, ()]
        assert table["agree"] is True

    def test_expand_opens_the_blocks(self, nin, tiny: str) -> None:
        table = nin("shapes", "--backend", "numpy", "--arch", tiny, "--expand", "--json").json
        inside = ["conv", "relu", "mlp1", "relu1", "mlp2", "relu2"]
        names = [*(f"block1.{part}" for part in inside), "block1", "dropout1", "global_avg_pool1", "flatten1"]
        assert [row["name"] for row in table["layers"]] == names
        assert [row["expected"] for row in table["layers"]] == [[1, 10, 3, 3]] * 8 + [[1, 10, 1, 1], [1, 10]]

    def test_a_net_with_another_shape(self, nin, others, tiny: str) -> None:
        """A layer inside a block that disagrees is shown though nobody asked for the insides."""
        found = nin("shapes", "--backend", "wrong", "--arch", tiny, "--json", inside="wrong")
        assert found.status == 1
        assert found.json["agree"] is False
        wrong = [row for row in found.json["layers"] if row["observed"]["wrong"] != row["expected"]]
        assert [(row["name"], row["observed"]["wrong"]) for row in wrong] == [("block1.mlp1", [1, 10, 2, 3])]
        found = nin("shapes", "--backend", "wrong", "--arch", tiny, inside="wrong")
        assert found.status == 1
        assert re.search(r"block1\.mlp1 .*1 ?x ?10 ?x ?3 ?x ?3 .*1 ?x ?10 ?x ?2 ?x ?3", found.out)
        assert "DISAGREE" in found.out

    def test_several_backends_in_processes_of_their_own(self, nin, others, tiny: str) -> None:
        found = nin("shapes", "--backend", "numpy,wrong", "--arch", tiny, "--json")
        assert found.status == 1
        assert {name for row in found.json["layers"] for name in row["observed"]} == {"numpy", "wrong"}

    @pytest.mark.parametrize(("name", "reason"), [("missing", "is not installed"), ("crashing", "SIGABRT")])
    def test_a_named_backend_that_cannot_start(self, nin, others, tiny: str, name: str, reason: str) -> None:
        found = nin("shapes", "--backend", f"numpy,{name}", "--arch", tiny, "--json")
        assert found.status == 3
        assert found.error.startswith(f"{name}: ")
        assert reason in found.error
        error = found.json["error"]
        assert (error["type"], error["message"], error["exit_status"]) == ("BackendUnavailable", found.error, 3)


class TestSummary:
    def test_json(self, nin) -> None:
        found = nin("summary", "--json")
        assert (found.status, found.err) == (0, "")
        table = found.json
        assert table.keys() >= {"arch", "parameters", "multiply_adds", "layers"}
        assert table["arch"] == "nin"
        assert table["parameters"] == sum(i * o * k + o for i, o, k, _ in CONVOLUTIONS) == 1_992_166
        assert table["multiply_adds"] == sum(i * o * k * n for i, o, k, n in CONVOLUTIONS) == 762_297_352
        rows = table["layers"]
        assert all(row.keys() >= {"name", "type", "output", "parameters", "multiply_adds"} for row in rows)
        assert [(row["name"], row["output"]) for row in rows] == BOOK
        for key in ("parameters", "multiply_adds"):
            assert sum(row[key] for row in rows) == table[key]
            assert [bool(row[key]) for row in rows] == [kind == "nin_block" for kind in TYPES]

    def test_memory(self, nin, tiny: str) -> None:
        table = nin("summary", "--arch", tiny, "--batch-size", "5", "--json").json
        numbers = 6 * 90 + 90 + 10 + 10  # six layers in the block, dropout, pooling, flatten
        assert table["parameters"] == 90 + 10 + 2 * 110
        assert table["activation_bytes"] == 4 * numbers
        assert table["training_bytes"] == 4 * (2 * 320 + 5 * numbers)

    def test_expand_does_not_count_twice(self, nin, tiny: str) -> None:
        closed, opened = (nin("summary", "--arch", tiny, "--json", *more).json for more in ([], ["--expand"]))
        assert len(opened["layers"]) == len(closed["layers"]) + 6
        assert {key: opened[key] for key in opened if key != "layers"} == {
            key: closed[key] for key in closed if key != "layers"
        }

    def test_for_people(self, nin) -> None:
        found = nin("summary")
        assert (found.status, found.err) == (0, "")
        assert _rows(found.out) == BOOK
        (total,) = [line for line in found.out.splitlines() if re.match(r"\W*all\b", line)]
        assert "1,992,166" in total
        assert "762,297,352" in total


def test_a_layer_that_the_spec_does_not_have_is_a_disagreement() -> None:
    architecture = load("nin-mnist")
    right = {name: list(shape) for name, shape in expected_shapes(architecture).items()}
    assert compare_shapes(architecture, {"numpy": right}, False)["agree"] is True
    found = compare_shapes(architecture, {"numpy": {**right, "odd": [1, 2]}}, False)
    assert found["agree"] is False
    assert found["layers"][-1] == {"name": "odd", "type": "unexpected", "expected": None, "observed": {"numpy": [1, 2]}}
