"""The notebook runs from its first cell to its last, and shows what it promises."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "load_shards.ipynb"


def texts(notebook: nbformat.NotebookNode) -> str:
    """Return what all cells print."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def images(notebook: nbformat.NotebookNode) -> int:
    """Return how many images the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/jpeg" in output.get("data", {}) for output in outputs)


def check(notebook: nbformat.NotebookNode) -> None:
    """Check what a notebook that was executed shows."""
    said = texts(notebook)
    assert images(notebook) == 3
    assert "torch.uint8    (8, 3, 128, 128)" in said
    assert "torch.float32  (8, 16, 3)" in said
    assert "48 train, 12 val samples in 2 shards" in said
    assert "6 batches, of which 4 follow the cursor" in said
    assert "the same images in the same order: True" in said
    millimetres = {name: int(number) for name, number in re.findall(r"(train|val) +(\d+) mm", said)}
    assert millimetres["train"] < 120 < millimetres["val"]  # learned by heart, which helps with others little


@pytest.mark.slow
@pytest.mark.network  # a kernel is spoken to over sockets
@pytest.mark.timeout(900)
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel's folder is another
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    check(notebook)


def test_its_stored_outputs_are_those_of_its_code():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    check(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert NOTEBOOK.stat().st_size < 400_000
    assert not re.search(r"/tmp|/home|it/s|\x1b", texts(notebook))
