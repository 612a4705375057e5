"""Units in a framework's own weights files: what a net that holds them saves is taken in, and the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_conformance import random_params

from nin_multi.architecture_file import parse_architecture
from nin_multi.backend import Backend
from nin_multi.foreign_weights import adopt, book_names

UNITS = parse_architecture("""
name: units
input: [2, 8, 6]
layers:
  - {type: sk_block, out_channels: 4, min_channels: 3}
  - {type: nin_block, out_channels: 4, kernel_size: 1}
  - {type: se_block, reduction: 2}
  - {type: maxout, pieces: 2}
  - {type: flatten}
  - {type: linear, out_features: 3}
""")
SELECTIVE = ("branch1", "branch2", "reduce", "select1", "select2")


def test_the_books_names_keep_what_is_inside_a_unit(backend: Backend) -> None:
    """Else two maps of a unit would have one name."""
    names = book_names(UNITS, relu_takes_an_index=backend.relu_takes_an_index)
    assert len(set(names.values())) == len(names) == len(UNITS.parameter_shapes())
    assert [names[f"sk1.{part}.weight"] for part in SELECTIVE] == [f"0.{part}.weight" for part in SELECTIVE]
    assert (names["se1.reduce.bias"], names["se1.expand.weight"]) == ("2.reduce.bias", "2.expand.weight")


@pytest.mark.parametrize("naming", ["book", "spec"])
def test_units_go_out_and_come_in(backend: Backend, naming: str, tmp_path: Path) -> None:
    if not backend.weights_suffixes:
        pytest.skip(f"{backend.name} has no weights files of its own")
    params, file = random_params(UNITS), tmp_path / f"net{backend.weights_suffixes[0]}"
    names = book_names(UNITS, relu_takes_an_index=backend.relu_takes_an_index)
    backend.write_weights(file, {names[name] if naming == "book" else name: value for name, value in params.items()})
    found = adopt(backend.read_weights(file), UNITS, str(file))
    assert list(found) == list(params)
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_frameworks_net_has_the_names_of_the_spec(backend: Backend) -> None:
    net = backend.build(UNITS, random_params(UNITS), device="cpu", precision=backend.precisions[0])
    assert list(net.params()) == list(UNITS.parameter_shapes())
