"""The notebooks run from the first cell to the last, and are stored without what they print."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import jupytext
import nbclient
import pytest
from documents import DOCS, ROOT

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in NOTEBOOKS])
def test_a_notebook_runs_and_shows_pictures(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = jupytext.read(path)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()  # raises the error of a cell
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    shown = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not [output.text for output in shown if output.output_type == "stream" and output.name == "stderr"]


def test_a_cell_that_fails_is_noticed(tmp_path: Path) -> None:
    notebook = jupytext.reads("# %%\nassert 1 == 2\n", fmt="py:percent")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="AssertionError"):
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()


def test_the_page_shows_all_notebooks_in_short_lines_and_the_index_leads_there() -> None:
    page = (DOCS / "notebooks" / "index.md").read_text("utf-8")
    assert len(NOTEBOOKS) >= 3
    assert sorted(re.findall(r"literalinclude} (\w+\.py)", page)) == [path.name for path in NOTEBOOKS]
    assert all(page.count(f"`{path.name}`") == 1 for path in NOTEBOOKS)
    assert "notebooks/index" in (DOCS / "index.md").read_text("utf-8")
    wide = [line for path in NOTEBOOKS for line in path.read_text("utf-8").splitlines() if len(line) > 88]
    assert wide == []


def test_what_notebooks_print_is_not_stored() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert tracked.stdout.split() == []
