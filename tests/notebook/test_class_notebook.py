"""The lesson in docs/ runs from its first cell to its last, in Jupyter's own kernel, on a tiny setting."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

LESSON = Path(__file__).parents[2] / "docs" / "frameworks-in-class.ipynb"
BACKENDS = ["numpy", "torch"] if importlib.util.find_spec("torch") else ["numpy"]
TINY = """\
name: tiny
input: [1, 8, 8]
layers:
  - {type: nin_block, out_channels: 10, kernel_size: 3, stride: 2}
  - {type: dropout, rate: 0.5}
  - {type: global_avg_pool2d}
  - {type: flatten}
"""


def read() -> Any:
    return nbformat.read(LESSON, as_version=4)


def test_it_is_stored_without_outputs() -> None:
    lesson = read()
    nbformat.validate(lesson)
    cells = [cell for cell in lesson.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    tags = [cell.metadata.get("tags") for cell in cells]
    assert tags.count(["parameters"]) == 1
    assert lesson.metadata.keys() == {"kernelspec", "language_info"}, "nothing of the machine it was written on"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Source of each cell of code -> its outputs."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "tiny.yaml").write_text(TINY)
    setting = {"BACKENDS": ",".join(BACKENDS), "ARCH": "tiny.yaml", "DATASET": "synthetic", "BATCH_SIZE": "10"}
    setting |= {"EXAMPLES": "60", "TEST_EXAMPLES": "20"}
    lesson = read()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in setting.items():
            patch.setenv(f"NIN_MULTI_CLASS_{name}", value)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv("NIN_MULTI_DATA", raising=False)
        nbclient.NotebookClient(lesson, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell.source: cell.outputs for cell in lesson.cells if cell.cell_type == "code"}


def html_of(outputs: list[Any]) -> str:
    """The last that is shown."""
    return str(outputs[-1]["data"]["text/html"])


def below(done: dict[str, list[Any]], line: str) -> str:
    """What is shown below the one cell with a line like that."""
    (outputs,) = [outputs for source, outputs in done.items() if re.search(line, source, re.MULTILINE)]
    return html_of(outputs)


def test_no_cell_fails_or_warns(done: dict[str, list[Any]]) -> None:
    kinds = {output["output_type"] for outputs in done.values() for output in outputs}
    assert kinds <= {"display_data", "execute_result"}, done


def test_the_net_shows_its_layers(done: dict[str, list[Any]]) -> None:
    table = below(done, "^net =")
    assert "<table" in table
    assert table.count("<details>") == 1
    assert "320" in table  # 100 in the convolution, 110 in each of the two of 1 x 1


def test_the_run_shows_its_curve(done: dict[str, list[Any]]) -> None:
    for line in ("^run =", "^run$"):
        assert "data:image/svg+xml;base64," in below(done, line)


def test_the_comparison_shows_its_report(done: dict[str, list[Any]]) -> None:
    assert "data:image/svg+xml;base64," in below(done, "^compared =")
    frame = re.search(r'sandbox="allow-scripts".*srcdoc="([^"]*)"', below(done, "^compared$"))
    assert frame is not None
    page = html.unescape(frame[1])
    assert page.lstrip().lower().startswith("<!doctype html>")
    for name in BACKENDS:
        assert name in page
    (table,) = done["compared.table"]
    assert table["data"]["text/plain"].count("'status': 'done'") == len(BACKENDS)


def test_predictions_are_shown(done: dict[str, list[Any]]) -> None:
    assert "data:image/png;base64," in html_of(done["compared.predictions"])
