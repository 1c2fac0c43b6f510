"""The site is built with warnings as errors, by itself: nothing is loaded from elsewhere, and nothing is left out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import aosa_fast

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "first_map.ipynb"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


def test_equations_are_mathml(site: Path):
    text = page(site, "method.html")
    assert text.count("<math") > 100
    assert "arithmatex" not in text
    assert not re.search(r"\$[^<$]{1,80}\$", text)


def test_every_public_name_is_in_the_reference(site: Path):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    anchors = set(re.findall(r'id="(aosa_fast\.[\w.]+)"', text))
    packages = [name for name in aosa_fast.__all__ if inspect.ismodule(getattr(aosa_fast, name))]
    wanted = {f"aosa_fast.{name}" for name in aosa_fast.__all__ if name not in (*packages, "__version__")}
    for package in packages:
        wanted |= {f"aosa_fast.{package}.{name}" for name in getattr(aosa_fast, package).__all__}
    assert wanted <= anchors
    assert "partners_rule" in page(site, "reference/explain.html")


def test_the_notebook_shows_its_map(site: Path):
    assert re.search(r'<video[^>]* src="data:video/', page(site, "first_map.html"))


def test_the_notebook_runs_and_is_kept_without_outputs(tmp_path: Path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == 5
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, timeout=120).execute()
    assert "<video" in cells[2].outputs[0].data["text/html"]
