"""The notebooks of docs/notebooks run offline, and are committed without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 600
"""For one cell: the first one of a fresh checkout compiles kernels."""

pytest.importorskip("nbclient", reason="notebooks run with nbclient, in intramodal[dev]")
pytest.importorskip("open_clip", reason="the study encodes, with intramodal[encoders]")


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_two_notebooks_and_the_docs_link_them() -> None:
    page = (FOLDER.parent / "python.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 2
    assert all(f"(notebooks/{path.name})" in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    cells = code_cells(path)
    assert cells
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the libraries that run a kernel
def test_a_notebook_runs_and_shows_its_pictures(path: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path}},
    ).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    plots = [cell for cell in notebook.cells if cell.source.rstrip().endswith(".plot()")]
    assert plots
    assert all("image/svg+xml" in cell.outputs[-1].data for cell in plots)
    texts = [o.get("data", {}).get("text/plain", o.get("text", "")) for o in outputs]
    assert all(len(text) < 3000 for text in texts)
    assert list(tmp_path.iterdir()) == []
