"""Which runs a comparison is made of, and what they are called."""

from __future__ import annotations

import pytest

from nin_multi.compare.sides import ids_of, labels_of, sides_of


def test_every_combination_once_backends_side_by_side() -> None:
    sides = sides_of(["torch", "mxnet"], ["nin", "alexnet"], ["fp32"], [0, 7], {"mxnet": "/elsewhere/python"})
    assert len(sides) == 8
    assert [(side.arch, side.seed, side.backend) for side in sides[:4]] == [
        *(("nin", 0, "torch"), ("nin", 0, "mxnet"), ("nin", 7, "torch"), ("nin", 7, "mxnet")),
    ]
    assert len({side.id for side in sides}) == len({side.label for side in sides}) == 8
    assert {side.python for side in sides if side.backend == "mxnet"} == {"/elsewhere/python"}
    assert {side.python for side in sides if side.backend == "torch"} == {None}


@pytest.mark.parametrize(
    ("facts", "labels"),
    [
        ([("torch", "nin", "fp32", 0)], ["torch"]),
        ([("torch", "nin", "fp32", 0), ("mxnet", "nin", "fp32", 0)], ["torch", "mxnet"]),
        ([("torch", "nin", "fp32", 0), ("torch", "nin", "bf16", 0)], ["torch fp32", "torch bf16"]),
        ([("torch", "nin", None, 0), ("torch", "vgg11", None, 1)], ["torch nin seed 0", "torch vgg11 seed 1"]),
        ([("torch", "nin", "fp32", 0)] * 3, ["torch", "torch (2)", "torch (3)"]),
    ],
)
def test_labels_say_what_differs_and_no_more(facts: list[tuple[object, ...]], labels: list[str]) -> None:
    keys = ("backend", "arch", "precision", "seed")
    assert labels_of([dict(zip(keys, fact, strict=True)) for fact in facts]) == labels


def test_ids_are_names_for_a_page() -> None:
    assert ids_of(["Torch <b>", "torch b", "***", "***"]) == ["torch-b", "torch-b-2", "run", "run-2"]
