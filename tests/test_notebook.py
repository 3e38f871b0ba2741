"""The notebook runs from top to bottom in a real kernel, with a small budget."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "compare_backends.ipynb"
SMALL_BUDGET = "TRIALS = 3\nSEEDS = 1\nREPLICATES = 2"


def outputs_of(notebook: Any, kind: str) -> list[Any]:
    return [
        output["data"][kind]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


def test_the_notebook_is_committed_with_the_outputs_of_a_fuller_run() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]

    assert all(cell.outputs for cell in notebook.cells[3:] if cell.cell_type == "code")
    assert "3 optimizers on 1 experiment with 5 seeds" in outputs_of(notebook, "text/plain")[1]
    assert len(outputs_of(notebook, "image/png")) == 3
    assert not any(
        output.get("name") == "stderr"
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


# The kernel's own machinery warns of its event loop policy and leaves sockets to the collector.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    budget = notebook.cells[1]
    assert re.fullmatch(r"TRIALS = \d+\nSEEDS = \d+\nREPLICATES = \d+", budget.source)
    budget.source = SMALL_BUDGET

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()

    space, table, confirmation = outputs_of(notebook, "text/html")
    assert all(name in space for name in ("scaling", "model", "epsilon", "leaf"))
    assert all(name in table for name in ("TPE", "GP", "SMAC", "No difference shown"))
    assert "pairs of replicates on fresh seeds" in confirmation
    assert len(outputs_of(notebook, "image/png")) == 3
    assert list(tmp_path.iterdir()) == []
