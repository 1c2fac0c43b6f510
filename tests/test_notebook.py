"""What a notebook shows, in a kernel of Jupyter's: bars of long work, explanations and figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

STEPS = 20
CELLS = {
    "begin": """
import sys, time, torch, aosa_fast
sys.path.insert(0, MAKERS)
from small_nets import make_net, make_video
net, flow = make_net(), torch.zeros(1, 3, 32, 40, 2)
def slow(video):
    time.sleep(seconds)
    return net(video)
def sweep(**options):
    aosa_fast.explain(slow, make_video(), 0, method="aosa", stride=8, partners=0, batch_size=1, flow=flow, **options)
""",
    "fast": "seconds = 0; sweep()",
    "loaded": "assert not {'rich.progress', 'rich.console', 'tqdm.auto'} & set(sys.modules)",
    "never": "seconds = 0.16; sweep(progress=False)",
    "slow": "seconds = 0.16; sweep()",
    "asked": "seconds = 0; sweep(progress=True)",
    "without widgets": """
for name in [name for name in sys.modules if "tqdm" in name]:
    del sys.modules[name]
sys.modules["ipywidgets"] = None
sweep(progress=True)
""",
    "without tqdm": "sys.modules['tqdm.auto'] = None; sweep(progress=True)",
    "rich": "assert 'rich.progress' in sys.modules",
    "explanation": "both = aosa_fast.explain(net, make_video(2), stride=16); both",
    "second": "both.show(clip=1)",
    "slower": "both.show(fps=2)",
    "comparison": "both.compare([])",
    "figure": "both.plot(2)",
    "no pyplot": "assert 'matplotlib.pyplot' not in sys.modules",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell gave, by its name; a cell that fails, fails all."""
    folder = str(tmp_path_factory.mktemp("jupyter"))
    makers = repr(str(Path(__file__).parent / "makers"))
    cells = [nbformat.v4.new_code_cell(source.replace("MAKERS", makers)) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, folder)
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def test_long_work_has_a_bar_of_the_notebooks_own(said: dict[str, list[Any]]) -> None:
    assert said["begin"] == said["fast"] == said["never"] == said["without tqdm"] == []
    for name in ("slow", "asked"):
        (bar,) = said[name]
        assert "application/vnd.jupyter.widget-view+json" in bar["data"]
        assert re.fullmatch(rf"aosa: .*\b\d+/{STEPS} .*", bar["data"]["text/plain"])
    text = "".join(output["text"] for output in said["without widgets"])
    assert text.splitlines()[-1].startswith("aosa: 100%")
    assert "Warning" not in text


def test_explanations_comparisons_and_figures_show_themselves(said: dict[str, list[Any]]) -> None:
    names = ("explanation", "second", "slower", "comparison", "figure")
    both, second, slower, comparison, figure = (output["data"] for name in names for output in said[name])
    assert both["text/plain"] == second["text/plain"]
    assert both["text/plain"].startswith("<Explanation by aosa-approx of ")
    assert both["text/html"].count("<video") == 2
    assert both["text/html"].endswith(second["text/html"])
    assert second["text/html"].count("<video") == slower["text/html"].count("<video") == 1
    assert not both["text/html"].startswith(slower["text/html"])
    assert comparison["text/html"].startswith("<img ")
    assert "image/png" in figure
