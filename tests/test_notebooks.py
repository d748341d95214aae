"""Every notebook runs from its first cell to its last, on a short run."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
  monkeypatch.setenv("SSL_JAX_STEPS", "8")
  monkeypatch.setenv("SSL_JAX_WORKDIR", str(tmp_path / "run"))
  monkeypatch.setenv("XLA_FLAGS", "")
  notebook = nbformat.read(path, as_version=4)
  done = NotebookClient(
      notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
  pictures = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs
              if "image/png" in output.get("data", {})]
  assert len(pictures) == 2
