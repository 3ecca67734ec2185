"""Notebooks run from top to bottom, and are committed as they ran: complete and small."""

from __future__ import annotations

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_000_000
MAX_SECONDS = 600  # a cell

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with the outputs that a notebook holds."""
    found = []
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append(f"not run once from top to bottom: execution counts {counts}")
    outputs = [output for cell in cells for output in cell.outputs]
    if not outputs:
        found.append("no outputs")
    for output in outputs:
        if output.output_type == "error":
            found.append(f"an error among the outputs: {output.ename}")
        if output.output_type == "stream" and output.name == "stderr":
            found.append(f"warnings among the outputs: {output.text[:80]!r}")
    if any(place in nbformat.writes(notebook) for place in ("/home/", "/root/", "/Users/")):
        found.append("a path of the machine it ran on")
    return found


@pytest.mark.slow
def test_there_is_a_notebook():
    assert NOTEBOOKS


@every_notebook
def test_what_is_committed_is_whole_and_small(path):
    assert path.stat().st_size <= MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook) == []


def execute(path: Path, tmp_path: Path) -> nbformat.NotebookNode:
    """Runs a notebook in an empty directory, as a user would: with one device."""
    notebook = nbformat.read(path, as_version=4)
    settings = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    client = nbclient.NotebookClient(
        notebook,
        timeout=MAX_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=settings)
    return notebook


@pytest.mark.slow
@every_notebook
def test_it_runs(path, tmp_path):
    assert problems(execute(path, tmp_path)) == []


def written(tmp_path: Path, *sources: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


@pytest.mark.slow
def test_execution_sees_errors_and_uses_the_package_with_one_device(tmp_path):
    good = "import jax, irl_jax\nprint(len(jax.devices()))"
    ran = execute(written(tmp_path, good), tmp_path)
    assert problems(ran) == []
    assert ran.cells[0].outputs[0].text == "1\n"
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        execute(written(tmp_path, good, "1 / 0"), tmp_path)


def test_bad_outputs_are_seen():
    cell = nbformat.v4.new_code_cell("f()", execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert problems(notebook) == ["no outputs"]
    cell.outputs = [nbformat.v4.new_output("stream", text="fine")]
    assert problems(notebook) == []
    cell.outputs = [nbformat.v4.new_output("stream", text="in /home/me/x.py")]
    assert problems(notebook) == ["a path of the machine it ran on"]
    cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text="careful")]
    assert problems(notebook) == ["warnings among the outputs: 'careful'"]
    cell.outputs = [nbformat.v4.new_output("error", ename="KeyError", evalue="", traceback=[])]
    assert problems(notebook) == ["an error among the outputs: KeyError"]
    cell.execution_count = 7
    assert "execution counts [7]" in problems(notebook)[0]
